"""From the controller's output to what steers the heads of a MANN, and where they write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

# Before the softplus: a learned key strength begins near 1 + softplus(3) = 4.05.
_KEY_STRENGTH_OFFSET = 3.0


class MANNParameters(NamedTuple):
    """What the controller emits for the heads in one step.

    Attributes:
        key: k_t, `(batch, heads, memory_vector_dim)`, between -1 and 1.
        add_vector: a_t, what is written, of the key's shape and range; with
            `k_strategy="summary"` the key itself.
        write_gate: sigma(alpha_t), `(batch, heads)`, between 0 and 1.
        key_strength: `(batch, heads)`; 1 unless it is learned, then above 1.
    """

    key: tf.Tensor
    add_vector: tf.Tensor
    write_gate: tf.Tensor
    key_strength: tf.Tensor


def head_parameters(projection: tf.Tensor, heads: int, sizes: Sequence[int]) -> MANNParameters:
    """Constrains the controller's projected output to the ranges that the maths needs.

    Args:
        projection: `(batch, heads * sum(sizes))`, head by head.
        heads: Number of heads.
        sizes: How many numbers of a head are for key, add vector, write gate and key strength; 0
            where what is added is the key, and where the strength is not learned.

    Returns:
        The `MANNParameters`.
    """
    of_heads = tf.reshape(projection, [-1, heads, sum(sizes)])
    key, add_vector, gate, strength = tf.split(of_heads, sizes, axis=-1)
    key, write_gate = tf.tanh(key), tf.sigmoid(tf.squeeze(gate, axis=-1))
    if sizes[3]:
        key_strength = 1 + tf.nn.softplus(tf.squeeze(strength, axis=-1) + _KEY_STRENGTH_OFFSET)
    else:
        key_strength = tf.ones_like(write_gate)
    return MANNParameters(key, tf.tanh(add_vector) if sizes[1] else key, write_gate, key_strength)


def least_used_locations(usage: tf.Tensor, count: int) -> tf.Tensor:
    """The locations of the smallest usages, `(batch, count)`, the least used one first.

    Among locations that are used equally the last one counts as least used.

    Args:
        usage: w_t^u, `(batch, memory_size)`.
        count: How many locations to find.
    """
    _, from_the_end = tf.math.top_k(-tf.reverse(usage, [1]), count)
    return usage.shape[-1] - 1 - from_the_end
