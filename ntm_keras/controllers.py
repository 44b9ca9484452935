"""The controller: the ordinary network at the centre of the machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ntm_keras import validation
from ntm_keras.keras_compat import (
    IS_KERAS_2,
    AbstractRNNCell,
    Tensor,
    keras,
    name_scope,
    ops,
    serializable,
    static_shape,
)


def never_quantized(layer: Any) -> Any:
    """Makes `model.quantize` skip a layer inside a cell, as it skips an LSTM's weights.

    A cell's config does not say that a layer was quantized, so the saved cell could not be loaded.
    Keras 2 has no `quantize`.
    """
    if IS_KERAS_2:
        return layer

    def quantize(*args, **kwargs):
        raise NotImplementedError(f"{layer.name!r} is a part of a cell: cells are not quantized.")

    layer.quantize = quantize
    return layer


@serializable
class FeedforwardCell(AbstractRNNCell):
    """A controller without a state of its own: dense layers with tanh.

    Args:
        units: Width of every layer, the output included.
        layers: Number of layers.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Call arguments:
        inputs: `(batch, features)`.
        states: An empty list.

    Raises:
        ValueError: `units` or `layers` is not a positive integer.
    """

    def __init__(self, units: int, layers: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = validation.integer("units", units, at_least=1)
        layers = validation.integer("layers", layers, at_least=1)
        self.layers = [
            keras.layers.Dense(
                units, activation="tanh", name=f"layer_{index}", dtype=self.dtype_policy
            )
            for index in range(layers)
        ]

    @property
    def state_size(self) -> list[int]:
        return []

    @property
    def output_size(self) -> int:
        return self.units

    def build(self, input_shape):
        width = input_shape[-1]
        for layer in self.layers:
            with name_scope(layer.name):
                layer.build((None, width))
            width = self.units
        super().build(input_shape)

    def call(self, inputs, states):
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs, []

    def get_config(self):
        return {**super().get_config(), "units": self.units, "layers": len(self.layers)}


@serializable
class CountingLSTMCell(AbstractRNNCell):
    """An LSTM that can count: the sum in its carry neither leaks nor saturates.

    The gates are hard sigmoids, which reach 0 and 1, and the candidate is not squashed:

    ```
    i, f, o = hard_sigmoid(W [x_t, h_{t-1}] + b)        x / 6 + 1/2, between 0 and 1
    c~      = W [x_t, h_{t-1}] + b
    c_t     = f c_{t-1} + i c~
    h_t     = o tanh(c_t)
    ```

    Weights have the names, shapes, order (i, f, c~, o) and initializers of Keras's `LSTMCell`.

    Args:
        units: Width of the output.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Call arguments:
        inputs: x_t, `(batch, features)`.
        states: h_{t-1} and c_{t-1}, each `(batch, units)`.

    Raises:
        ValueError: `units` is not a positive integer.

    Reference:
        Weiss, Goldberg, Yahav, [On the Practical Computational Power of Finite Precision RNNs for
        Language Recognition](https://arxiv.org/abs/1805.04908), 2018: which networks count.
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = validation.integer("units", units, at_least=1)

    @property
    def state_size(self) -> list[int]:
        return [self.units, self.units]

    @property
    def output_size(self) -> int:
        return self.units

    def build(self, input_shape):
        def weight(name, *shape, initializer):
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        self.kernel = weight(
            "kernel", input_shape[-1], 4 * self.units, initializer="glorot_uniform"
        )
        self.recurrent_kernel = weight(
            "recurrent_kernel", self.units, 4 * self.units, initializer="orthogonal"
        )
        self.bias = weight("bias", 4 * self.units, initializer=_unit_forget_bias)
        super().build(input_shape)

    def call(self, inputs, states):
        output, carry = states
        i, f, candidate, o = ops.split(
            ops.matmul(inputs, self.kernel)
            + ops.matmul(output, self.recurrent_kernel)
            + ops.convert_to_tensor(self.bias),
            4,
            axis=-1,
        )
        i, f, o = (ops.clip(gate / 6 + 0.5, 0, 1) for gate in (i, f, o))
        carry = f * carry + i * candidate
        output = o * ops.tanh(carry)
        return output, [output, carry]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def _unit_forget_bias(shape: Any, dtype: Any = None) -> Tensor:
    """A bias of 1 for the forget gate and 0 for the others."""
    return ops.cast(np.repeat([0.0, 1.0, 0.0, 0.0], shape[0] // 4), dtype or "float32")


CONTROLLERS: dict[str, Any] = {
    "lstm": keras.layers.LSTMCell,
    "counting_lstm": CountingLSTMCell,
    "feedforward": FeedforwardCell,
    "rnn": keras.layers.SimpleRNNCell,
}


def make_controller(controller: Any, units: int, layers: int, dtype: Any) -> Any:
    """The controller cell for the arguments `controller` and `controller_layers` of a cell.

    Args:
        controller: One of `CONTROLLERS`, a Keras RNN cell or a serialized one.
        units: Width of the controller's output.
        layers: How many layers of a named controller to stack.
        dtype: The dtype or dtype policy of a named controller.

    Returns:
        A Keras RNN cell.

    Raises:
        ValueError: The name is unknown, or `controller` is not a cell, or does not fit.
    """
    if isinstance(controller, dict):
        controller = keras.layers.deserialize(controller)
    if isinstance(controller, str):
        if controller not in CONTROLLERS:
            raise ValueError(
                "Argument `controller` must be one of "
                f"{', '.join(map(repr, CONTROLLERS))} or a Keras RNN cell. "
                f"Received: controller={controller!r}"
            )
        return _named_controller(controller, units, layers, dtype)
    _check_cell(controller, units, layers)
    return controller


def _named_controller(name: str, units: int, layers: int, dtype: Any) -> Any:
    if name == "feedforward":
        return FeedforwardCell(units, layers, name="controller", dtype=dtype)
    cell_class = CONTROLLERS[name]
    if layers == 1:
        return cell_class(units, name="controller", dtype=dtype)
    cells = [cell_class(units, name=f"layer_{index}", dtype=dtype) for index in range(layers)]
    return keras.layers.StackedRNNCells(cells, name="controller", dtype=dtype)


def _check_cell(cell: Any, units: int, layers: int) -> None:
    is_cell = isinstance(cell, keras.layers.Layer) and hasattr(cell, "state_size")
    if not is_cell or isinstance(cell, keras.layers.RNN):
        raise ValueError(
            "Argument `controller` must be a Keras RNN cell, with `call` and `state_size`. "
            f"Received: controller={cell!r}"
        )
    if not all(tf.TensorShape(size).rank in (0, 1) for size in tf.nest.flatten(cell.state_size)):
        raise ValueError(
            "Argument `controller` must be a cell whose states are vectors. "
            f"Received: a cell with state_size={cell.state_size}"
        )
    if layers != 1:
        raise ValueError(
            "Argument `controller_layers` stacks named controllers only; stack given cells with "
            f"keras.layers.StackedRNNCells. Received: controller_layers={layers}"
        )
    output_size = getattr(cell, "output_size", None)
    if output_size is None:
        output_size = next(iter(state_sizes(cell)), None)
    if output_size != units:
        raise ValueError(
            "Argument `controller` must be a cell whose output is `rnn_size` wide. "
            f"Received: a cell with output_size={output_size}, rnn_size={units}"
        )


def state_sizes(cell: Any) -> list[int]:
    """The sizes of a controller's states. A cell may also give them as shapes."""
    return [tf.TensorShape(size).num_elements() for size in tf.nest.flatten(cell.state_size)]


def initial_state(cell: Any, dtype: Any) -> list[Tensor]:
    """A controller's own state before the first step of one sequence: `(size,)` for each state."""
    if not hasattr(cell, "get_initial_state"):
        return [ops.zeros([size], dtype) for size in state_sizes(cell)]
    others = {"inputs": None, "dtype": cell.compute_dtype} if IS_KERAS_2 else {}
    states = cell.get_initial_state(batch_size=1, **others)
    return [ops.cast(state[0], dtype) for state in tf.nest.flatten(states)]


def build(cell: Any, width: int) -> None:
    """Builds a controller for inputs of this width.

    Raises:
        ValueError: It was built for another width.
    """
    if not cell.built:
        cell.build((None, width))
    for layer in cell._flatten_layers():
        never_quantized(layer)
    built_for = (cell.get_build_config() or {}).get("input_shape")
    if built_for and built_for[-1] not in (width, None):
        raise ValueError(
            "Argument `controller` must not have been built for inputs of another width than"
            f" {width}, which is the width of the machine's inputs and read vectors. Received: a"
            f" cell built for {built_for[-1]}"
        )


def run_controller(
    cell: Any, units: int, inputs: Tensor, flat_states: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Runs one step of a controller; its states are given and returned as a flat list.

    Args:
        cell: A cell from `make_controller`; it may compute in another dtype.
        units: Width of the cell's output.
        inputs: `(batch, features)`.
        flat_states: One `(batch, size)` tensor for each number in `cell.state_size`.

    Returns:
        The output, `(batch, units)`, and the list of the new states, in the dtype of the inputs.

    Raises:
        ValueError: The cell's output or states do not have the sizes that the cell declares.
    """
    state_size = cell.state_size if tf.nest.is_nested(cell.state_size) else [cell.state_size]
    own_inputs, *own_states = (
        ops.cast(each, cell.compute_dtype) for each in (inputs, *flat_states)
    )
    output, new_states = cell(own_inputs, tf.nest.pack_sequence_as(state_size, own_states))
    new_states = tf.nest.flatten(new_states)
    wanted = [(None, size) for size in (units, *state_sizes(cell))]
    shapes = [static_shape(each) for each in (output, *new_states)]
    if len(shapes) != len(wanted) or not all(
        map(tf.TensorShape.is_compatible_with, shapes, wanted)
    ):
        raise ValueError(
            "The controller's `call` must return its output and its states, of the widths"
            f" {[size for _, size in wanted]}. Received: {shapes} from {cell!r}"
        )
    return ops.cast(output, inputs.dtype), [ops.cast(state, inputs.dtype) for state in new_states]


def reset_dropout(cell: Any) -> None:
    """Makes a cell draw new dropout masks. Keras's RNN layers do this only for their own cell."""
    for inner in _with_masks(cell):
        inner.reset_dropout_mask()
        inner.reset_recurrent_dropout_mask()


def has_dropout(cell: Any) -> bool:
    """Whether a cell keeps dropout masks for a whole sequence."""
    return any(inner.dropout or inner.recurrent_dropout for inner in _with_masks(cell))


def _with_masks(cell: Any) -> list[Any]:
    """The cell, or all within it: of stacked cells, of a machine with its own controller."""
    if hasattr(cell, "reset_dropout_mask"):
        return [cell]
    within = [*getattr(cell, "cells", ()), getattr(cell, "controller", None)]
    return [inner for each in within if each is not None for inner in _with_masks(each)]
