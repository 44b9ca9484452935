"""The parts of one step with hand-written gradients, for the fast loops.

Each part is a pair of functions. The first also returns what the gradient needs. The second is the
gradient; its arguments and results `d_x` are the gradients of the loss by `x`. The equations are
explained in addressing.py, memory.py and heads.py; here they are arranged for speed:

* The memory is transposed, `(batch, memory_vector_dim, memory_size)`, so that operations on all
  locations run along the last axis.
* Sigmoids are computed from hyperbolic tangents, so that one tanh serves many parameters.
* Products of heads with the memory are computed head by head: for a few heads, compilers make
  faster code from products of a matrix and a vector than from small matrix products.

In the shapes, `heads` is the read heads, then the write heads.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from ntm_keras.addressing import (
    LOG_EPSILON,
    NORM_EPSILON,
    interpolate,
    softmax,
    weighted_shifts,
)
from ntm_keras.heads import HeadParameters

# LSTM layers, from the preactivation (weights times inputs) to the output.


def lstm(preactivation: tf.Tensor, carry: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Output, carry and gates of an LSTM; the gates are in Keras's order: i, f, c~, o."""
    scale = _per_gate(preactivation, 0.5, 1.0)
    gates = scale * tf.tanh(scale * preactivation) + (1 - scale)
    return *_through_gates(gates, carry), gates


class LSTMSlopes(NamedTuple):
    """Factors that a gradient is multiplied by on its way back through an LSTM.

    Attributes:
        preactivation: The factor from the carry (for i, f and c~) or the output (for o) to the
            preactivation.
        output: The factor from the output to the carry.
        forget: The factor from the carry to the previous carry.
    """

    preactivation: tf.Tensor
    output: tf.Tensor
    forget: tf.Tensor


def lstm_slopes(gates: tf.Tensor, carry_before: tf.Tensor) -> LSTMSlopes:
    """The slopes of `lstm`."""
    # A sigmoid's slope is s (1 - s), a tanh's (1 + t) (1 - t).
    sigmoid = _per_gate(gates, 1.0, 0.0)
    slope = (1 - gates) * (sigmoid * gates + (1 - sigmoid) * (1 + gates))
    return _slopes_through_gates(gates, carry_before, slope)


