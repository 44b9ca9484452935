import math

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import (
    NTM,
    BitCrossentropy,
    CostPerSequence,
    MeanPerSequence,
    ShareWithoutError,
    WrongBitsPerSequence,
)
from ntm_keras.keras_compat import keras

pytestmark = pytest.mark.eager


@pytest.fixture
def targets(random):
    return random.integers(0, 2, size=(4, 6, 3)).astype("float32")


@pytest.fixture
def logits(random):
    return random.normal(size=(4, 6, 3)).astype("float32")


@pytest.fixture
def mask():
    return np.array(
        [[0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1], [1] * 6, [0, 0, 0, 0, 0, 1]], "float32"
    )


def nats(targets, logits):
    probability = 1 / (1 + np.exp(-logits))
    return -np.where(targets == 1, np.log(probability), np.log(1 - probability))


def test_the_loss_is_nats_per_unmasked_bit(targets, logits, mask):
    expected = nats(targets, logits)[mask == 1].mean()
    assert float(BitCrossentropy()(targets, logits, mask)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_without_a_mask_counts_every_bit(targets, logits):
    expected = nats(targets, logits).mean()
    assert float(BitCrossentropy()(targets, logits)) == pytest.approx(expected, rel=1e-5)


def test_padding_does_not_change_the_loss(targets, logits, mask):
    def pad(x):
        return np.concatenate([x, np.zeros_like(x)], axis=1)

    padded = BitCrossentropy()(pad(targets), pad(logits), pad(mask))
    assert float(padded) == pytest.approx(float(BitCrossentropy()(targets, logits, mask)))


def test_the_loss_of_nothing_is_zero_and_has_a_finite_gradient(targets, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = BitCrossentropy()(targets, logits, np.zeros((4, 6)))
    assert float(loss) == 0
    assert not tape.gradient(loss, logits).numpy().any()


def test_the_loss_is_finite_for_extreme_logits(targets):
    assert math.isfinite(BitCrossentropy()(targets, np.full((4, 6, 3), 1e4, "float32")))


def test_half_precision_logits_are_counted_in_full():
    logits, targets = tf.zeros([64, 2000, 8], tf.float16), tf.ones([64, 2000, 8])
    assert float(BitCrossentropy()(targets, logits)) == pytest.approx(math.log(2), rel=1e-3)
    metric = CostPerSequence()
    metric.update_state(targets, logits)
    assert float(metric.result()) == pytest.approx(16000, rel=1e-3)


def test_the_cost_is_bits_per_sequence(targets, logits, mask):
    metric = CostPerSequence()
    metric.update_state(targets, logits, mask)
    per_sequence = (nats(targets, logits) * mask[:, :, np.newaxis]).sum(axis=(1, 2)) / math.log(2)
    assert float(metric.result()) == pytest.approx(per_sequence.mean(), rel=1e-5)


def test_wrong_bits_are_counted_per_sequence(targets, logits, mask):
    metric = WrongBitsPerSequence()
    metric.update_state(targets, logits, mask)
    wrong = ((logits > 0) != (targets > 0.5)) * mask[:, :, np.newaxis]
    assert float(metric.result()) == pytest.approx(wrong.sum(axis=(1, 2)).mean())


def test_the_share_without_error_counts_whole_sequences(targets, logits, mask):
    right = np.where(targets == 1, 5.0, -5.0)
    right[1] *= -1
    metric = ShareWithoutError()
    metric.update_state(targets, right, mask)
    assert float(metric.result()) == 0.75


@pytest.mark.parametrize("metric_class", [CostPerSequence, WrongBitsPerSequence, ShareWithoutError])
def test_a_metric_over_two_batches_is_that_of_all_sequences(metric_class, targets, logits, mask):
    together, apart = metric_class(), metric_class()
    together.update_state(targets, logits, mask)
    apart.update_state(targets[:1], logits[:1], mask[:1])
    apart.update_state(targets[1:], logits[1:], mask[1:])
    assert float(apart.result()) == pytest.approx(float(together.result()))


def test_a_compiled_model_reports_them(targets, mask):
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile(
        loss=BitCrossentropy(), weighted_metrics=[CostPerSequence(), WrongBitsPerSequence()]
    )
    found = model.evaluate(
        tf.data.Dataset.from_tensors((targets, targets, mask)), verbose=0, return_dict=True
    )
    logits = model(targets)
    assert found["loss"] == pytest.approx(float(BitCrossentropy()(targets, logits, mask)), rel=1e-5)
    bits = mask.sum() * 3 / 4
    assert found["cost_bits_per_sequence"] == pytest.approx(
        found["loss"] * bits / math.log(2), rel=1e-5
    )


@pytest.mark.parametrize("as_weight", [None, (4, 6), (4, 1)])
def test_steps_that_a_layer_masks_do_not_count(targets, mask, as_weight):
    model = keras.Sequential(
        [
            keras.Input([6, 3]),
            keras.layers.Masking(),
            NTM(5, 4, 3, 1, 1, return_sequences=True),
        ]
    )
    measure = WrongBitsPerSequence()
    model.compile(loss=BitCrossentropy(), weighted_metrics=[measure])
    inputs = (1 + targets) * mask[:, :, np.newaxis]
    weights = () if as_weight is None else (np.ones(as_weight, "float32"),)
    data = tf.data.Dataset.from_tensors((inputs, targets, *weights))
    found = model.evaluate(data, verbose=0, return_dict=True)
    logits = model(inputs)
    assert found["loss"] == pytest.approx(float(BitCrossentropy()(targets, logits, mask)), rel=1e-5)
    measure.reset_state()
    measure.update_state(targets, logits, mask)
    assert found["wrong_bits_per_sequence"] == pytest.approx(float(measure.result()))


@pytest.mark.parametrize("shape", [[1, 6], [4, 1], [1, 1]])
def test_a_mask_may_be_one_for_all_sequences_or_for_all_steps(targets, logits, shape):
    mask = np.arange(1.0, 1 + np.prod(shape)).reshape(shape) % 2
    for measure in (BitCrossentropy(), WrongBitsPerSequence()):
        expected = measure(targets, logits, np.broadcast_to(mask, [4, 6]))
        assert float(measure(targets, logits, mask)) == pytest.approx(float(expected))


def test_what_is_measured_of_a_sequence_need_not_have_targets_like_the_outputs(targets, logits):
    labels = np.zeros(targets.shape[:2])
    measure = MeanPerSequence(lambda labels, logits, mask: tf.reduce_sum(labels, 1), "labels")
    measure.update_state(labels, logits)
    assert float(measure.result()) == 0


@pytest.mark.parametrize("shape", [[4], [4, 6, 3], [4, 5], [3, 6]])
def test_a_mask_of_another_shape_is_refused(targets, logits, shape):
    message = (
        r"`sample_weight` must be a mask of the shape \(batch, time\), here .*Received: .*\(\d,"
    )
    for call in (BitCrossentropy(), WrongBitsPerSequence().update_state):
        with pytest.raises(ValueError, match=message):
            call(targets, logits, np.ones(shape))


@pytest.mark.parametrize("width", [1, 9])
def test_targets_of_another_shape_than_the_outputs_are_refused(targets, logits, width):
    wrong = np.ones([*targets.shape[:2], width])
    for call in (BitCrossentropy(), WrongBitsPerSequence().update_state):
        with pytest.raises(ValueError, match=rf"targets of the shape \(4, 6, {width}\), outputs"):
            call(wrong, logits)


def test_a_model_that_answers_no_sequence_is_told_of_return_sequences(targets, logits):
    for call in (BitCrossentropy(), WrongBitsPerSequence().update_state):
        with pytest.raises(ValueError, match="need return_sequences=True"):
            call(targets[:, 0], logits[:, 0])


def test_wrong_bits_can_be_counted_in_some_channels_only():
    targets, logits = np.zeros([2, 3, 4]), -np.ones([2, 3, 4])
    logits[:, :, 3] = 1
    for channels, expected in (((0, 3), 0), ((3, None), 3), ((0, None), 3)):
        measure = WrongBitsPerSequence(channels=channels)
        measure.update_state(targets, logits)
        assert float(measure.result()) == expected
        again = WrongBitsPerSequence.from_config(measure.get_config())
        again.update_state(targets, logits)
        assert float(again.result()) == expected


def test_wrong_arguments_of_measures_are_refused_by_name():
    with pytest.raises(ValueError, match="Argument `function` must be a function. Received: .*=3"):
        MeanPerSequence(3, "n")
    for channels in (3, (1,), (0, "b")):
        with pytest.raises(ValueError, match="Argument `channels` must be two integers"):
            WrongBitsPerSequence(channels=channels)


def test_another_reduction_of_the_loss_is_refused():
    with pytest.raises(ValueError, match="no other reduction. Received: reduction='sum'"):
        BitCrossentropy(reduction="sum")
    assert BitCrossentropy.from_config(BitCrossentropy().get_config()).name == "bit_crossentropy"
