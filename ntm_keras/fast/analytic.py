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

import itertools
from typing import NamedTuple

from ntm_keras.addressing import (
    LOG_EPSILON,
    NORM_EPSILON,
    interpolate,
    softmax,
    weighted_shifts,
)
from ntm_keras.heads import HeadParameters
from ntm_keras.keras_compat import Tensor, add_n, matmul, ops

# LSTM layers, from the preactivation (weights times inputs) to the output.


def lstm(preactivation: Tensor, carry: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, carry and gates of an LSTM; the gates are in Keras's order: i, f, c~, o."""
    scale = _per_gate(preactivation, 0.5, 1.0)
    gates = scale * ops.tanh(scale * preactivation) + (1 - scale)
    return *_through_gates(gates, carry), gates


class LSTMSlopes(NamedTuple):
    """Factors that a gradient is multiplied by on its way back through an LSTM.

    Attributes:
        preactivation: The factor from the carry (for i, f and c~) or the output (for o) to the
            preactivation.
        output: The factor from the output to the carry.
        forget: The factor from the carry to the previous carry.
    """

    preactivation: Tensor
    output: Tensor
    forget: Tensor


def lstm_slopes(gates: Tensor, carry_before: Tensor) -> LSTMSlopes:
    """The slopes of `lstm`."""
    # A sigmoid's slope is s (1 - s), a tanh's (1 + t) (1 - t).
    sigmoid = _per_gate(gates, 1.0, 0.0)
    slope = (1 - gates) * (sigmoid * gates + (1 - sigmoid) * (1 + gates))
    return _slopes_through_gates(gates, carry_before, slope)


def counting_lstm(preactivation: Tensor, carry: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Like `lstm`, for a `CountingLSTMCell`: hard gates, and a candidate without tanh."""
    hard = ops.clip(preactivation / 6 + 0.5, 0, 1)
    gates = ops.where(_per_gate(preactivation, 1.0, 0.0) > 0, hard, preactivation)
    return *_through_gates(gates, carry), gates


def counting_lstm_slopes(gates: Tensor, carry_before: Tensor) -> LSTMSlopes:
    """The slopes of `counting_lstm`."""
    is_moving = ops.cast((gates > 0) & (gates < 1), gates.dtype)
    is_gate = _per_gate(gates, 1.0, 0.0)
    return _slopes_through_gates(gates, carry_before, is_gate * is_moving / 6 + (1 - is_gate))


def lstm_gradient(slopes: LSTMSlopes, d_output: Tensor, d_carry: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients by the preactivation and the previous carry, for either LSTM."""
    d_carry += d_output * slopes.output
    d_gates = ops.concatenate([d_carry, d_carry, d_carry, d_output], axis=-1)
    return d_gates * slopes.preactivation, d_carry * slopes.forget


def _through_gates(gates: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    i, f, candidate, o = ops.split(gates, 4, axis=-1)
    carry = f * carry + i * candidate
    return o * ops.tanh(carry), carry


def _slopes_through_gates(
    gates: Tensor, carry_before: Tensor, slope_of_gates: Tensor
) -> LSTMSlopes:
    i, f, candidate, o = ops.split(gates, 4, axis=-1)
    squashed = ops.tanh(f * carry_before + i * candidate)
    factors = ops.concatenate([candidate, carry_before, i, squashed], axis=-1)
    return LSTMSlopes(factors * slope_of_gates, o * (1 - squashed**2), f)


def _per_gate(gates: Tensor, gate: float, candidate: float) -> Tensor:
    """A constant in the gates' order: `gate` for i, f and o, and `candidate` for c~."""
    units = gates.shape[-1] // 4
    numbers = [gate] * 2 * units + [candidate] * units + [gate] * units
    return ops.convert_to_tensor(numbers, gates.dtype)


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

    tanh: Tensor
    shift_weighting: Tensor
    sharpening: Tensor


def squash(projection: Tensor, sizes: HeadSizes) -> SquashedHeads:
    """The `SquashedHeads` of the controller's projected output, described in heads.py."""
    width, shifts = sizes.memory_vector_dim, 2 * sizes.shift_range + 1
    per_head = [1.0] * width + [0.5] * (shifts + 3)
    per_write_head = [0.5] * width + [1.0] * width
    scale = per_head * (sizes.read_heads + sizes.write_heads) + per_write_head * sizes.write_heads
    parameters = _split(projection, sizes)
    return SquashedHeads(
        ops.tanh(ops.convert_to_tensor(scale, projection.dtype) * projection),
        softmax(parameters.shift_weighting),
        1 + ops.softplus(parameters.sharpening),
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


def head_slopes(squashed: SquashedHeads, sizes: HeadSizes) -> Tensor:
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
    slopes: Tensor, shift_weighting: Tensor, d_parameters: HeadParameters
) -> Tensor:
    """The gradient by the projection."""
    d_shift_weighting = d_parameters.shift_weighting
    mean = ops.sum(shift_weighting * d_shift_weighting, axis=-1, keepdims=True)
    return slopes * _join(d_parameters._replace(shift_weighting=d_shift_weighting - mean))


def _split(projection: Tensor, sizes: HeadSizes) -> HeadParameters:
    """A projection split into the numbers for each parameter."""
    heads, width = sizes.read_heads + sizes.write_heads, sizes.memory_vector_dim
    widths = [width, 1, 1, 2 * sizes.shift_range + 1, 1]
    ends = list(itertools.accumulate(widths[:-1]))
    addressing, writing = ops.split(projection, [heads * sum(widths)], axis=-1)
    key, strength, gate, shift_weighting, sharpening = ops.split(
        ops.reshape(addressing, [-1, heads, sum(widths)]), ends, axis=-1
    )
    erase_vector, add_vector = ops.split(
        ops.reshape(writing, [-1, sizes.write_heads, 2 * width]), 2, axis=-1
    )
    return HeadParameters(
        key=key,
        key_strength=ops.squeeze(strength, 2),
        interpolation_gate=ops.squeeze(gate, 2),
        shift_weighting=shift_weighting,
        sharpening=ops.squeeze(sharpening, 2),
        erase_vector=erase_vector,
        add_vector=add_vector,
    )


def _join(parameters: HeadParameters) -> Tensor:
    """The inverse of `_split`."""
    addressing = [
        parameters.key,
        ops.expand_dims(parameters.key_strength, 2),
        ops.expand_dims(parameters.interpolation_gate, 2),
        parameters.shift_weighting,
        ops.expand_dims(parameters.sharpening, 2),
    ]
    writing = [parameters.erase_vector, parameters.add_vector]
    joined = [ops.concatenate(part, axis=-1) for part in (addressing, writing)]
    return ops.concatenate(
        [ops.reshape(part, [-1, part.shape[1] * part.shape[2]]) for part in joined], axis=-1
    )


# Addressing by content: equations (5) and (6).


class KeptContent(NamedTuple):
    """What `address_by_content_gradient` needs.

    Attributes:
        inverse_norm: 1 / |M(i)|, `(batch, memory_size)`.
        similarity: K[k, M(i)], `(batch, heads, memory_size)`.
        weighting: w^c, in the same shape.
    """

    inverse_norm: Tensor
    similarity: Tensor
    weighting: Tensor


def address_by_content(
    memory: Tensor, key: Tensor, key_strength: Tensor, is_bounded: bool = True
) -> tuple[Tensor, KeptContent]:
    """w^c, eq (5); `is_bounded` says that key strengths are at most 10."""
    inverse_norm = ops.rsqrt(ops.sum(memory**2, axis=1) + NORM_EPSILON)
    similarity = along_width(memory, key) * _inverse_norms(key, inverse_norm)
    strength = ops.expand_dims(key_strength, 2)
    if is_bounded:
        # Exponents lie between -20 and 0: the sum can neither overflow nor vanish, so the maximum
        # need not be subtracted.
        power = ops.exp(strength * (similarity - 1))
        weighting = power / ops.sum(power, axis=-1, keepdims=True)
    else:
        weighting = softmax(strength * similarity)
    return weighting, KeptContent(inverse_norm, similarity, weighting)


def address_by_content_gradient(
    memory: Tensor,
    key: Tensor,
    key_strength: Tensor,
    kept: KeptContent,
    d_weighting: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients by key and key strength, and two factors of the gradient by the memory.

    The factors are `d_dot`, `(batch, heads, memory_size)`, which is the gradient by the products of
    keys and memory, and `decay`, `(batch, memory_size)`. The gradient by the memory is
    `key^T d_dot - memory decay`.
    """
    d_exponent = _softmax_gradient(kept.weighting, d_weighting)
    d_key_strength = ops.sum(d_exponent * kept.similarity, axis=-1)
    d_similarity = d_exponent * ops.expand_dims(key_strength, 2)
    d_dot = d_similarity * _inverse_norms(key, kept.inverse_norm)
    d_scale = d_similarity * kept.similarity
    key_decay = ops.sum(d_scale, axis=-1, keepdims=True) * _inverse_key_norm(key) ** 2
    d_key = along_locations(memory, d_dot) - key * key_decay
    return d_key, d_key_strength, d_dot, ops.sum(d_scale, axis=1) * kept.inverse_norm**2


def _inverse_norms(key: Tensor, inverse_norm: Tensor) -> Tensor:
    """1 / (|k| |M(i)|), `(batch, heads, memory_size)`."""
    return _inverse_key_norm(key) * ops.expand_dims(inverse_norm, 1)


def _inverse_key_norm(key: Tensor) -> Tensor:
    return ops.rsqrt(ops.sum(key**2, axis=-1, keepdims=True) + NORM_EPSILON)


def _softmax_gradient(weighting: Tensor, d_weighting: Tensor) -> Tensor:
    along = ops.sum(weighting * d_weighting, axis=-1, keepdims=True)
    return weighting * (d_weighting - along)


# Addressing by location: equations (7) to (9).


class KeptLocation(NamedTuple):
    """What `address_by_location_gradient` needs.

    Attributes:
        gated_weighting: w^g, eq (7), `(batch, heads, memory_size)`.
        log_shifted_weighting: log w~, eq (8), in the same shape.
    """

    gated_weighting: Tensor
    log_shifted_weighting: Tensor


def address_by_location(
    content_weighting: Tensor, previous_weighting: Tensor, parameters: HeadParameters
) -> tuple[Tensor, KeptLocation]:
    """w_t, eq (9)."""
    gated = interpolate(content_weighting, previous_weighting, parameters.interpolation_gate)
    shifts = weighted_shifts(parameters.shift_weighting)
    shifted = add_n([weight * _roll(gated, offset) for offset, weight in shifts])
    log_shifted = ops.log(shifted + LOG_EPSILON)
    weighting = softmax(ops.expand_dims(parameters.sharpening, 2) * log_shifted)
    return weighting, KeptLocation(gated, log_shifted)


def sharpening_slope(kept: KeptLocation, sharpening: Tensor) -> Tensor:
    """The slope of the exponents of eq (9) by the shifted weighting."""
    return ops.exp(-kept.log_shifted_weighting) * ops.expand_dims(sharpening, 2)


def address_by_location_gradient(
    content_weighting: Tensor,
    previous_weighting: Tensor,
    parameters: HeadParameters,
    kept: KeptLocation,
    slope: Tensor,
    weighting: Tensor,
    d_weighting: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients by content weighting, previous weighting, gate, shift weighting and sharpening;
    `slope` is the `sharpening_slope`."""
    gated, log_shifted = kept
    d_exponent = _softmax_gradient(weighting, d_weighting)
    d_sharpening = ops.sum(d_exponent * log_shifted, axis=-1)
    # For a weight near 0, d_exponent is small and the slope large: multiply them first.
    d_shifted = d_exponent * slope
    shifts = weighted_shifts(parameters.shift_weighting)
    d_shift_weighting = [ops.sum(d_shifted * _roll(gated, offset), axis=-1) for offset, _ in shifts]
    d_gated = add_n([weight * _roll(d_shifted, -offset) for offset, weight in shifts])
    d_gate = ops.sum(d_gated * (content_weighting - previous_weighting), axis=-1)
    gate = ops.expand_dims(parameters.interpolation_gate, 2)
    return (
        gate * d_gated,
        (1 - gate) * d_gated,
        d_gate,
        ops.stack(d_shift_weighting, axis=-1),
        d_sharpening,
    )


def _roll(weighting: Tensor, offset: int) -> Tensor:
    """Like `addressing.roll`, but faster under XLA."""
    # A positive axis: `tf.vectorized_map` would take -1 for the axis that it adds.
    return ops.roll(weighting, offset, axis=len(weighting.shape) - 1)


# Reading and writing: equations (2) to (4).


def along_width(memory: Tensor, vectors: Tensor) -> Tensor:
    """The products of each head's vector with every location: `(batch, heads, memory_size)`."""
    return ops.stack(
        [matvec(memory, vector, transpose=True) for vector in ops.unstack(vectors, axis=1)],
        axis=1,
    )


def along_locations(memory: Tensor, weightings: Tensor) -> Tensor:
    """Each head's weighted sum of the locations, eq (2): `(batch, heads, memory_vector_dim)`."""
    return ops.stack(
        [matvec(memory, weighting) for weighting in ops.unstack(weightings, axis=1)],
        axis=1,
    )


def matvec(matrix: Tensor, vector: Tensor, transpose: bool = False) -> Tensor:
    """The product of each matrix of a batch, or its transpose, with a vector."""
    return ops.squeeze(matmul(matrix, ops.expand_dims(vector, -1), transpose_a=transpose), -1)


def outer(vectors: Tensor, weightings: Tensor) -> list[Tensor]:
    """For each head, the outer product of its vector and its weighting, in the memory's shape."""
    pairs = zip(ops.unstack(vectors, axis=1), ops.unstack(weightings, axis=1))
    return [
        ops.expand_dims(vector, 2) * ops.expand_dims(weighting, 1) for vector, weighting in pairs
    ]


def write(
    memory: Tensor,
    weighting: Tensor,
    erase_vector: Tensor,
    add_vector: Tensor,
    order: str,
) -> Tensor:
    """M_t, eq (3) and (4), in either order of memory.py."""
    erasures, additions = outer(erase_vector, weighting), outer(add_vector, weighting)
    if order == "simultaneous":
        return erase(memory, erasures) + add_n(additions)
    for erasure, addition in zip(erasures, additions):
        memory = memory * (1 - erasure) + addition
    return memory


def erase(memory: Tensor, erasures: list[Tensor]) -> Tensor:
    """M~_t, eq (3). A write's gradient by the memory is computed in the same way."""
    for erasure in erasures:
        memory = memory * (1 - erasure)
    return memory


def write_gradient(
    memory: Tensor,
    weighting: Tensor,
    erase_vector: Tensor,
    add_vector: Tensor,
    order: str,
    d_memory: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
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
                matvec(d_addition, add_vector[:, head], transpose=True)
                + matvec(d_erasure, erase_vector[:, head], transpose=True),
                matvec(d_erasure, weighting[:, head]),
                matvec(d_addition, weighting[:, head]),
            )
        )
        d_memory = d_memory * (1 - erasures[head])
    d_weighting, d_erase, d_add = (ops.stack(each[::-1], axis=1) for each in zip(*gradients))
    return d_weighting, d_erase, d_add
