"""The controller in the fast loops: the layers that the loops know, forward and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ntm_keras.controllers import CountingLSTMCell, FeedforwardCell
from ntm_keras.fast import analytic
from ntm_keras.keras_compat import Tensor, keras, ops


class Kind(NamedTuple):
    """A kind of layer that the loops know.

    Attributes:
        settings: The values that the layer's attributes must have.
        weight_count: How many weights it has. A layer changed by LoRA, for example, has more.
        is_recurrent: Whether its output is its own input in the next step.
        lstm: For an LSTM, its pair of functions in analytic.py.
    """

    settings: dict[str, Any]
    weight_count: int
    is_recurrent: bool = False
    lstm: tuple[Callable, Callable] | None = None


_TANH = {
    "activation": keras.activations.tanh,
    "use_bias": True,
    "activity_regularizer": None,
}
_NO_DROPOUT = {"dropout": 0, "recurrent_dropout": 0}

# Subclasses do not count: they may compute something else.
KNOWN_LAYERS: dict[type, Kind] = {
    keras.layers.Dense: Kind(_TANH, weight_count=2),
    keras.layers.SimpleRNNCell: Kind({**_TANH, **_NO_DROPOUT}, weight_count=3, is_recurrent=True),
    keras.layers.LSTMCell: Kind(
        {**_TANH, **_NO_DROPOUT, "recurrent_activation": keras.activations.sigmoid},
        weight_count=3,
        is_recurrent=True,
        lstm=(analytic.lstm, analytic.lstm_slopes),
    ),
    CountingLSTMCell: Kind(
        {"activity_regularizer": None},
        weight_count=3,
        is_recurrent=True,
        lstm=(analytic.counting_lstm, analytic.counting_lstm_slopes),
    ),
}
_PROJECTION = Kind({**_TANH, "activation": keras.activations.linear}, weight_count=2)

# Keras wraps these methods of every layer itself.
_WRAPPED = {"build", "quantize"}


def has_replaced_method(layer: Any) -> bool:
    """Whether a method was replaced on this one object."""
    replaced = vars(layer).keys() - _WRAPPED
    return any(callable(getattr(type(layer), name, None)) for name in replaced)


def is_known(cell: Any) -> bool:
    """Whether the loops know all layers of the cell's controller, and its projections."""
    layers = layers_of(cell.controller)
    kinds = [KNOWN_LAYERS.get(type(layer)) for layer in layers]
    if not layers or None in kinds or len(set(map(type, layers))) != 1:
        return False
    if has_replaced_method(cell.controller) or cell.controller.activity_regularizer is not None:
        return False
    if cell.controller.compute_dtype != cell.compute_dtype:
        return False
    known = list(zip(layers, kinds))
    for name in ("parameter_projection", "output_projection"):
        projection = getattr(cell, name, None)
        if projection is not None:
            if type(projection) is not keras.layers.Dense:
                return False
            known.append((projection, _PROJECTION))
    return all(_is_of_kind(layer, kind, cell.compute_dtype) for layer, kind in known)


def _is_of_kind(layer: Any, kind: Any, dtype: str) -> bool:
    return (
        not has_replaced_method(layer)
        and all(getattr(layer, name) == value for name, value in kind.settings.items())
        and layer.compute_dtype == dtype
        and (
            not layer.built
            or len(layer.weights) == kind.weight_count
            and all(weight.dtype == dtype for weight in layer.weights)
        )
    )


def layers_of(controller: Any) -> Sequence[Any]:
    """The layers of a controller, from the bottom; empty if its structure is not known."""
    if type(controller) is FeedforwardCell:
        return controller.layers
    if type(controller) is keras.layers.StackedRNNCells:
        return controller.cells
    return [controller] if type(controller) in KNOWN_LAYERS else []


class Weights(NamedTuple):
    """The weights that are used in every step.

    Attributes:
        kernels: One for each layer of the controller. It multiplies the output of the layer below
            (for the first layer, the read vectors) and, in a recurrent layer, the layer's own last
            output.
        biases: One for each layer except the first: its bias is already added to the inputs.
        projection_kernel: From the controller's output to the heads' parameters.
        projection_bias: The projection's bias.
    """

    kernels: list[Tensor]
    biases: list[Tensor]
    projection_kernel: Tensor
    projection_bias: Tensor


class KeptController(NamedTuple):
    """What the controller keeps of a step for the gradient, one tensor for each layer.

    Attributes:
        layer_inputs: The tensors that the layers' kernels multiply.
        activations: The layers' outputs; for an LSTM, its gates.
        carries: The carries of LSTM layers before the step.
    """

    layer_inputs: list[Tensor]
    activations: list[Tensor]
    carries: list[Tensor]


