"""The heads' parameters, computed from the controller's output."""

from typing import NamedTuple

import numpy as np

from ntm_keras.addressing import softmax
from ntm_keras.keras_compat import Tensor, ops


class HeadParameters(NamedTuple):
    """What the controller emits in one step; `heads` is the read heads, then the write heads.

    Attributes:
        key: k_t, `(batch, heads, memory_vector_dim)`, between -1 and 1.
        key_strength: beta_t, `(batch, heads)`, between 0 and 10.
        interpolation_gate: g_t, `(batch, heads)`, between 0 and 1.
        shift_weighting: s_t, `(batch, heads, 2 * shift_range + 1)`, summing to 1.
        sharpening: gamma_t, `(batch, heads)`, at least 1.
        erase_vector: e_t, `(batch, write heads, memory_vector_dim)`, between 0 and 1.
        add_vector: a_t, `(batch, write heads, memory_vector_dim)`, between -1 and 1.
    """

    key: Tensor
    key_strength: Tensor
    interpolation_gate: Tensor
    shift_weighting: Tensor
    sharpening: Tensor
    erase_vector: Tensor
    add_vector: Tensor


def parameter_count(
    read_head_num: int, write_head_num: int, memory_vector_dim: int, shift_range: int
) -> int:
    """How many numbers the controller emits for all heads in a step."""
    addressing = _addressing_count(memory_vector_dim, shift_range)
    return addressing * (read_head_num + write_head_num) + 2 * memory_vector_dim * write_head_num


def _addressing_count(memory_vector_dim: int, shift_range: int) -> int:
    """How many of them are for a head's key, key strength, gate, shift and sharpening."""
    return memory_vector_dim + 1 + 1 + (2 * shift_range + 1) + 1


def by_location_biases(
    read_head_num: int, write_head_num: int, memory_vector_dim: int, shift_range: int
) -> np.ndarray:
    """Biases with which heads address by location before training.

    Write heads go on by one location in each step, read heads stay where they are or go on, but
    hardly go back, and content counts little. Write heads begin more sharply than read heads, which
    have to learn when to move.

    Args:
        read_head_num: R.
        write_head_num: W.
        memory_vector_dim: M, the width of a memory row.
        shift_range: the largest shift in either direction, at least 1.

    Returns:
        `(parameter_count(..),)`, to add to the biases of the controller's projection.
    """
    content = np.zeros(memory_vector_dim + 1)
    stay, go_on, *_ = shifts = np.eye(2 * shift_range + 1)  # See `addressing.shift`.
    go_back = shifts[shift_range + 1 :].sum(axis=0)
    # The numbers for key and key strength, gate, shift and sharpening.
    read_head = [*content, -3.0, *(1.0 * stay - 3.0 * go_back), 0.0]
    write_head = [*content, -2.0, *(3.0 * go_on), 2.0]
    writing = np.zeros(2 * memory_vector_dim * write_head_num)
    return np.concatenate([*[read_head] * read_head_num, *[write_head] * write_head_num, writing])


def head_parameters(
    projection: Tensor,
    read_head_num: int,
    write_head_num: int,
    memory_vector_dim: int,
    shift_range: int,
) -> HeadParameters:
    """Constrains the controller's projected output to the ranges that the paper's maths needs.

    Args:
        projection: `(batch, parameter_count(..))`. First, head by head, the numbers for key, key
            strength, gate, shift and sharpening; then, for each write head, erase and add.
        read_head_num: R.
        write_head_num: W.
        memory_vector_dim: M, the width of a memory row.
        shift_range: the largest shift in either direction.

    Returns:
        The `HeadParameters`.
    """
    heads, width = read_head_num + write_head_num, memory_vector_dim
    per_head = _addressing_count(width, shift_range)
    addressing, writing = ops.split(projection, [heads * per_head], axis=-1)
    key, key_strength, interpolation_gate, shift_weighting, sharpening = ops.split(
        ops.reshape(addressing, [-1, heads, per_head]),
        [width, width + 1, width + 2, per_head - 1],
        axis=-1,
    )
    erase_vector, add_vector = ops.unstack(
        ops.reshape(writing, [-1, write_head_num, 2, width]), axis=2
    )
    return HeadParameters(
        key=ops.tanh(key),
        key_strength=10 * ops.sigmoid(ops.squeeze(key_strength, axis=-1)),
        interpolation_gate=ops.sigmoid(ops.squeeze(interpolation_gate, axis=-1)),
        shift_weighting=softmax(shift_weighting),
        sharpening=1 + ops.softplus(ops.squeeze(sharpening, axis=-1)),
        erase_vector=ops.sigmoid(erase_vector),
        add_vector=ops.tanh(add_vector),
    )
