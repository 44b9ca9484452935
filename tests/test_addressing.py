import numpy as np
import pytest
import slow_ntm
import tensorflow as tf
from gradients import assert_gradients_match

from ntm_keras import addressing

BATCH, HEADS, SIZE, WIDTH = 2, 3, 7, 4


@pytest.fixture
def memory(random):
    return random.normal(size=(BATCH, SIZE, WIDTH))


@pytest.fixture
def key(random):
    return random.normal(size=(BATCH, HEADS, WIDTH))


@pytest.fixture
def weighting(random):
    return random.dirichlet(np.ones(SIZE), size=(BATCH, HEADS))


@pytest.fixture
def per_head(random):
    return random.uniform(size=(BATCH, HEADS))


def shift_weightings(random, shift_range):
    return random.dirichlet(np.ones(2 * shift_range + 1), size=(BATCH, HEADS))


def each_head(function, *arguments):
    return np.array(
        [[function(*(a[b, h] for a in arguments)) for h in range(HEADS)] for b in range(BATCH)]
    )


def test_content_addressing_equals_the_paper(memory, key, per_head):
    strength = 10 * per_head
    found = addressing.address_by_content(memory, key, strength)
    memories = np.repeat(memory[:, np.newaxis], HEADS, axis=1)
    expected = each_head(slow_ntm.address_by_content, memories, key, strength)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_content_addressing_ignores_the_scale_of_the_key(memory, key, per_head):
    np.testing.assert_allclose(
        addressing.address_by_content(memory, key, per_head),
        addressing.address_by_content(memory, 100 * key, per_head),
        atol=1e-6,
    )


def test_content_addressing_of_strength_zero_is_uniform(memory, key):
    found = addressing.address_by_content(memory, key, np.zeros((BATCH, HEADS)))
    np.testing.assert_allclose(found, 1 / SIZE)


def test_interpolation_equals_the_paper(weighting, per_head):
    previous = weighting[:, ::-1]
    found = addressing.interpolate(weighting, previous, per_head)
    expected = each_head(lambda c, p, g: g * c + (1 - g) * p, weighting, previous, per_head)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("shift_range", [0, 1, 2, 3])
def test_shift_equals_the_paper(random, weighting, shift_range):
    shift_weighting = shift_weightings(random, shift_range)
    found = addressing.shift(weighting, shift_weighting)
    np.testing.assert_allclose(found, each_head(slow_ntm.shift, weighting, shift_weighting))


def test_shift_of_range_zero_changes_nothing(weighting):
    np.testing.assert_allclose(addressing.shift(weighting, np.ones((BATCH, HEADS, 1))), weighting)


@pytest.mark.parametrize("offset", [-2, -1, 0, 1, 2])
def test_a_one_hot_shift_moves_the_focus_by_its_index(weighting, offset):
    one_hot = np.zeros((BATCH, HEADS, 5))
    one_hot[:, :, offset] = 1
    np.testing.assert_allclose(
        addressing.shift(weighting, one_hot), np.roll(weighting, offset, axis=-1)
    )


def test_sharpening_equals_the_paper(weighting, per_head):
    sharpening = 1 + 5 * per_head
    found = addressing.sharpen(weighting, sharpening)
    expected = each_head(slow_ntm.sharpen, weighting, sharpening)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sharpening_of_only_zeros_is_uniform():
    found = addressing.sharpen(tf.zeros([1, 1, 4]), tf.ones([1, 1]))
    np.testing.assert_allclose(found, np.full((1, 1, 4), 0.25))


@pytest.mark.parametrize("sharpening", [18.1, 100.0, 1e3])
def test_sharpening_uniform_weightings_of_128_locations_stays_uniform(sharpening):
    found = addressing.sharpen(tf.fill([1, 1, 128], 1 / 128), tf.fill([1, 1], sharpening))
    np.testing.assert_allclose(found, np.full((1, 1, 128), 1 / 128), rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e-6])
def test_the_gradient_at_a_constant_memory_is_finite_and_sane(value):
    memory = tf.fill([1, 128, 20], value)
    with tf.GradientTape() as tape:
        tape.watch(memory)
        weighting = addressing.address_by_content(
            memory, tf.ones([1, 1, 20]), tf.fill([1, 1], 10.0)
        )
        first = weighting[0, 0, 0]
    assert np.abs(tape.gradient(first, memory)).max() < 1e3


def test_gradients_equal_finite_differences(random, memory, key, weighting, per_head):
    assert_gradients_match(addressing.address_by_content, memory, key, 10 * per_head)
    assert_gradients_match(addressing.interpolate, weighting, weighting[:, ::-1], per_head)
    assert_gradients_match(addressing.shift, weighting, shift_weightings(random, 2))
    assert_gradients_match(addressing.sharpen, weighting, 1 + 5 * per_head)
