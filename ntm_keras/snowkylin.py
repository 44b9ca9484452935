"""Loads weights of snowkylin/ntm's TensorFlow 2 cell into an `NTMCell`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ntm_keras.ntm import NTMCell


def load_snowkylin_weights(cell: NTMCell, weights: Mapping[str, np.ndarray]) -> None:
    """Gives a cell the weights of a snowkylin/ntm cell (its TensorFlow 2 version).

    Args:
        cell: A cell with an LSTM controller of one layer, a learned memory, and the sizes of the
            weights; it is built if necessary.
        weights: The arrays by their names in snowkylin/ntm: `controller/kernel`,
            `controller/recurrent_kernel`, `controller/bias`, the kernel and bias of
            `controller_output_to_params` and `controller_output_to_ntm_output`,
            `init_memory_state`, `init_carry_state`, `init_r_0` .., `init_w_0` .. (read heads
            first) and `init_M`. Other names are ignored.

    Raises:
        ValueError: The cell is of another kind, a name is missing, or a shape does not fit.
    """
    if not isinstance(cell, NTMCell):
        raise ValueError(
            "Argument `cell` must be an NTMCell; a layer has it as `layer.cell`. "
            f"Received: {cell!r}"
        )
    if cell.controller_name != "lstm" or cell.controller_layers != 1:
        raise ValueError(
            "Argument `cell` must have the controller 'lstm' with controller_layers=1. "
            f"Received: controller={cell.controller_name or cell.controller!r},"
            f" controller_layers={cell.controller_layers}"
        )
    if cell.memory_initializer != "learned" or cell.output_source != "controller":
        raise ValueError(
            "Argument `cell` must have memory_initializer='learned' and "
            f"output_source='controller'. Received: {cell.memory_initializer!r}, "
            f"{cell.output_source!r}"
        )
    if not cell.built:
        kernel = _array(weights, "controller/kernel")
        cell.build((None, kernel.shape[0] - cell.read_width))
    variables = {
        "controller/kernel": cell.controller.kernel,
        "controller/recurrent_kernel": cell.controller.recurrent_kernel,
        "controller/bias": cell.controller.bias,
        "controller_output_to_params/kernel": cell.parameter_projection.kernel,
        "controller_output_to_params/bias": cell.parameter_projection.bias,
        "controller_output_to_ntm_output/kernel": cell.output_projection.kernel,
        "controller_output_to_ntm_output/bias": cell.output_projection.bias,
        "init_memory_state": cell.initial.controller_state[0],
        "init_carry_state": cell.initial.controller_state[1],
        "init_M": cell.initial.memory,
    }
    arrays = {name: _array(weights, name, variable.shape) for name, variable in variables.items()}
    initial_read_vectors = [
        _array(weights, f"init_r_{index}", row.shape)
        for index, row in enumerate(np.array(cell.initial.read_vectors))
    ]
    initial_weightings = [
        _array(weights, f"init_w_{index}", row.shape)
        for index, row in enumerate(np.array(cell.initial.weightings))
    ]
    for name, variable in variables.items():
        variable.assign(arrays[name])
    cell.initial.read_vectors.assign(np.stack(initial_read_vectors))
    cell.initial.weightings.assign(np.stack(initial_weightings))


def _array(weights: Mapping[str, np.ndarray], name: str, shape: Any = None) -> np.ndarray:
    if name not in weights:
        raise ValueError(f"Argument `weights` lacks {name!r}. Received: {sorted(weights)}")
    array = np.asarray(weights[name])
    if shape is not None and array.shape != tuple(shape):
        raise ValueError(
            f"Argument `weights` must have {name!r} in the cell's shape {tuple(shape)}. "
            f"Received: {array.shape}"
        )
    return array
