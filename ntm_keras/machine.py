"""The base class of cells with a memory, and the layer around such a cell.

`NTMCell` and `MANNCell` are such cells. To write another machine, derive its cell from `MemoryCell`
or from one of these two, and put the cell in a `MemoryLayer`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypedDict, TypeVar

import numpy as np
import tensorflow as tf

from ntm_keras import controllers, fast, validation
from ntm_keras.initial_state import copy_of
from ntm_keras.keras_compat import (
    IS_KERAS_2,
    LOOP_NEEDS_OUTPUT_AS_FIRST_STATE,
    AbstractRNNCell,
    Tensor,
    dtype_name,
    for_each,
    keras,
    known_size,
    masked_loop,
    name_scope,
    ops,
    serializable,
    static_shape,
)

_Class = TypeVar("_Class", bound=type)


class CellOptions(TypedDict, total=False):
    """The keyword arguments that every cell takes; `MemoryCell` describes them."""

    controller: Any
    controller_layers: int
    kernel_initializer: Any
    bias_initializer: Any
    kernel_regularizer: Any
    bias_regularizer: Any
    kernel_constraint: Any
    bias_constraint: Any
    name: str | None
    dtype: Any
    trainable: bool


class LayerOptions(CellOptions, total=False):
    """The keyword arguments that every layer takes: its cell's and those for Keras's `RNN`."""

    zero_output_for_mask: bool
    activity_regularizer: Any


class MemoryCell(AbstractRNNCell):
    """A controller, heads and a memory: one step of a machine, for `MemoryLayer`.

    A subclass defines what its heads do:

    * `State`, a NamedTuple: the field `controller_state`, a list of tensors, then a tensor for each
      of `state_shapes`, in the same order;
    * `state_shapes`, a property: a dict from name to shape, for each tensor of one sequence's state
      except the controller's. One of them is `read_vectors`, `(heads, memory_vector_dim)`;
    * `parameter_count`, a property: how many numbers the controller emits for all heads in a step;
    * `output_size`, a property: the width of the output;
    * `initial_state(dtype)`: the `State` of one sequence before its first step, without a batch
      axis;
    * `step(inputs, state)`: one step. It returns a NamedTuple with the fields `outputs` and
      `state`, the new state. `tracing.trace` keeps all its fields.

    Args:
        rnn_size: Width of the controller.
        memory_size: Number of memory locations.
        memory_vector_dim: Width of each location.
        controller: One of `controllers.CONTROLLERS`: `"lstm"`, `"counting_lstm"`, `"feedforward"`
            (tanh) and `"rnn"` (tanh); or a Keras RNN cell whose output is `rnn_size` wide. With
            dropout it needs the cell's own layer: `keras.layers.RNN` may keep the dropout masks.
        controller_layers: Number of layers of a named controller.
        kernel_initializer: Initializer of the projections' kernels.
        bias_initializer: Initializer of the projections' biases.
        kernel_regularizer: Regularizer of the projections' kernels.
        bias_regularizer: Regularizer of the projections' biases.
        kernel_constraint: Constraint on the projections' kernels.
        bias_constraint: Constraint on the projections' biases.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Raises:
        TypeError: A subclass does not define one of the above.
        ValueError: An argument is out of its range, or two do not fit each other.
    """

    State: ClassVar[Any] = None

    # The name of this class's fast loop, see `fast.loop_for`. Subclasses do not inherit the loop.
    fast_loop: ClassVar[str | None] = None

    def __init__(
        self,
        rnn_size: int,
        memory_size: int,
        memory_vector_dim: int,
        *,
        controller: Any = "lstm",
        controller_layers: int = 1,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        _check_is_complete(type(self))
        super().__init__(**kwargs)
        self._input_width: int | None = None
        self.rnn_size = validation.integer("rnn_size", rnn_size, at_least=1)
        self.memory_size = validation.integer("memory_size", memory_size, at_least=1)
        self.memory_vector_dim = validation.integer(
            "memory_vector_dim", memory_vector_dim, at_least=1
        )
        self.controller_layers = validation.integer(
            "controller_layers", controller_layers, at_least=1
        )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.controller_name = controller if isinstance(controller, str) else None
        self.controller = controllers.make_controller(
            controller, self.rnn_size, self.controller_layers, self.dtype_policy
        )

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of one sequence's state, except the controller's, in the order of `State`."""
        raise NotImplementedError

    @property
    def parameter_count(self) -> int:
        """How many numbers the controller emits for all heads in a step."""
        raise NotImplementedError

    @property
    def output_size(self) -> int:
        """The width of the output."""
        raise NotImplementedError

    def initial_state(self, dtype: Any) -> Any:
        """The `State` of one sequence before its first step, without a batch axis."""
        raise NotImplementedError

    def step(self, inputs: Tensor, state: Any) -> Any:
        """One step: a NamedTuple with `outputs` and the new `state` among its fields."""
        raise NotImplementedError

    def as_trace(self, steps: Any) -> Any:
        """The trace that `tracing.trace` returns.

        Args:
            steps: What `step` returned, with a time axis after the batch axis in every tensor.

        Returns:
            By default `steps`. Of its fields, `pictures` draws `read_weightings`,
            `write_weightings`, `read_vectors` and `add_vector`, and `animation` `memory` too.
        """
        return steps

    @property
    def parameter_bias_initializer(self) -> Any:
        """Initializer of the biases of the numbers that the controller emits for all heads."""
        return copy_of(self.bias_initializer)

    @property
    def controller_state_size(self) -> list[int]:
        """The sizes of the controller's own states."""
        return controllers.state_sizes(self.controller)

    @property
    def state_size(self) -> list[int]:
        """The sizes of the flat states: the controller's, then one for each of `state_shapes`."""
        return [*self.controller_state_size, *map(math.prod, self.state_shapes.values())]

    @property
    def read_width(self) -> int:
        """How many numbers all read heads read in a step."""
        return math.prod(self.state_shapes["read_vectors"])

    def build(self, input_shape):
        self.build_controller(input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: self._input_width})
        self.parameter_projection = self.projection(
            "parameter_projection",
            self.parameter_count,
            self.rnn_size,
            self.parameter_bias_initializer,
        )
        self.built = True

    def build_controller(self, input_shape: Sequence[int | None]) -> None:
        """Builds the controller for inputs of this shape, unless it is built."""
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                f"The input of {type(self).__name__} must have the shape (batch, features), and"
                " the input of a layer around it (batch, time, features), with a known number of"
                f" features. Received: {tuple(input_shape)} for a step"
            )
        self.check_state_shapes()
        self.expect(input_shape[-1])
        for name in ("parameter_count", "output_size"):
            validation.integer(f"{type(self).__name__}.{name}", getattr(self, name), at_least=1)
        with name_scope("controller"):
            controllers.build(self.controller, int(input_shape[-1]) + self.read_width)

    def check_state_shapes(self) -> None:
        """Raises a TypeError if `state_shapes` is not a dict of shapes, or does not fit `State`."""
        shapes = self.state_shapes
        if not isinstance(shapes, dict) or not all(map(_is_shape, shapes.values())):
            raise TypeError(
                f"`{type(self).__name__}.state_shapes` must be a property that returns a dict from"
                f" name to shape, a tuple of integers of at least 1. Received: {shapes!r}"
            )
        wanted = ("controller_state", *shapes)
        if self.State._fields != wanted or "read_vectors" not in wanted:
            raise TypeError(
                f"`{type(self).__name__}.State` must have the field 'controller_state', then the"
                " names in `state_shapes`, in the same order, 'read_vectors' among them."
                f" Received: State={self.State._fields}, state_shapes={(*self.state_shapes,)}"
            )

    def expect(self, input_width: int | None) -> None:
        """Sets the width of the inputs before `build`: the output's width may depend on it."""
        if not self.built:
            self._input_width = None if input_width is None else int(input_width)

    def projection(
        self, name: str, width: int, input_width: int, bias_initializer: Any = None
    ) -> keras.layers.Dense:
        """A built dense layer with the cell's initializers, regularizers and constraints.

        Args:
            name: The layer's name.
            width: Width of its outputs.
            input_width: Width of its inputs.
            bias_initializer: By default the cell's.
        """
        projection = keras.layers.Dense(
            width,
            kernel_initializer=copy_of(self.kernel_initializer),
            bias_initializer=bias_initializer or copy_of(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name=name,
        )
        with name_scope(name):
            projection.build((None, input_width))
        return controllers.never_quantized(projection)

    def get_initial_state(
        self, inputs: Any = None, batch_size: Any = None, dtype: Any = None
    ) -> list[Tensor]:
        """The state before the first step, the same for every sequence of a batch.

        Args:
            inputs: A batch of that size, which Keras 2 may pass instead of `batch_size`.
            batch_size: Number of sequences, a Python integer or a scalar tensor.
            dtype: By default the cell's compute dtype, also when Keras 2 passes an integer dtype.

        Returns:
            The flat list of states, one `(batch_size, size)` for each of `state_size`.

        Raises:
            ValueError: Neither `inputs` nor `batch_size` is given.
        """
        if inputs is not None:
            batch_size = ops.shape(inputs)[0]
        if batch_size is None:
            raise ValueError("Argument `batch_size` must be given if `inputs` is not.")
        if dtype is None or "float" not in dtype_name(dtype):
            dtype = self.compute_dtype
        controllers.reset_dropout(self.controller)
        subject = f"What `{type(self).__name__}.initial_state` returns, without a batch axis"
        return [
            for_each(ops.cast(ops.reshape(tensor, [1, size]), dtype), batch_size)
            for tensor, size in zip(
                self._tensors(self.initial_state(dtype), subject, []), self.state_size, strict=True
            )
        ]

    def pack_state(self, state: Any) -> list[Tensor]:
        """A `State` as the flat list of states that Keras keeps.

        Raises:
            ValueError: `state` is not a `State` of this cell, or a field is not a tensor of the
                expected shape.
        """
        self._tensors(state, "Argument `state` (of a layer `initial_state`)", [None])
        return self._flat(state)

    def _flat(self, state: Any) -> list[Tensor]:
        """`pack_state` of a state that was checked."""
        controller_state, *others = state
        return [
            ops.reshape(tensor, [-1, size])
            for tensor, size in zip([*controller_state, *others], self.state_size, strict=True)
        ]

    def _tensors(self, state: Any, subject: str, batch: list[int | None]) -> list[Tensor]:
        """The tensors of a `State` as a flat list, after a check of their shapes.

        Args:
            state: The `State`.
            subject: What it is, in an error message.
            batch: With what the shapes begin.
        """
        if not isinstance(state, self.State):
            raise ValueError(
                f"{subject}: it must be a `{self.State.__name__}`."
                f" Received: a `{type(state).__name__}`"
            )
        controller_state, *others = state
        count = len(self.controller_state_size)
        is_list = isinstance(controller_state, (list, tuple))
        if not is_list or len(controller_state) != count:
            received = f"a `{type(controller_state).__name__}`"
            raise ValueError(
                f"{subject}: `controller_state` must be a list of {count} tensors."
                f" Received: {f'{len(controller_state)} in {received}' if is_list else received}"
            )
        tensors = [*controller_state, *others]
        _check_shapes(subject, self._named_shapes(), tensors, batch)
        return tensors

    def _named_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all states of one sequence, the controller's first."""
        sizes = self.controller_state_size
        controllers_own = {f"controller_state[{i}]": (size,) for i, size in enumerate(sizes)}
        return {**controllers_own, **self.state_shapes}

    def unpack_state(self, states: Sequence[Tensor], batch_size: int | None = None) -> Any:
        """A flat list of states as a `State`, in the cell's compute dtype.

        Args:
            states: One `(batch_size, size)` for each of `state_size`.
            batch_size: The expected batch size, if it is known.

        Raises:
            ValueError: The number of states or a shape is not the expected one.
        """
        subject = "Argument `states` (of a layer `initial_state`)"
        if _is_named_tuple(states):
            raise ValueError(
                f"{subject} must be a flat list of tensors, which the cell's `pack_state` makes."
                f" Received: a `{type(states).__name__}`"
            )
        states = [] if states is None else list(states)
        shapes = {name: (size,) for name, size in zip(self._named_shapes(), self.state_size)}
        if len(states) != len(shapes):
            raise ValueError(
                f"{subject} must be a flat list of {len(shapes)} tensors: {', '.join(shapes)}."
                f" Received: {len(states)}"
            )
        _check_shapes(subject, shapes, states, [batch_size])
        dtype = self.compute_dtype
        states = [
            each if dtype_name(each.dtype) == dtype else ops.cast(each, dtype) for each in states
        ]
        count = len(self.controller_state_size)
        return self.State(
            states[:count],
            *(
                ops.reshape(each, [-1, *shape])
                for each, shape in zip(states[count:], self.state_shapes.values())
            ),
        )

    def call(self, inputs, states, training=None):
        inputs = validation.real("inputs", inputs, self.compute_dtype)
        step = self.checked_step(inputs, self.unpack_state(states, inputs.shape[0]))
        return step.outputs, self._flat(step.state)

    def checked_step(self, inputs: Tensor, state: Any) -> Any:
        """What `step` returns.

        Raises:
            ValueError: It lacks a field, or a tensor in it has another shape or dtype than it must
                have.
        """
        step, batch_size = self.step(inputs, state), inputs.shape[0]
        name = type(self).__name__
        if not {"outputs", "state"} <= set(getattr(step, "_fields", ())):
            raise ValueError(
                f"What `{name}.step` returns must be a NamedTuple with `outputs` and `state` among"
                f" its fields. Received: a `{type(step).__name__}`"
            )
        subject = f"What `{name}.step` returns"
        _check_shapes(subject, {"outputs": (self.output_size,)}, [step.outputs], [batch_size])
        states = self._tensors(step.state, subject, [batch_size])
        for field, tensor in zip(("outputs", *self._named_shapes()), (step.outputs, *states)):
            if tensor.dtype != inputs.dtype:
                raise ValueError(
                    f"{subject}: `{field}` must be of dtype {dtype_name(inputs.dtype)}. Received:"
                    f" {dtype_name(tensor.dtype)}"
                )
        return step

    def run_controller(self, inputs: Tensor, state: Any) -> tuple[Tensor, list[Tensor], Tensor]:
        """The controller's step on the inputs and the last read vectors.

        Returns:
            The controller's output, its states, and the projection to the heads' parameters.
        """
        output, controller_state = controllers.run_controller(
            self.controller,
            self.rnn_size,
            self.with_reads(inputs, state.read_vectors),
            state.controller_state,
        )
        return output, controller_state, self.project(self.parameter_projection, output)

    def project(self, projection: Any, features: Tensor) -> Tensor:
        """Applies a projection to features, and returns the result in their dtype."""
        return ops.cast(projection(features), features.dtype)

    def with_reads(self, features: Tensor, read_vectors: Tensor) -> Tensor:
        """Features and read vectors, concatenated."""
        return ops.concatenate(
            [features, ops.reshape(read_vectors, [-1, self.read_width])], axis=-1
        )

    def get_config(self) -> dict[str, Any]:
        controller = self.controller_name or keras.layers.serialize(self.controller)
        return {
            **super().get_config(),
            "rnn_size": self.rnn_size,
            "memory_size": self.memory_size,
            "memory_vector_dim": self.memory_vector_dim,
            "controller": controller,
            "controller_layers": self.controller_layers,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


@serializable
class MemoryLayer(keras.layers.RNN):
    """A layer that runs a `MemoryCell` over sequences.

    A stateful layer whose states are all zeros, as they are in a new or reset one, starts from the
    cell's initial state, computed from the weights at the time of the call.

    Args:
        cell: The `MemoryCell`. Register your own cell class with
            `keras.utils.register_keras_serializable`, so that Keras can load the layer.
        return_sequences: Whether to return the outputs of all steps, or only the last one.
        return_state: Whether to return the last state too, as the flat list.
        go_backwards: Whether to run the sequence from its end to its beginning.
        stateful: Whether a batch starts from the state in which the previous batch ended.
        unroll: Whether to unroll the loop over time.
        **kwargs: Arguments of Keras's `RNN` layer, such as `name` and `zero_output_for_mask`.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: A flat list of states or the cell's `State`; by default the cell's initial
            state.
        mask: `(batch, time)`; a step whose mask is False changes nothing.
        training: Passed on to the controller.

    Raises:
        ValueError: `cell` is not a `MemoryCell`.
        TypeError: Its `state_shapes` and `State` do not fit each other.

    Examples:
        >>> layer = MemoryLayer(MANNCell(20, memory_size=8, memory_vector_dim=4, head_num=1))
        >>> tuple(layer(tf.zeros([2, 5, 3])).shape)
        (2, 24)
    """

    def __init__(
        self,
        cell: MemoryCell,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **kwargs: Any,
    ):
        _check_cell(cell)
        cell.check_state_shapes()  # Keras would hide an error in it.
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            **kwargs,
        )

    def __getattr__(self, name: str) -> Any:
        """Makes the cell's arguments attributes of the layer too, like `LSTM.units`."""
        cell = _cell_of(self)
        if cell is not None and name in _argument_names(cell.__class__):
            return getattr(cell, name)
        if hasattr(super(), "__getattr__"):  # PyTorch's, which finds the parts of a layer.
            return super().__getattr__(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "cell":
            _check_cell(value)
            if getattr(self, "built", False):
                raise ValueError(
                    "The cell of a layer can be replaced only before the layer is built. Make a new"
                    f" layer: `MemoryLayer(cell)`. Received: cell={value!r}"
                )
        cell = _cell_of(self)
        is_own = name in vars(self) or hasattr(type(self), name)
        if cell is not None and not is_own and name in _argument_names(cell.__class__):
            raise AttributeError(f"{name!r} is an argument of the layer's cell: make another cell.")
        super().__setattr__(name, value)

    def build(self, sequences_shape, initial_state_shape=None):
        shape = _sequences_shape(sequences_shape)
        if len(shape) != 3 or shape[-1] is None:
            raise ValueError(
                f"The input of {type(self).__name__} must have the shape (batch, time, features), "
                "with a known number of features: a recurrent layer before it needs"
                f" return_sequences=True. Received: {shape}"
            )
        if self.cell.built and shape[-1] != self.cell.input_spec.axes[-1]:
            raise ValueError(
                f"The cell was built for {self.cell.input_spec.axes[-1]} features. Received:"
                f" sequences of shape {shape}"
            )
        super().build(sequences_shape if _is_list_of_shapes(sequences_shape) else shape)
        if not IS_KERAS_2:
            self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: shape[-1]})
        if self.stateful:  # Keras has set the states to those of the weights at this time.
            self.reset_states()

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        self.cell.expect(_sequences_shape(sequences_shape)[-1])
        return super().compute_output_shape(sequences_shape)

    def __call__(self, sequences, initial_state=None, **kwargs):
        _check_sequences(sequences)
        if _is_named_tuple(initial_state):
            initial_state = self.cell.pack_state(initial_state)
        return super().__call__(sequences, initial_state=initial_state, **kwargs)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        controllers.reset_dropout(self.cell.controller)
        if self.stateful and initial_state is None and not isinstance(sequences, list):
            initial_state = self._state_to_continue_from(sequences)
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def _state_to_continue_from(self, sequences: Tensor) -> list[Tensor]:
        """A stateful layer's state, or its initial state if that is all zeros."""
        states = [ops.convert_to_tensor(state) for state in self.states]
        initial = self.get_initial_state(sequences if IS_KERAS_2 else states[0].shape[0])
        was_called = ops.any(ops.stack([ops.any(ops.not_equal(state, 0)) for state in states]))
        return [
            ops.where(was_called, state, ops.cast(first, state.dtype))
            for state, first in zip(states, initial)
        ]

    @property
    def has_fast_loop(self) -> bool:
        """Whether the layer runs a loop with a hand-written gradient: see `fast.loop_for`."""
        return self._fast_loop() is not None

    def _fast_loop(self) -> Any:
        return None if self.unroll else fast.loop_for(self.cell)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """The loop over time, which Keras 3's RNN layer calls."""
        sequences = validation.real("sequences", sequences, self.cell.compute_dtype)
        if mask is not None:
            mask = validation.mask(mask, sequences)
        loop = self._fast_loop()
        if loop is not None:
            outputs, states = fast.run(loop, self, sequences, initial_state, mask)
            return outputs[:, -1], outputs, states
        if training and controllers.has_dropout(self.cell.controller):
            # Draws the masks of this call. Drawn in JAX's loop, they would be those of every call.
            self.cell.run_controller(sequences[:, 0], self.cell.unpack_state(initial_state))
        if mask is not None and LOOP_NEEDS_OUTPUT_AS_FIRST_STATE:
            return self._masked_loop(sequences, initial_state, mask, training)
        return super().inner_loop(sequences, initial_state, mask=mask, training=training)

    def _masked_loop(self, sequences, initial_state, mask, training):
        if self.go_backwards:
            sequences, mask = ops.flip(sequences, axis=1), ops.flip(mask, axis=1)
        outputs, states = masked_loop(
            functools.partial(self.cell, training=training),
            sequences,
            initial_state,
            mask,
            self.cell.output_size,
            self.zero_output_for_mask,
        )
        return outputs[:, -1], outputs, states

    if IS_KERAS_2:

        def reset_state(self) -> None:
            """Keras 3's name for `reset_states`."""
            self.reset_states()

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self.activity_regularizer is not None:  # Keras 2 leaves it out.
            config["activity_regularizer"] = keras.regularizers.serialize(self.activity_regularizer)
        return config


