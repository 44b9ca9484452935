"""Loops over time with a hand-written gradient: the same results as the cells', but faster.

The loops support only a few cells: see `loop_for`. All others run in Keras's own loop, which is
always right.
"""

from __future__ import annotations

from typing import Any

from ntm_keras.fast import controller
from ntm_keras.fast.loop import Loop
from ntm_keras.fast.mann import MANNLoop
from ntm_keras.fast.ntm import NTMLoop
from ntm_keras.fast.over_time import mask_outputs
from ntm_keras.keras_compat import IS_KERAS_2, Tensor, keras, ops

# The keys are the values of a cell class's attribute `fast_loop`.
_LOOPS: dict[str, type[Loop]] = {"ntm": NTMLoop, "mann": MANNLoop}

_HAS_LOOPS = keras.backend.backend() in ("tensorflow", "jax")


def check_name(name: str | None) -> None:
    """Refuses a `fast_loop` that does not exist.

    Raises:
        ValueError: The name is not None, and no loop has it.
    """
    if name is not None and name not in _LOOPS:
        raise ValueError(
            f"A cell's `fast_loop` must be one of {', '.join(map(repr, _LOOPS))}, or None."
            f" Received: fast_loop={name!r}"
        )


def loop_for(cell: Any) -> type[Loop] | None:
    """The fast loop for exactly this cell, if there is one.

    A cell class names its loop in its own attribute `fast_loop`. A subclass does not inherit the
    loop, because it may compute something else. A subclass that computes the same can set
    `fast_loop = NTMCell.fast_loop`; then the loop runs, whatever the subclass overrides. A cell
    whose own `fast_loop` is None runs in Keras's loop.

    Args:
        cell: A `MemoryCell`, built or not.

    Returns:
        A subclass of `Loop`, or None: under Keras 2, whose RNN layer does not allow another loop;
        on a backend without fast loops; in half precision; for a class without a loop; for a cell
        with an activity regularizer or a replaced method; and for a controller or a projection that
        `controller.is_known` does not know.
    """
    declared = vars(type(cell)).get("fast_loop") if cell.fast_loop else None
    if IS_KERAS_2 or not _HAS_LOOPS or declared is None or controller.has_replaced_method(cell):
        return None
    if cell.compute_dtype not in ("float32", "float64") or cell.activity_regularizer is not None:
        return None
    if cell.compute_dtype != cell.variable_dtype or not controller.is_known(cell):
        return None
    return _LOOPS[declared]


def run(
    loop: type[Loop],
    layer: Any,
    sequences: Tensor,
    initial_state: list[Tensor],
    mask: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    """Runs a layer by its fast loop.

    Args:
        loop: What `loop_for` gives for the layer's cell.
        layer: The `MemoryLayer`.
        sequences: `(batch, time, features)`.
        initial_state: The flat list of states.
        mask: `(batch, time)`, bool.

    Returns:
        The outputs, `(batch, time, output_size)`, and the flat list of the last states.
    """
    if layer.go_backwards:
        sequences = ops.flip(sequences, axis=1)
        mask = None if mask is None else ops.flip(mask, axis=1)
    outputs, states = loop(layer.cell, mask).run(sequences, initial_state)
    if mask is not None:
        outputs = mask_outputs(outputs, mask, layer.zero_output_for_mask)
    return outputs, states
