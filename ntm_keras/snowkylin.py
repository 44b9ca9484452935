"""Weights of snowkylin/ntm's TensorFlow 2 cell, put into an `NTMCell`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ntm_keras.ntm import NTMCell


def load_snowkylin_weights(cell: NTMCell, weights: Mapping[str, np.ndarray]) -> None:
    """Gives a cell the weights of a snowkylin/ntm cell (its TensorFlow 2 version).

    Args:
        cell: A cell with an LSTM controller of one layer, a learned memory, and the sizes that
            the weights were made for; it is built if need be.
        weights: The arrays under their names there: `controller/kernel`,
            `controller/recurrent_kernel`, `controller/bias`, the kernel and bias of
            `controller_output_to_params` and `controller_output_to_ntm_output`,
            `init_memory_state`, `init_carry_state`, `init_r_0` .., `init_w_0` .. (read heads
            first) and `init_M`. Other names are ignored.

    Raises:
        ValueError: The cell is of another kind, a name is missing, or a shape does not fit.
    """
    if cell.get_config()["controller"] != "lstm" or cell.controller_layers != 1:
        raise ValueError(
            "Argument `cell` must have the controller 'lstm' with controller_layers=1. "
            f"Received: controller={cell.controller!r}"
        )
    if cell.memory_initializer != "learned" or cell.output_source != "controller":
        raise ValueError(
            "Argument `cell` must have memory_initializer='learned' and "
            f"output_source='controller'. Received: {cell.memory_initializer!r}, "
            f"{cell.output_source!r}"
        )
    heads = cell.read_head_num + cell.write_head_num
    names = [
        "controller/kernel",
        "controller/recurrent_kernel",
        "controller/bias",
        "controller_output_to_params/kernel",
        "controller_output_to_params/bias",
        "controller_output_to_ntm_output/kernel",
        "controller_output_to_ntm_output/bias",
        "init_memory_state",
        "init_carry_state",
        *(f"init_r_{index}" for index in range(cell.read_head_num)),
        *(f"init_w_{index}" for index in range(heads)),
        "init_M",
    ]
    missing = [name for name in names if name not in weights]
    if missing:
        raise ValueError(f"Argument `weights` lacks {', '.join(missing)}.")
    if not cell.built:
        read_width = cell.read_head_num * cell.memory_vector_dim
        cell.build((None, weights["controller/kernel"].shape[0] - read_width))

    def stacked(prefix, count):
        return np.stack([weights[f"{prefix}_{index}"] for index in range(count)])

    controller, parameters, output = (
        cell.controller,
        cell.parameter_projection,
        cell.output_projection,
    )
    pairs = [
        (controller.kernel, weights["controller/kernel"]),
        (controller.recurrent_kernel, weights["controller/recurrent_kernel"]),
        (controller.bias, weights["controller/bias"]),
        (parameters.kernel, weights["controller_output_to_params/kernel"]),
        (parameters.bias, weights["controller_output_to_params/bias"]),
        (output.kernel, weights["controller_output_to_ntm_output/kernel"]),
        (output.bias, weights["controller_output_to_ntm_output/bias"]),
        (cell.initial_controller_state[0], weights["init_memory_state"]),
        (cell.initial_controller_state[1], weights["init_carry_state"]),
        (cell.initial_read_vectors, stacked("init_r", cell.read_head_num)),
        (cell.initial_weightings, stacked("init_w", heads)),
        (cell.initial_memory, weights["init_M"]),
    ]
    for variable, value in pairs:
        if tuple(variable.shape) != np.shape(value):
            raise ValueError(
                f"A weight does not fit the cell: expected the shape {tuple(variable.shape)}. "
                f"Received: {np.shape(value)}"
            )
        variable.assign(value)