def counting_lstm(
    preactivation: tf.Tensor, carry: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Like `lstm`, for a `CountingLSTMCell`: hard gates, and a candidate without tanh."""
    hard = tf.clip_by_value(preactivation / 6 + 0.5, 0, 1)
    gates = tf.where(_per_gate(preactivation, 1.0, 0.0) > 0, hard, preactivation)
    return *_through_gates(gates, carry), gates


def counting_lstm_slopes(gates: tf.Tensor, carry_before: tf.Tensor) -> LSTMSlopes:
    """The slopes of `counting_lstm`."""
    is_moving = tf.cast((gates > 0) & (gates < 1), gates.dtype)
    is_gate = _per_gate(gates, 1.0, 0.0)
    return _slopes_through_gates(gates, carry_before, is_gate * is_moving / 6 + (1 - is_gate))


def lstm_gradient(
    slopes: LSTMSlopes, d_output: tf.Tensor, d_carry: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradients by the preactivation and the previous carry, for either LSTM."""
    d_carry += d_output * slopes.output
    d_gates = tf.concat([d_carry, d_carry, d_carry, d_output], axis=-1)
    return d_gates * slopes.preactivation, d_carry * slopes.forget


def _through_gates(gates: tf.Tensor, carry: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    i, f, candidate, o = tf.split(gates, 4, axis=-1)
    carry = f * carry + i * candidate
    return o * tf.tanh(carry), carry


def _slopes_through_gates(
    gates: tf.Tensor, carry_before: tf.Tensor, slope_of_gates: tf.Tensor
) -> LSTMSlopes:
    i, f, candidate, o = tf.split(gates, 4, axis=-1)
    squashed = tf.tanh(f * carry_before + i * candidate)
    factors = tf.concat([candidate, carry_before, i, squashed], axis=-1)
    return LSTMSlopes(factors * slope_of_gates, o * (1 - squashed**2), f)


def _per_gate(gates: tf.Tensor, gate: float, candidate: float) -> tf.Tensor:
    """A constant in the gates' order: `gate` for i, f and o, and `candidate` for c~."""
    units = gates.shape[-1] // 4
    numbers = [gate] * 2 * units + [candidate] * units + [gate] * units
    return tf.constant(numbers, gates.dtype)


# The heads' parameters.


class HeadSizes(NamedTuple):
    """The sizes that say which number of the projection is for which parameter."""

    read_heads: int
    write_heads: int
    memory_vector_dim: int
    shift_range: int


class SquashedHeads(NamedTuple):
    """All that a step keeps of its head parameters; `head_parameters` computes the rest.

    Attributes:
        tanh: For keys and add vectors the tanh of the projection, elsewhere the tanh of half the
            projection.
        shift_weighting: s_t.
        sharpening: gamma_t.
    """

    tanh: tf.Tensor
    shift_weighting: tf.Tensor
    sharpening: tf.Tensor


def squash(projection: tf.Tensor, sizes: HeadSizes) -> SquashedHeads:
    """The `SquashedHeads` of the controller's projected output, described in heads.py."""
    width, shifts = sizes.memory_vector_dim, 2 * sizes.shift_range + 1
    per_head = [1.0] * width + [0.5] * (shifts + 3)
    per_write_head = [0.5] * width + [1.0] * width
    scale = per_head * (sizes.read_heads + sizes.write_heads) + per_write_head * sizes.write_heads
    parameters = _split(projection, sizes)
    return SquashedHeads(
        tf.tanh(tf.constant(scale, projection.dtype) * projection),
        softmax(parameters.shift_weighting),
        1 + tf.nn.softplus(parameters.sharpening),
    )


def head_parameters(squashed: SquashedHeads, sizes: HeadSizes) -> HeadParameters:
    """The heads' parameters in their ranges."""
    tanh = _split(squashed.tanh, sizes)
    return HeadParameters(
        key=tanh.key,
        key_strength=5 + 5 * tanh.key_strength,
        interpolation_gate=0.5 + 0.5 * tanh.interpolation_gate,
        shift_weighting=squashed.shift_weighting,
        sharpening=squashed.sharpening,
        erase_vector=0.5 + 0.5 * tanh.erase_vector,
        add_vector=tanh.add_vector,
    )


def head_slopes(squashed: SquashedHeads, sizes: HeadSizes) -> tf.Tensor:
    """The slope of each parameter by its number in the projection; s_t for the shift weighting."""
    tanh = _split(squashed.tanh, sizes)
    slope = HeadParameters(*(1 - each**2 for each in tanh))
    return _join(
        slope._replace(
            key_strength=2.5 * slope.key_strength,
            interpolation_gate=0.25 * slope.interpolation_gate,
            shift_weighting=squashed.shift_weighting,
            sharpening=0.5 + 0.5 * tanh.sharpening,
            erase_vector=0.25 * slope.erase_vector,
        )
    )


def head_parameters_gradient(
    slopes: tf.Tensor, shift_weighting: tf.Tensor, d_parameters: HeadParameters
) -> tf.Tensor:
    """The gradient by the projection."""
    d_shift_weighting = d_parameters.shift_weighting
    mean = tf.reduce_sum(shift_weighting * d_shift_weighting, axis=-1, keepdims=True)
    return slopes * _join(d_parameters._replace(shift_weighting=d_shift_weighting - mean))


def _split(projection: tf.Tensor, sizes: HeadSizes) -> HeadParameters:
    """A projection split into the numbers for each parameter."""
    heads, width = sizes.read_heads + sizes.write_heads, sizes.memory_vector_dim
    widths = [width, 1, 1, 2 * sizes.shift_range + 1, 1]
    addressing, writing = tf.split(
        projection, [heads * sum(widths), sizes.write_heads * 2 * width], axis=-1
    )
    key, strength, gate, shift_weighting, sharpening = tf.split(
        tf.reshape(addressing, [-1, heads, sum(widths)]), widths, axis=-1
    )
    erase_vector, add_vector = tf.split(
        tf.reshape(writing, [-1, sizes.write_heads, 2 * width]), 2, axis=-1
    )
    return HeadParameters(
        key=key,
        key_strength=tf.squeeze(strength, 2),
        interpolation_gate=tf.squeeze(gate, 2),
        shift_weighting=shift_weighting,
        sharpening=tf.squeeze(sharpening, 2),
        erase_vector=erase_vector,
        add_vector=add_vector,
    )


def _join(parameters: HeadParameters) -> tf.Tensor:
    """The inverse of `_split`."""
    addressing = [
        parameters.key,
        tf.expand_dims(parameters.key_strength, 2),
        tf.expand_dims(parameters.interpolation_gate, 2),
        parameters.shift_weighting,
        tf.expand_dims(parameters.sharpening, 2),
    ]
    writing = [parameters.erase_vector, parameters.add_vector]
    joined = [tf.concat(part, axis=-1) for part in (addressing, writing)]
    return tf.concat(
        [tf.reshape(part, [-1, part.shape[1] * part.shape[2]]) for part in joined], axis=-1
    )


# Addressing by content: equations (5) and (6).


class KeptContent(NamedTuple):
    """What `address_by_content_gradient` needs.

    Attributes:
        inverse_norm: 1 / |M(i)|, `(batch, memory_size)`.
        similarity: K[k, M(i)], `(batch, heads, memory_size)`.
        weighting: w^c, in the same shape.
    """

    inverse_norm: tf.Tensor
    similarity: tf.Tensor
    weighting: tf.Tensor


def address_by_content(
    memory: tf.Tensor, key: tf.Tensor, key_strength: tf.Tensor, is_bounded: bool = True
) -> tuple[tf.Tensor, KeptContent]:
    """w^c, eq (5); `is_bounded` says that key strengths are at most 10."""
    inverse_norm = tf.math.rsqrt(tf.reduce_sum(memory**2, axis=1) + NORM_EPSILON)
    similarity = along_width(memory, key) * _inverse_norms(key, inverse_norm)
    strength = tf.expand_dims(key_strength, 2)
    if is_bounded:
        # Exponents lie between -20 and 0: the sum can neither overflow nor vanish, so the maximum
        # need not be subtracted.
        power = tf.exp(strength * (similarity - 1))
        weighting = power / tf.reduce_sum(power, axis=-1, keepdims=True)
    else:
        weighting = softmax(strength * similarity)
    return weighting, KeptContent(inverse_norm, similarity, weighting)


def address_by_content_gradient(
    memory: tf.Tensor,
    key: tf.Tensor,
    key_strength: tf.Tensor,
    kept: KeptContent,
    d_weighting: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients by key and key strength, and two factors of the gradient by the memory.

    The factors are `d_dot`, `(batch, heads, memory_size)`, which is the gradient by the products of
    keys and memory, and `decay`, `(batch, memory_size)`. The gradient by the memory is
    `key^T d_dot - memory decay`.
    """
    d_exponent = _softmax_gradient(kept.weighting, d_weighting)
    d_key_strength = tf.reduce_sum(d_exponent * kept.similarity, axis=-1)
    d_similarity = d_exponent * tf.expand_dims(key_strength, 2)
    d_dot = d_similarity * _inverse_norms(key, kept.inverse_norm)
    d_scale = d_similarity * kept.similarity
    key_decay = tf.reduce_sum(d_scale, axis=-1, keepdims=True) * _inverse_key_norm(key) ** 2
    d_key = along_locations(memory, d_dot) - key * key_decay
    return d_key, d_key_strength, d_dot, tf.reduce_sum(d_scale, axis=1) * kept.inverse_norm**2


def _inverse_norms(key: tf.Tensor, inverse_norm: tf.Tensor) -> tf.Tensor:
    """1 / (|k| |M(i)|), `(batch, heads, memory_size)`."""
    return _inverse_key_norm(key) * tf.expand_dims(inverse_norm, 1)


def _inverse_key_norm(key: tf.Tensor) -> tf.Tensor:
    return tf.math.rsqrt(tf.reduce_sum(key**2, axis=-1, keepdims=True) + NORM_EPSILON)


def _softmax_gradient(weighting: tf.Tensor, d_weighting: tf.Tensor) -> tf.Tensor:
    along = tf.reduce_sum(weighting * d_weighting, axis=-1, keepdims=True)
    return weighting * (d_weighting - along)


# Addressing by location: equations (7) to (9).


class KeptLocation(NamedTuple):
    """What `address_by_location_gradient` needs.

    Attributes:
        gated_weighting: w^g, eq (7), `(batch, heads, memory_size)`.
        log_shifted_weighting: log w~, eq (8), in the same shape.
    """

    gated_weighting: tf.Tensor
    log_shifted_weighting: tf.Tensor


def address_by_location(
    content_weighting: tf.Tensor, previous_weighting: tf.Tensor, parameters: HeadParameters
) -> tuple[tf.Tensor, KeptLocation]:
    """w_t, eq (9)."""
    gated = interpolate(content_weighting, previous_weighting, parameters.interpolation_gate)
    shifts = weighted_shifts(parameters.shift_weighting)
    shifted = tf.add_n([weight * _roll(gated, offset) for offset, weight in shifts])
    log_shifted = tf.math.log(shifted + LOG_EPSILON)
    weighting = softmax(tf.expand_dims(parameters.sharpening, 2) * log_shifted)
    return weighting, KeptLocation(gated, log_shifted)


def sharpening_slope(kept: KeptLocation, sharpening: tf.Tensor) -> tf.Tensor:
    """The slope of the exponents of eq (9) by the shifted weighting."""
    return tf.exp(-kept.log_shifted_weighting) * tf.expand_dims(sharpening, 2)


def address_by_location_gradient(
    content_weighting: tf.Tensor,
    previous_weighting: tf.Tensor,
    parameters: HeadParameters,
    kept: KeptLocation,
    slope: tf.Tensor,
    weighting: tf.Tensor,
    d_weighting: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients by content weighting, previous weighting, gate, shift weighting and sharpening;
    `slope` is the `sharpening_slope`."""
    gated, log_shifted = kept
    d_exponent = _softmax_gradient(weighting, d_weighting)
    d_sharpening = tf.reduce_sum(d_exponent * log_shifted, axis=-1)
    # For a weight near 0, d_exponent is small and the slope large: multiply them first.
    d_shifted = d_exponent * slope
    shifts = weighted_shifts(parameters.shift_weighting)
    d_shift_weighting = [
        tf.reduce_sum(d_shifted * _roll(gated, offset), axis=-1) for offset, _ in shifts
    ]
    d_gated = tf.add_n([weight * _roll(d_shifted, -offset) for offset, weight in shifts])
    d_gate = tf.reduce_sum(d_gated * (content_weighting - previous_weighting), axis=-1)
    gate = tf.expand_dims(parameters.interpolation_gate, 2)
    return (
        gate * d_gated,
        (1 - gate) * d_gated,
        d_gate,
        tf.stack(d_shift_weighting, axis=-1),
        d_sharpening,
    )


def _roll(weighting: tf.Tensor, offset: int) -> tf.Tensor:
    """Like `addressing.roll`, but faster under XLA."""
    # A positive axis: `tf.vectorized_map` would take -1 for the axis that it adds.
    return tf.roll(weighting, offset, axis=weighting.shape.rank - 1)


# Reading and writing: equations (2) to (4).


def along_width(memory: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """The products of each head's vector with every location: `(batch, heads, memory_size)`."""
    return tf.stack(
        [
            tf.linalg.matvec(memory, vector, transpose_a=True)
            for vector in tf.unstack(vectors, axis=1)
        ],
        axis=1,
    )


def along_locations(memory: tf.Tensor, weightings: tf.Tensor) -> tf.Tensor:
    """Each head's weighted sum of the locations, eq (2): `(batch, heads, memory_vector_dim)`."""
    return tf.stack(
        [tf.linalg.matvec(memory, weighting) for weighting in tf.unstack(weightings, axis=1)],
        axis=1,
    )


def outer(vectors: tf.Tensor, weightings: tf.Tensor) -> list[tf.Tensor]:
    """For each head, the outer product of its vector and its weighting, in the memory's shape."""
    pairs = zip(tf.unstack(vectors, axis=1), tf.unstack(weightings, axis=1))
    return [tf.expand_dims(vector, 2) * tf.expand_dims(weighting, 1) for vector, weighting in pairs]


def write(
    memory: tf.Tensor,
    weighting: tf.Tensor,
    erase_vector: tf.Tensor,
    add_vector: tf.Tensor,
    order: str,
) -> tf.Tensor:
    """M_t, eq (3) and (4), in either order of memory.py."""
    erasures, additions = outer(erase_vector, weighting), outer(add_vector, weighting)
    if order == "simultaneous":
        return erase(memory, erasures) + tf.add_n(additions)
    for erasure, addition in zip(erasures, additions):
        memory = memory * (1 - erasure) + addition
    return memory


def erase(memory: tf.Tensor, erasures: list[tf.Tensor]) -> tf.Tensor:
    """M~_t, eq (3). A write's gradient by the memory is computed in the same way."""
    for erasure in erasures:
        memory = memory * (1 - erasure)
    return memory


def write_gradient(
    memory: tf.Tensor,
    weighting: tf.Tensor,
    erase_vector: tf.Tensor,
    add_vector: tf.Tensor,
    order: str,
    d_memory: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients by weighting, erase vector and add vector; `d_memory` is dL/dM_t."""
    erasures, additions = outer(erase_vector, weighting), outer(add_vector, weighting)
    before_erasing = []
    for erasure, addition in zip(erasures, additions):
        before_erasing.append(memory)
        memory = memory * (1 - erasure) + (addition if order == "sequential" else 0)
    gradients = []
    d_addition = d_memory
    for head in reversed(range(len(erasures))):
        if order == "sequential":
            d_addition = d_memory
        d_erasure = -d_memory * before_erasing[head]
        gradients.append(
            (
                tf.linalg.matvec(d_addition, add_vector[:, head], transpose_a=True)
                + tf.linalg.matvec(d_erasure, erase_vector[:, head], transpose_a=True),
                tf.linalg.matvec(d_erasure, weighting[:, head]),
                tf.linalg.matvec(d_addition, weighting[:, head]),
            )
        )
        d_memory = d_memory * (1 - erasures[head])
    d_weighting, d_erase, d_add = (tf.stack(each[::-1], axis=1) for each in zip(*gradients))
    return d_weighting, d_erase, d_add
