"""The parameters of a MANN's heads, computed from the controller's output."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ntm_keras.keras_compat import Tensor, ops

# Added before the softplus: a learned key strength begins near 1 + softplus(3) = 4.05.
_KEY_STRENGTH_OFFSET = 3.0


class MANNParameters(NamedTuple):
    """What the controller emits for the heads in one step.

    Attributes:
        key: k_t, `(batch, heads, memory_vector_dim)`, between -1 and 1.
        add_vector: a_t, in the key's shape and range; with `k_strategy="summary"` the key itself.
        write_gate: sigma(alpha_t), `(batch, heads)`, between 0 and 1.
        key_strength: `(batch, heads)`, above 1; exactly 1 if it is not learned.
    """

    key: Tensor
    add_vector: Tensor
    write_gate: Tensor
    key_strength: Tensor


def head_parameters(projection: Tensor, heads: int, sizes: Sequence[int]) -> MANNParameters:
    """Constrains the controller's projected output to the ranges that the maths needs.

    Args:
        projection: `(batch, heads * sum(sizes))`, head by head.
        heads: Number of heads.
        sizes: How many numbers a head has for key, add vector, write gate and key strength. The
            second is 0 if the add vector is the key, the fourth if the strength is not learned.

    Returns:
        The `MANNParameters`.
    """
    per_head = ops.reshape(projection, [-1, heads, sum(sizes)])
    ends = list(itertools.accumulate(sizes))
    key, add_vector, gate, strength = ops.split(per_head, ends[:-1], axis=-1)
    key, write_gate = ops.tanh(key), ops.sigmoid(ops.squeeze(gate, axis=-1))
    if sizes[3]:
        key_strength = 1 + ops.softplus(ops.squeeze(strength, axis=-1) + _KEY_STRENGTH_OFFSET)
    else:
        key_strength = ops.ones_like(write_gate)
    return MANNParameters(key, ops.tanh(add_vector) if sizes[1] else key, write_gate, key_strength)


def least_used_locations(usage: Tensor, count: int) -> Tensor:
    """The locations with the smallest usages, `(batch, count)`, the least used first.

    Among equally used locations the last one comes first; on PyTorch no order is promised.

    Args:
        usage: w_t^u, `(batch, memory_size)`.
        count: How many locations to find.
    """
    _, from_the_end = ops.top_k(-ops.flip(usage, axis=1), count)
    return usage.shape[-1] - 1 - from_the_end