class Controller:
    """The controller's part of a loop.

    Args:
        cell: A `MemoryCell` for which `is_known` holds.
    """

    def __init__(self, cell: Any):
        self._layers = layers_of(cell.controller)
        self._kind = KNOWN_LAYERS[type(self._layers[0])]
        self._projection = cell.parameter_projection

    def multiply_inputs(self, inputs: Tensor) -> tuple[Tensor, Weights]:
        """The inputs of all steps times their weights, and the weights used in every step."""
        below = [ops.convert_to_tensor(layer.kernel) for layer in self._layers]
        biases = [ops.convert_to_tensor(layer.bias) for layer in self._layers]
        width = inputs.shape[-1]
        input_kernel, below[0] = below[0][:width], below[0][width:]
        kernels = below
        if self._kind.is_recurrent:
            own = [ops.convert_to_tensor(layer.recurrent_kernel) for layer in self._layers]
            kernels = [ops.concatenate(pair, axis=0) for pair in zip(below, own)]
        projection = self._projection
        weights = Weights(
            kernels,
            biases[1:],
            ops.convert_to_tensor(projection.kernel),
            ops.convert_to_tensor(projection.bias),
        )
        return ops.tensordot(inputs, input_kernel, 1) + biases[0], weights

    def arrays(self, array: Callable[..., Any], weights: Weights) -> KeptController:
        """The arrays for what is kept; `array` makes one, given a shape without time and batch."""
        widths = [kernel.shape[1] for kernel in weights.kernels]
        return KeptController(
            layer_inputs=[array(kernel.shape[0]) for kernel in weights.kernels],
            activations=[array(width) for width in widths],
            carries=[array(width // 4) for width in widths] if self._kind.lstm else [],
        )

    def step(
        self,
        inputs: Tensor,
        read_vectors: Tensor,
        states: Sequence[Tensor],
        weights: Weights,
    ) -> tuple[Tensor, list[Tensor], KeptController]:
        """The controller's output, its states and what it keeps.

        Args:
            inputs: x_t times its weights, `(batch, width of the first layer's kernel)`.
            read_vectors: r_{t-1}, `(batch, read_width)`.
            states: The controller's states before the step.
            weights: The weights.
        """
        states, below = list(states), read_vectors
        kept, new_states = KeptController([], [], []), []
        for kernel, bias in zip(weights.kernels, [inputs, *weights.biases]):
            if self._kind.is_recurrent:
                below = ops.concatenate([below, states.pop(0)], axis=-1)
            kept.layer_inputs.append(below)
            preactivation = ops.matmul(below, kernel) + bias
            if self._kind.lstm:
                forward, _ = self._kind.lstm
                kept.carries.append(states.pop(0))
                below, carry, gates = forward(preactivation, kept.carries[-1])
                kept.activations.append(gates)
                new_states += [below, carry]
            else:
                below = ops.tanh(preactivation)
                kept.activations.append(below)
                new_states += [below] if self._kind.is_recurrent else []
        return below, new_states, kept

    def slopes(self, kept: KeptController) -> list[Any]:
        """The slope of each layer's output by its preactivation; for LSTMs, `LSTMSlopes`."""
        if self._kind.lstm:
            _, slopes = self._kind.lstm
            return [*map(slopes, kept.activations, kept.carries)]
        return [1 - activation**2 for activation in kept.activations]

    def step_back(
        self,
        transposed_kernels: Sequence[Tensor],
        slopes: Sequence[Any],
        d_output: Tensor,
        d_states: Sequence[Tensor],
    ) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """The gradients by the previous states, by r_{t-1}, and by the layers' preactivations."""
        d_states = list(d_states)
        d_states_before: list[Tensor] = []
        d_preactivations: list[Tensor] = []
        for layer, kernel in reversed(list(enumerate(transposed_kernels))):
            d_carry = [d_states.pop()] if self._kind.lstm else []
            d_output += d_states.pop() if self._kind.is_recurrent else 0
            if self._kind.lstm:
                d_preactivation, *d_carry = analytic.lstm_gradient(
                    slopes[layer], d_output, *d_carry
                )
            else:
                d_preactivation = slopes[layer] * d_output
            d_inputs = ops.matmul(d_preactivation, kernel)
            d_preactivations.insert(0, d_preactivation)
            if self._kind.is_recurrent:
                units = d_preactivation.shape[1] // (4 if self._kind.lstm else 1)
                d_inputs, d_own = ops.split(d_inputs, [d_inputs.shape[1] - units], axis=1)
                d_states_before[:0] = [d_own, *d_carry]
            d_output = d_inputs
        return d_states_before, d_output, d_preactivations
