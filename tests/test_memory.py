import numpy as np
import pytest
import slow_ntm
from gradients import assert_gradients_match

from ntm_keras import memory

BATCH, HEADS, SIZE, WIDTH = 2, 3, 7, 4


@pytest.fixture
def contents(random):
    return random.normal(size=(BATCH, SIZE, WIDTH))


@pytest.fixture
def weighting(random):
    return random.dirichlet(np.ones(SIZE), size=(BATCH, HEADS))


@pytest.fixture
def erase_vector(random):
    return random.uniform(size=(BATCH, HEADS, WIDTH))


@pytest.fixture
def add_vector(random):
    return random.normal(size=(BATCH, HEADS, WIDTH))


def test_reading_equals_the_paper(contents, weighting):
    found = memory.read(contents, weighting)
    expected = [[slow_ntm.read(contents[b], w) for w in weighting[b]] for b in range(BATCH)]
    np.testing.assert_allclose(found, expected)


def test_reading_a_one_hot_weighting_returns_that_row(contents):
    one_hot = np.eye(SIZE)[np.newaxis, [5]].repeat(BATCH, axis=0)
    np.testing.assert_allclose(memory.read(contents, one_hot)[:, 0], contents[:, 5])


@pytest.mark.parametrize("order", ["sequential", "simultaneous"])
def test_writing_equals_the_paper(contents, weighting, erase_vector, add_vector, order):
    found = memory.write(contents, weighting, erase_vector, add_vector, order)
    expected = [
        slow_ntm.write(contents[b], weighting[b], erase_vector[b], add_vector[b], order)
        for b in range(BATCH)
    ]
    np.testing.assert_allclose(found, expected)


def test_erasing_a_location_with_ones_clears_it(contents):
    one_hot = np.eye(SIZE)[[2]].repeat(BATCH, axis=0)
    erased = np.array(memory.erase(contents, one_hot, np.ones((BATCH, WIDTH))))
    assert not erased[:, 2].any()
    np.testing.assert_array_equal(np.delete(erased, 2, axis=1), np.delete(contents, 2, axis=1))


@pytest.mark.parametrize("order", ["sequential", "simultaneous"])
def test_gradients_equal_finite_differences(contents, weighting, erase_vector, add_vector, order):
    assert_gradients_match(
        lambda *arguments: memory.write(*arguments, order=order),
        contents,
        weighting,
        erase_vector,
        add_vector,
    )
    assert_gradients_match(memory.read, contents, weighting)
