"""Loops over time with a gradient written by hand: the cells' own numbers, sooner.

The loops know a few cells, and nothing else: see `loop_for`. Whatever they do not know exactly runs
in Keras's own loop, which is always right.
"""

from __future__ import annotations

from typing import Any

from ntm_keras.fast import controller
from ntm_keras.fast.loop import Loop
from ntm_keras.fast.mann import MANNLoop
from ntm_keras.fast.ntm import NTMLoop
from ntm_keras.keras_compat import IS_KERAS_2

# By the name that a class of cells declares as its `fast_loop`.
_LOOPS: dict[str, type[Loop]] = {"ntm": NTMLoop, "mann": MANNLoop}

# What the loops do in the place of a cell.
_REPLACED_METHODS = {"call", "step", "address", "_address", "run_controller", "project"}


def loop_for(cell: Any) -> type[Loop] | None:
    """The fast loop for exactly this cell, if there is one.

    A class of cells names its loop in its own body, as `fast_loop`. A subclass does not inherit
    that: it may compute something else. One that does not says so by `fast_loop =
    NTMCell.fast_loop`.

    Args:
        cell: A `MemoryCell`, built or not.

    Returns:
        A subclass of `Loop`, or None: under Keras 2, whose RNN layer has no place for a loop; in
        half precision; for a class without a loop; for a cell some method of which was replaced;
        and for a controller or a projection that is not one of `controller.KNOWN_LAYERS`.
    """
    declared = vars(type(cell)).get("fast_loop")
    is_replaced = not _REPLACED_METHODS.isdisjoint(vars(cell))
    if IS_KERAS_2 or declared is None or is_replaced:
        return None
    if cell.compute_dtype not in ("float32", "float64"):
        return None
    if cell.compute_dtype != cell.variable_dtype or not controller.is_known(cell):
        return None
    return _LOOPS[declared]
