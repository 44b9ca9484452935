import math

import numpy as np
import pytest
from batches import batch_of

from tasks.dynamic_ngrams import DynamicNgrams


def slow_optimal_cost(bits, context):
    """The Bayes-optimal predictor, bit by bit."""
    counts, cost = {}, 0.0
    for step in range(context, len(bits)):
        zeros_and_ones = counts.setdefault(tuple(bits[step - context : step]), [0, 0])
        bit = int(bits[step])
        cost -= math.log2((zeros_and_ones[bit] + 0.5) / (sum(zeros_and_ones) + 1))
        zeros_and_ones[bit] += 1
    return cost


def test_inputs_are_the_bits_one_step_late_and_the_first_ones_are_not_asked_for():
    inputs, targets, mask = batch_of(DynamicNgrams().training(8, seed=0))
    assert inputs.shape == targets.shape == (8, 200, 1) and mask.shape == (8, 200)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert not inputs[:, 0].any() and set(np.unique(targets)) == {0, 1}
    assert not mask[:, :5].any() and mask[:, 5:].all()


def test_the_optimal_cost_is_that_of_counting_bit_by_bit():
    task = DynamicNgrams(context=3, length=40)
    _, targets, mask = batch_of(task.training(8, seed=0))
    expected = [slow_optimal_cost(sequence[:, 0], 3) for sequence in targets]
    np.testing.assert_allclose(task.optimal_cost(targets, mask), expected, rtol=1e-5)


def test_the_optimal_cost_is_the_one_known_for_the_paper_s_task():
    task = DynamicNgrams()
    _, targets, mask = batch_of(task.evaluation(200, 2000, 2000, seed=0))
    assert np.mean(task.optimal_cost(targets, mask)) == pytest.approx(128.0, abs=1)


def test_chances_are_drawn_from_a_beta_distribution_for_every_sequence_anew():
    task = DynamicNgrams(context=1, length=2000)
    _, targets, _ = batch_of(task.evaluation(2000, 400, 400, seed=0))
    bits = targets[:, :, 0]
    after_zero = np.array([row[1:][row[:-1] == 0].mean() for row in bits if (row == 0).any()])
    # Of Beta(1/2, 1/2) a third lies below 1/4, a third above 3/4.
    assert np.mean(after_zero < 0.25) == pytest.approx(1 / 3, abs=0.07)
    assert np.mean(after_zero > 0.75) == pytest.approx(1 / 3, abs=0.07)


def differences(bits, back):
    """How much the chance of a one changes with the bit so many before, the bits between alike."""
    after = {}
    for step in range(back, len(bits)):
        after.setdefault(tuple(bits[step - back : step]), []).append(bits[step])
    between = {context[1:] for context in after}
    pairs = [[after.get((first, *rest), []) for first in (0, 1)] for rest in between]
    return [
        abs(np.mean(zero) - np.mean(one)) for zero, one in pairs if min(len(zero), len(one)) > 200
    ]


def test_a_bit_depends_on_the_ones_before_as_many_as_the_context_has():
    task = DynamicNgrams(context=2, length=4000)
    _, targets, _ = batch_of(task.evaluation(4000, 8, 8, seed=1))
    within, beyond = (
        [difference for bits in targets[:, :, 0] for difference in differences(bits, back)]
        for back in (2, 3)
    )
    assert len(within) >= 5 and len(beyond) >= 5
    assert np.mean(within) > 0.2
    assert max(beyond) < 0.15


def test_costs_and_their_excess_are_measured():
    task = DynamicNgrams(context=2, length=10)
    _, targets, mask = batch_of(task.training(4, seed=0))
    *_, optimal, excess = task.measures()
    for measure in (optimal, excess):
        measure.update_state(targets, np.zeros_like(targets), mask)
    expected = np.mean([slow_optimal_cost(sequence[:, 0], 2) for sequence in targets])
    assert float(optimal.result()) == pytest.approx(expected, rel=1e-5)
    assert float(excess.result()) == pytest.approx(8 - expected, rel=1e-4)


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="context=5, length=5"):
        DynamicNgrams(length=5)


@pytest.mark.parametrize("text", ["5", "", "many", "20x10"])
def test_a_size_that_is_no_length_is_refused(text):
    with pytest.raises(ValueError, match="a length of at least 6"):
        DynamicNgrams().parse_size(text)
