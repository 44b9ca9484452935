import numpy as np
import pytest
from batches import batch_of

from tasks.copy import Copy


def expected_sequence(vectors, time):
    """Inputs, targets and mask of one sequence, step by step."""
    length, bits = vectors.shape
    inputs, targets, mask = np.zeros((time, bits + 1)), np.zeros((time, bits)), np.zeros(time)
    for step in range(length):
        inputs[step, :bits] = vectors[step]
        targets[length + 1 + step] = vectors[step]
        mask[length + 1 + step] = 1
    inputs[length, bits] = 1
    return inputs, targets, mask


def assert_are_copies(batch, bits):
    """Every sequence shows vectors, then the delimiter, then asks for the vectors."""
    lengths = []
    for inputs, targets, mask in zip(*batch):
        (delimiter,) = np.flatnonzero(inputs[:, bits])
        assert set(np.unique(inputs)) <= {0, 1}
        expected = expected_sequence(inputs[:delimiter, :bits], len(inputs))
        for found, wanted in zip((inputs, targets, mask), expected):
            np.testing.assert_array_equal(found, wanted)
        lengths.append(delimiter)
    return lengths


def test_a_size_of_evaluation_is_that_length_exactly():
    batch = batch_of(Copy().evaluation(30, 8, 8, seed=0))
    assert batch[0].shape == (8, 61, 9) and batch[1].shape == (8, 61, 8)
    assert batch[2].shape == (8, 61)
    assert assert_are_copies(batch, 8) == [30] * 8


def test_validation_mixes_all_trained_lengths():
    lengths = assert_are_copies(batch_of(Copy().validation(1000, 1000, seed=0)), 8)
    assert set(lengths) == set(range(1, 21))


def test_training_batches_share_one_length_each():
    task = Copy(bits=3, min_length=2, max_length=9)
    seen = set()
    for batch in task.training(4, seed=0).take(60).as_numpy_iterator():
        (length,) = set(assert_are_copies(batch, 3))
        seen.add(length)
    assert seen == set(range(2, 10))


def test_training_batches_can_mix_lengths():
    batch = batch_of(Copy().training(32, seed=0, mix_lengths=True))
    assert len(set(assert_are_copies(batch, 8))) > 5


def test_bits_are_fair_coins():
    inputs, _, _ = batch_of(Copy().evaluation(100, 100, 100, seed=0))
    assert abs(inputs[:, :100, :8].mean() - 0.5) < 0.01


def test_the_shortest_task_works():
    task = Copy(bits=1, max_length=1)
    assert assert_are_copies(batch_of(task.training(2, seed=0)), 1) == [1, 1]


def test_lengths_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="min_length=3, max_length=2"):
        Copy(min_length=3, max_length=2)


@pytest.mark.parametrize("text", ["0", "-3", "ten", "", "3.5", "2x3", "٣"])
def test_a_size_that_is_no_length_is_refused(text):
    with pytest.raises(ValueError, match="length"):
        Copy().parse_size(text)