def _cell_of(layer: Any) -> Any:
    """The layer's cell, None before it has one; PyTorch keeps it in a dict of its own."""
    attributes = vars(layer)
    return attributes.get("cell", attributes.get("_modules", {}).get("cell"))


def _check_sequences(sequences: Any) -> None:
    """Refuses sequences that the loop over time cannot take."""
    shape = tuple(getattr(sequences, "shape", None) or ())
    if isinstance(sequences, tf.RaggedTensor) and not IS_KERAS_2:
        raise ValueError(
            "Argument `sequences` must not be a RaggedTensor: pad it with `to_tensor()`, and pass"
            f" `mask=tf.sequence_mask(sequences.row_lengths())`. Received: shape {shape}"
        )
    if len(shape) > 1 and shape[1] == 0:
        raise ValueError(
            f"Argument `sequences` must have at least one step. Received: shape {shape}"
        )


class MachineLayer(MemoryLayer):
    """A layer that makes its own cell: the base of `NTM` and `MANN`.

    Args:
        cell_arguments: The arguments of the cell class that are not in `CellOptions`.
        **options: The options of the cell and of Keras's `RNN`.
    """

    cell_class: ClassVar[type[MemoryCell]]

    def __init__(self, cell_arguments: dict[str, Any], **options: Any):
        shared = {name: options[name] for name in ("dtype", "trainable") if name in options}
        cell_class: Any = self.cell_class
        cell_only = _argument_names(cell_class) & options.keys() - {"name", *shared}
        cell = cell_class(
            **cell_arguments,
            **{name: options.pop(name) for name in cell_only},
            **shared,
            name=f"{cell_class.__name__.removesuffix('Cell').lower()}_cell",
        )
        super().__init__(cell, **options)

    def get_config(self) -> dict[str, Any]:
        if type(self.cell) is not self.cell_class:
            raise ValueError(
                f"{type(self).__name__} can be saved only with its own {self.cell_class.__name__};"
                f" `MemoryLayer(cell)` takes any other cell. Received: cell={self.cell!r}"
            )
        config = super().get_config()
        del config["cell"]
        cell_config = self.cell.get_config()
        names = cell_config.keys() - {"name", "trainable", "dtype"}
        return {**config, **{name: cell_config[name] for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MachineLayer:
        return cls(**config)


def _check_is_complete(cell_class: type[MemoryCell]) -> None:
    """Raises a TypeError if a cell class does not define all that a cell needs."""
    names = ["State", "state_shapes", "parameter_count", "output_size", "initial_state", "step"]
    missing = [name for name in names if getattr(cell_class, name) is getattr(MemoryCell, name)]
    if missing:
        raise TypeError(
            f"{cell_class.__name__} must define {', '.join(f'`{name}`' for name in missing)}:"
            " as a method, a property or an attribute of the class: see `help(MemoryCell)`."
        )
    if not hasattr(cell_class.State, "_fields"):
        raise TypeError(
            f"`{cell_class.__name__}.State` must be a NamedTuple. Received: {cell_class.State!r}"
        )
    fast.check_name(vars(cell_class).get("fast_loop"))


def shows_options(cls: _Class) -> _Class:
    """Makes `help` show the options that every cell takes, beside a class's `**options`."""
    init: Any = cls.__init__  # type: ignore[misc]
    *own, options = inspect.signature(init).parameters.values()
    every = inspect.signature(MemoryCell).parameters.values()
    shown = [each for each in every if each.kind is inspect.Parameter.KEYWORD_ONLY]
    init.__signature__ = inspect.Signature([*own, *shown, options.replace(annotation=Any)])
    return cls


@functools.cache
def _argument_names(cell_class: Any) -> set[str]:
    """The names of the arguments of a cell class and its base classes."""
    classes = [each for each in cell_class.__mro__ if issubclass(each, MemoryCell)]
    return {
        parameter.name
        for each in classes
        for parameter in inspect.signature(each).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def _is_list_of_shapes(shape: Any) -> bool:
    """Whether `shape` is a list: Keras 2 passes several shapes if there is an initial state."""
    return len(shape) > 0 and isinstance(shape[0], (list, tuple, tf.TensorShape))


def _sequences_shape(shape: Any) -> tuple[int | None, ...]:
    """The shape of the sequences, without the shapes of an initial state."""
    return tuple(shape[0] if _is_list_of_shapes(shape) else shape)


def in_wide_precision(function: Callable[..., Tensor], *tensors: Any) -> Tensor:
    """Calls a function of tensors, in single precision where they are in half precision.

    Half precision is too coarse for norms, softmaxes and logarithms. The result has the dtype of
    the first tensor.
    """
    dtype = tf.nest.flatten(tensors)[0].dtype
    wide = "float64" if dtype_name(dtype) == "float64" else "float32"
    widened = tf.nest.map_structure(lambda tensor: ops.cast(tensor, wide), tensors)
    return ops.cast(function(*widened), dtype)


def _is_named_tuple(states: Any) -> bool:
    return hasattr(states, "_fields")


def _check_cell(cell: Any) -> None:
    """Raises a ValueError if a cell is not a `MemoryCell`."""
    if not isinstance(cell, MemoryCell):
        raise ValueError(
            "Argument `cell` must be a MemoryCell, such as an NTMCell; use keras.layers.RNN for"
            f" other cells. Received: cell={cell!r}"
        )


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, (tuple, list)) and all(
        isinstance(size, (int, np.integer)) and size >= 1 for size in shape
    )


def _check_shapes(
    subject: str,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Sequence[Any],
    batch: Sequence[int | None],
) -> None:
    """Raises a ValueError that names a tensor whose shape is not `batch` and the expected one."""
    for (name, shape), tensor in zip(shapes.items(), tensors, strict=True):
        wanted = tf.TensorShape([*map(known_size, batch), *shape])
        given = static_shape(tensor) if hasattr(tensor, "shape") else None
        if given is None or not given.is_compatible_with(wanted):
            received = f"a `{type(tensor).__name__}`" if given is None else _as_text(given)
            raise ValueError(
                f"{subject}: `{name}` must be a tensor of the shape {_as_text(wanted)}."
                f" Received: {received}"
            )


def _as_text(shape: tf.TensorShape) -> str:
    """The shape as text, with `batch` for an unknown batch size."""
    return str(tuple(shape)).replace("(None", "(batch") if shape.rank is not None else "unknown"
