"""Where a head attends: section 3.3 of the paper, equations (5) to (9).

Every function works on all heads of a batch at once. `batch` sequences, `heads` heads,
`memory_size` locations (N in the paper), `memory_vector_dim` numbers in each (M).
"""

from ntm_keras.keras_compat import Tensor, add_n, matmul, ops

# Added inside the roots of the norms, so that the gradient stays finite at a zero vector.
NORM_EPSILON = 1e-8

# Added to a weighting before its logarithm, so that a weight of zero stays finite.
LOG_EPSILON = 1e-12


def cosine_similarity(memory: Tensor, key: Tensor) -> Tensor:
    """K[k_t, M_t(i)], eq (6): the cosine similarity of each key and each memory row.

    Args:
        memory: `(batch, memory_size, memory_vector_dim)`.
        key: `(batch, heads, memory_vector_dim)`.

    Returns:
        `(batch, heads, memory_size)`, between -1 and 1.
    """
    dot = matmul(key, memory, transpose_b=True)
    return dot / (_norm(key)[:, :, None] * _norm(memory)[:, None, :])


def _norm(vector: Tensor) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(vector), axis=-1) + NORM_EPSILON)


def address_by_content(memory: Tensor, key: Tensor, key_strength: Tensor) -> Tensor:
    """w_t^c, eq (5): the softmax of the similarities times the key strength.

    Args:
        memory: M_t, `(batch, memory_size, memory_vector_dim)`.
        key: k_t, `(batch, heads, memory_vector_dim)`.
        key_strength: beta_t, `(batch, heads)`, not negative.

    Returns:
        The content weighting, `(batch, heads, memory_size)`.
    """
    return softmax(key_strength[:, :, None] * cosine_similarity(memory, key))


def interpolate(
    content_weighting: Tensor, previous_weighting: Tensor, interpolation_gate: Tensor
) -> Tensor:
    """w_t^g, eq (7): the content weighting where the gate is 1, the previous one where it is 0.

    Args:
        content_weighting: w_t^c, `(batch, heads, memory_size)`.
        previous_weighting: w_{t-1}, `(batch, heads, memory_size)`.
        interpolation_gate: g_t, `(batch, heads)`, between 0 and 1.

    Returns:
        The gated weighting, `(batch, heads, memory_size)`.
    """
    gate = interpolation_gate[:, :, None]
    return gate * content_weighting + (1 - gate) * previous_weighting


def shift(weighting: Tensor, shift_weighting: Tensor) -> Tensor:
    """w~_t, eq (8): the circular convolution with the shift weighting.

    Args:
        weighting: w_t^g, `(batch, heads, memory_size)`.
        shift_weighting: s_t, `(batch, heads, 2 * shift_range + 1)`, summing to 1. `s[k]` moves
            the focus by `+k`, and, counted from the end as in Python, `s[-k]` by `-k`.

    Returns:
        The shifted weighting, `(batch, heads, memory_size)`.
    """
    return add_n(
        [weight * roll(weighting, offset) for offset, weight in weighted_shifts(shift_weighting)]
    )


def weighted_shifts(shift_weighting: Tensor) -> list[tuple[int, Tensor]]:
    """Every offset and its weight, `(batch, heads, 1)`, in the order of the shift weighting."""
    shift_range = shift_weighting.shape[-1] // 2
    offsets = [*range(shift_range + 1), *range(-shift_range, 0)]
    return list(zip(offsets, ops.split(shift_weighting, len(offsets), axis=-1), strict=True))


def roll(weighting: Tensor, offset: int) -> Tensor:
    """`ops.roll` along the last axis; in TensorFlow, outside XLA, several times faster."""
    if offset == 0:
        return weighting
    size = weighting.shape[-1]
    kept, around = ops.split(weighting, [size - offset % size], axis=-1)
    return ops.concatenate([around, kept], axis=-1)


def sharpen(weighting: Tensor, sharpening: Tensor) -> Tensor:
    """w_t, eq (9): the weighting to the power gamma, normalised to sum to 1.

    Computed as the softmax of `gamma log(w)`, which neither overflows nor divides by zero.

    Args:
        weighting: w~_t, `(batch, heads, memory_size)`.
        sharpening: gamma_t, `(batch, heads)`, at least 1.

    Returns:
        The sharpened weighting, `(batch, heads, memory_size)`; uniform if `weighting` is all
            zeros.
    """
    return softmax(sharpening[:, :, None] * ops.log(weighting + LOG_EPSILON))


def softmax(exponents: Tensor) -> Tensor:
    """`ops.softmax` along the last axis; in TensorFlow three times as fast for short rows."""
    largest = ops.stop_gradient(ops.max(exponents, axis=-1, keepdims=True))
    powers = ops.exp(exponents - largest)
    return powers / ops.sum(powers, axis=-1, keepdims=True)
