"""What holds of addressing and of the memory whatever the numbers are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ntm_keras import addressing, memory

BATCH, HEADS, SIZE, WIDTH = 2, 2, 5, 3

unchanging = settings(max_examples=200, derandomize=True, deadline=None)


def numbers(*shape, least=-1e3, most=1e3):
    # TensorFlow takes the smallest numbers, the subnormal ones, for zero.
    elements = st.floats(least, most, width=32, allow_subnormal=False)
    return arrays.arrays("float32", shape, elements=elements)


memories = numbers(BATCH, SIZE, WIDTH)
keys = numbers(BATCH, HEADS, WIDTH)
key_strengths = numbers(BATCH, HEADS, least=0)
gates = numbers(BATCH, HEADS, least=0, most=1)
sharpenings = numbers(BATCH, HEADS, least=1)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


weightings = numbers(BATCH, HEADS, SIZE, least=-100, most=100).map(softmax)
shift_weightings = numbers(BATCH, HEADS, 3, least=-100, most=100).map(softmax)
locations = st.integers(0, SIZE - 1)


def assert_is_weighting(found):
    assert np.all(np.asarray(found) >= 0)
    np.testing.assert_allclose(np.sum(found, axis=-1), 1, atol=1e-5)


def one_hot(location, *shape):
    return np.broadcast_to(np.eye(SIZE, dtype="float32")[location], (*shape, SIZE))


@unchanging
@given(memories, keys, key_strengths)
def test_content_addressing_gives_a_weighting(memory, key, key_strength):
    assert_is_weighting(addressing.address_by_content(memory, key, key_strength))


@unchanging
@given(weightings, weightings, gates)
def test_interpolation_gives_a_weighting(content_weighting, previous_weighting, gate):
    assert_is_weighting(addressing.interpolate(content_weighting, previous_weighting, gate))


@unchanging
@given(weightings, shift_weightings)
def test_shifting_gives_a_weighting(weighting, shift_weighting):
    assert_is_weighting(addressing.shift(weighting, shift_weighting))


@unchanging
@given(weightings, sharpenings)
def test_sharpening_gives_a_weighting(weighting, sharpening):
    assert_is_weighting(addressing.sharpen(weighting, sharpening))


@unchanging
@given(memories, keys, gates, st.floats(1, 1e3))
def test_content_addressing_is_invariant_to_the_scale_of_the_key(memory, key, strength, scale):
    key = key + np.where(np.linalg.norm(key, axis=-1, keepdims=True) < 1, 1, 0).astype("float32")
    key /= np.linalg.norm(key, axis=-1, keepdims=True)  # Near zero the norm's epsilon counts.
    np.testing.assert_allclose(
        addressing.address_by_content(memory, key, strength),
        addressing.address_by_content(memory, (scale * key).astype("float32"), strength),
        atol=1e-5,
    )


@unchanging
@given(weightings, st.integers(-1, 1))
def test_a_one_hot_shift_permutes(weighting, offset):
    shift_weighting = np.broadcast_to(np.eye(3, dtype="float32")[offset], (BATCH, HEADS, 3))
    found = addressing.shift(weighting, shift_weighting)
    np.testing.assert_allclose(found, np.roll(weighting, offset, axis=-1), rtol=0, atol=1e-37)


@unchanging
@given(memories, locations)
def test_erasing_ones_clears_a_location_and_no_other(memories, location):
    ones = np.ones((BATCH, WIDTH), "float32")
    found = np.asarray(memory.erase(memories, one_hot(location, BATCH), ones))
    np.testing.assert_array_equal(found[:, location], 0)
    others = np.arange(SIZE) != location
    np.testing.assert_array_equal(found[:, others], memories[:, others])


@unchanging
@given(memories, locations)
def test_reading_a_one_hot_weighting_returns_that_location(memories, location):
    found = memory.read(memories, one_hot(location, BATCH, HEADS)).numpy()
    for head in range(HEADS):
        np.testing.assert_array_equal(found[:, head], memories[:, location])
