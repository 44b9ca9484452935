import numpy as np
import pytest
from batches import batch_of

from tasks.associative_recall import AssociativeRecall


def expected_sequence(items, query, time):
    """Inputs, targets and mask of one sequence, step by step."""
    bits = items[0].shape[1]
    inputs, targets, mask = np.zeros((time, bits + 2)), np.zeros((time, bits)), np.zeros(time)
    step = 0
    for block in [*items, items[query]]:
        is_query = step == len(items) * (len(block) + 1)
        inputs[step, bits + is_query] = 1
        inputs[step + 1 : step + 1 + len(block), :bits] = block
        step += 1 + len(block)
    inputs[step, bits + 1] = 1
    targets[step + 1 : step + 1 + len(block)] = items[query + 1]
    mask[step + 1 : step + 1 + len(block)] = 1
    return inputs, targets, mask


def assert_are_recalls(batch, bits=6, item_length=3):
    """Checks every sequence; returns the numbers of items and the places of the queries."""
    found = []
    for inputs, targets, mask in zip(*batch):
        starts = np.flatnonzero(inputs[:, bits])
        items = [inputs[start + 1 : start + 1 + item_length, :bits] for start in starts]
        candidates = [
            expected_sequence(items, query, len(inputs)) for query in range(len(items) - 1)
        ]
        matches = [
            query
            for query, (wanted_inputs, wanted_targets, wanted_mask) in enumerate(candidates)
            if (inputs == wanted_inputs).all()
            and (targets == wanted_targets).all()
            and (mask == wanted_mask).all()
        ]
        assert matches
        found.append((len(items), matches[0]))
    return found


def test_a_size_of_evaluation_is_that_number_of_items():
    batch = batch_of(AssociativeRecall().evaluation(12, 16, 16, seed=0))
    assert batch[0].shape == (16, 56, 8) and batch[1].shape == (16, 56, 6)
    assert {items for items, _ in assert_are_recalls(batch)} == {12}


def test_validation_mixes_all_trained_numbers_of_items_and_every_query_but_the_last():
    found = assert_are_recalls(batch_of(AssociativeRecall().validation(1000, 1000, seed=0)))
    assert set(found) == {(items, query) for items in range(2, 7) for query in range(items - 1)}


def test_training_batches_share_one_number_of_items_each():
    for batch in AssociativeRecall().training(4, seed=0).take(10).as_numpy_iterator():
        assert len({items for items, _ in assert_are_recalls(batch)}) == 1


def test_items_can_have_another_length_and_width():
    task = AssociativeRecall(bits=9, item_length=2, min_items=3, max_items=4)
    found = assert_are_recalls(batch_of(task.validation(64, 64, seed=0)), bits=9, item_length=2)
    assert {items for items, _ in found} == {3, 4}


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="min_items=7, max_items=6"):
        AssociativeRecall(min_items=7)


@pytest.mark.parametrize("text", ["1", "0", "two", "", "3x3"])
def test_a_size_that_is_no_number_of_items_is_refused(text):
    with pytest.raises(ValueError, match="number of items"):
        AssociativeRecall().parse_size(text)
