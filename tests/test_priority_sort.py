import numpy as np
import pytest
from batches import batch_of

from tasks.priority_sort import PrioritySort


def assert_are_sorted(batch, bits, items, sorted_items):
    """The answers are the vectors shown, in descending order of their priorities."""
    for inputs, targets, mask in zip(*batch):
        vectors, priorities = inputs[:items, :bits], inputs[:items, bits]
        (delimiter,) = np.flatnonzero(inputs[:, bits + 1])
        assert delimiter == items and inputs[items, : bits + 1].sum() == 0
        assert not inputs[items + 1 :].any()
        assert set(np.unique(vectors)) <= {0, 1}
        assert (np.abs(priorities) <= 1).all() and len(set(priorities)) == items
        expected = vectors[np.argsort(-priorities)][:sorted_items]
        np.testing.assert_array_equal(targets[items + 1 :], expected)
        assert not targets[: items + 1].any()
        np.testing.assert_array_equal(mask, [0] * (items + 1) + [1] * sorted_items)


def test_the_paper_s_task_sorts_16_of_20():
    batch = batch_of(PrioritySort().training(16, seed=0))
    assert batch[0].shape == (16, 37, 10) and batch[1].shape == (16, 37, 8)
    assert_are_sorted(batch, bits=8, items=20, sorted_items=16)


def test_priorities_are_uniform_from_minus_one_to_one():
    inputs, _, _ = batch_of(PrioritySort().evaluation((20, 16), 500, 500, seed=0))
    quarters, _ = np.histogram(inputs[:, :20, 8], bins=4, range=(-1, 1))
    np.testing.assert_allclose(quarters / quarters.sum(), 0.25, atol=0.02)


def test_a_size_of_evaluation_is_that_many_items_and_answers():
    batch = batch_of(PrioritySort(bits=3).evaluation((7, 4), 8, 8, seed=0))
    assert_are_sorted(batch, bits=3, items=7, sorted_items=4)


def test_all_can_be_sorted():
    task = PrioritySort(bits=2, items=5, sorted_items=5)
    assert_are_sorted(batch_of(task.validation(8, 8, seed=0)), bits=2, items=5, sorted_items=5)


def test_more_answers_than_items_are_refused():
    with pytest.raises(ValueError, match="sorted_items=16, items=10"):
        PrioritySort(items=10)


@pytest.mark.parametrize("text", ["20", "10x16", "0x0", "axb", "20x16x3"])
def test_a_size_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match="ITEMSxSORTED"):
        PrioritySort().parse_size(text)
