"""The learned state in which an `NTMCell` begins a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ntm_keras import controllers, validation
from ntm_keras.keras_compat import Tensor, keras, name_scope, ops, outside_graphs, to_numpy

MEMORY_INITIALIZERS = ("learned", "constant", "random")
WEIGHTING_INITIALIZERS = ("spread", "focused")

# Collier and Beel, "Implementing Neural Turing Machines", section 4.1.
_CONSTANT_MEMORY = 1e-6

# Before the softmax: with 128 locations, the focused location begins with the weight 0.994.
_FOCUS_LOGIT = 10.0


class LearnedInitialState:
    """Weights from which the initial state is computed, squashed into the ranges of a state.

    `add_weights` makes the weights. They belong to the cell.

    Args:
        memory_initializer: See `NTMCell`.
        weighting_initializer: See `NTMCell`.

    Attributes:
        controller_state: One weight for each of the controller's states, `(size,)`; empty if the
            controller's own initial state is not zero.
        read_vectors: `(read heads, memory_vector_dim)`.
        weightings: Logits, `(read heads + write heads, memory_size)`.
        memory: `(memory_size, memory_vector_dim)`; trained if the initializer is `"learned"`.

    Raises:
        ValueError: An initializer is not one of those allowed.
    """

    def __init__(self, memory_initializer: Any, weighting_initializer: str):
        self.memory_initializer = _memory_initializer(memory_initializer)
        self.weighting_initializer = validation.choice(
            "weighting_initializer", weighting_initializer, WEIGHTING_INITIALIZERS
        )
        self.memory: Any = None

    def add_weights(self, cell: Any) -> None:
        """Makes the weights, unless they exist already."""
        if self.memory is not None:
            return

        def learned(name, shape, initializer=None):
            initializer = initializer or keras.initializers.RandomNormal(stddev=0.5)
            return cell.add_weight(name=name, shape=shape, initializer=initializer)

        shapes = cell.state_shapes
        self.controller_state = [
            learned(f"initial_controller_state_{index}", (size,))
            for index, size in enumerate(_learned_sizes(cell))
        ]
        self.read_vectors = learned("initial_read_vectors", shapes["read_vectors"])
        focus = _focus if self.weighting_initializer == "focused" else None
        self.weightings = learned("initial_weightings", shapes["weightings"], focus)
        if self.memory_initializer == "learned":
            self.memory = learned("initial_memory", shapes["memory"])
        else:
            self.memory = cell.add_weight(
                name="initial_memory",
                shape=shapes["memory"],
                initializer=self._fixed_memory(shapes["memory"]),
                trainable=False,
            )

    def _fixed_memory(self, shape: Sequence[int]) -> Any:
        if self.memory_initializer == "constant":
            return keras.initializers.Constant(_CONSTANT_MEMORY)
        if self.memory_initializer == "random":
            bound = sum(shape) ** -0.5
            return keras.initializers.RandomUniform(-bound, bound)
        return copy_of(self.memory_initializer)

    def __call__(self, cell: Any, dtype: Any) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Controller state, read vectors, weightings and memory of one sequence."""

        def squashed(weight, squash):
            return squash(ops.cast(weight, dtype))

        is_learned = self.memory_initializer == "learned"
        return (
            [squashed(weight, ops.tanh) for weight in self.controller_state]
            or controllers.initial_state(cell.controller, dtype),
            squashed(self.read_vectors, ops.tanh),
            squashed(self.weightings, ops.softmax),
            squashed(self.memory, ops.tanh if is_learned else lambda memory: memory),
        )

    def get_config(self) -> dict[str, Any]:
        """The two arguments, in a form that can be saved."""
        memory_initializer = self.memory_initializer
        if not isinstance(memory_initializer, str):
            memory_initializer = keras.initializers.serialize(memory_initializer)
        return {
            "memory_initializer": memory_initializer,
            "weighting_initializer": self.weighting_initializer,
        }


def copy_of(initializer: Any) -> Any:
    """A copy of an initializer: one without a seed repeats its numbers when it is used twice."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return initializer.__class__.from_config(initializer.get_config())


def _learned_sizes(cell: Any) -> list[int]:
    """The sizes of the controller's states; empty if its own initial state is not zero."""
    with outside_graphs(), name_scope("controller"):
        own = controllers.initial_state(cell.controller, cell.compute_dtype)
        is_zero = not any(to_numpy(state).any() for state in own)
    return cell.controller_state_size if is_zero else []


def _focus(shape: Sequence[int], dtype: Any = None) -> Tensor:
    """Logits of weightings that are focused on the first location."""
    logits = np.zeros(shape)
    logits[..., 0] = _FOCUS_LOGIT
    return ops.cast(logits, dtype)


def _memory_initializer(initializer: Any) -> Any:
    """The argument if it is one of `MEMORY_INITIALIZERS`, else the Keras initializer it names."""
    if isinstance(initializer, str) and initializer in MEMORY_INITIALIZERS:
        return initializer
    try:
        found = keras.initializers.get(initializer)
    except (ValueError, TypeError):
        found = None
    if not callable(found):
        raise ValueError(
            "Argument `memory_initializer` must be one of "
            f"{', '.join(map(repr, MEMORY_INITIALIZERS))} or a Keras initializer. "
            f"Received: memory_initializer={initializer!r}"
        )
    return found
