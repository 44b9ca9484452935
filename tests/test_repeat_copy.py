import numpy as np
import pytest
from batches import batch_of

from tasks.repeat_copy import RepeatCopy


def expected_sequence(vectors, repeats, count, time):
    """Inputs, targets and mask of one sequence, step by step."""
    length, bits = vectors.shape
    inputs, targets, mask = np.zeros((time, bits + 2)), np.zeros((time, bits + 1)), np.zeros(time)
    inputs[:length, :bits] = vectors
    inputs[length, bits:] = 1, count
    step = length + 1
    for _ in range(repeats):
        for vector in vectors:
            targets[step, :bits] = vector
            mask[step] = 1
            step += 1
    targets[step, bits] = 1
    mask[step] = 1
    return inputs, targets, mask


def assert_are_repeated_copies(batch, bits, mean, deviation):
    """Checks every sequence; returns the lengths and the numbers of copies."""
    sizes = []
    for inputs, targets, mask in zip(*batch):
        (delimiter,) = np.flatnonzero(inputs[:, bits])
        count = inputs[delimiter, bits + 1]
        repeats = round(count * deviation + mean)
        assert count == pytest.approx((repeats - mean) / deviation, abs=1e-5)
        expected = expected_sequence(inputs[:delimiter, :bits], repeats, count, len(inputs))
        for found, wanted in zip((inputs, targets, mask), expected):
            np.testing.assert_array_equal(found, wanted.astype("float32"))
        sizes.append((delimiter, repeats))
    return sizes


# The trained counts are 1 to 10: their mean is 5.5, their standard deviation 2.872.
DEFAULT = {"bits": 8, "mean": 5.5, "deviation": 8.25**0.5}


def test_a_size_of_evaluation_is_that_length_that_often():
    batch = batch_of(RepeatCopy().evaluation((10, 20), 8, 8, seed=0))
    assert batch[0].shape == (8, 212, 10) and batch[1].shape == (8, 212, 9)
    assert assert_are_repeated_copies(batch, **DEFAULT) == [(10, 20)] * 8


def test_validation_mixes_all_trained_lengths_and_counts():
    sizes = assert_are_repeated_copies(
        batch_of(RepeatCopy().validation(2000, 2000, seed=0)), **DEFAULT
    )
    assert set(sizes) == {(length, count) for length in range(1, 11) for count in range(1, 11)}


def test_training_batches_share_one_size_each():
    for batch in RepeatCopy().training(4, seed=0).take(10).as_numpy_iterator():
        assert len(set(assert_are_repeated_copies(batch, **DEFAULT))) == 1


def test_the_count_is_normalised_over_the_trained_range():
    task = RepeatCopy(bits=2, min_repeats=2, max_repeats=4)
    batch = batch_of(task.validation(16, 16, seed=0))
    assert_are_repeated_copies(batch, bits=2, mean=3, deviation=(2 / 3) ** 0.5)


def test_one_count_alone_is_zero():
    task = RepeatCopy(bits=2, min_repeats=3, max_repeats=3)
    inputs, _, mask = batch_of(task.evaluation((2, 3), 4, 4, seed=0))
    assert not inputs[:, :, -1].any()
    assert mask.sum() == 4 * (2 * 3 + 1)


@pytest.mark.parametrize("limits", [{"min_length": 11}, {"min_repeats": 5, "max_repeats": 4}])
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(ValueError, match="must be at most"):
        RepeatCopy(**limits)


@pytest.mark.parametrize("text", ["10", "10x", "x10", "10x10x10", "0x5", "5x0", "tenxten", ""])
def test_a_size_that_is_no_length_and_count_is_refused(text):
    with pytest.raises(ValueError, match="LENGTHxREPEATS"):
        RepeatCopy().parse_size(text)
