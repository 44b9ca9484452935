import math

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import InstanceAccuracy, LabelCrossentropy, LaterError
from ntm_keras.keras_compat import keras

pytestmark = pytest.mark.eager

LABELS = [[2, 0, 2, 2, 1, 0], [1, 1, 1, 1, 1, 1]]
ANSWERS = [[0, 0, 2, 1, 1, 0], [1, 1, 0, 1, 0, 1]]
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]], "float32")


def one_hot(labels):
    return np.eye(3, dtype="float32")[np.array(labels)]


def measured(metric, targets, logits, mask=None):
    metric.update_state(targets, logits, mask)
    return float(metric.result())


def strings(random, batch=2, time=9):
    """Labels of two characters of three letters, as numbers and as targets."""
    numbers = random.integers(0, 3, size=(batch, time, 2))
    return numbers, np.eye(3, dtype="float32")[numbers].reshape([batch, time, 6])


def test_accuracy_is_counted_by_instance():
    # First instances: of 2, 0 and 1 above, of 1 below; of them 2 above is wrong.
    expected = {1: 3 / 4, 2: 3 / 3, 3: 0 / 2, 4: 1 / 1, 5: 0 / 1}
    for instance, accuracy in expected.items():
        found = measured(InstanceAccuracy(instance), one_hot(LABELS), one_hot(ANSWERS), MASK)
        assert found == pytest.approx(accuracy), instance


def test_the_later_error_counts_all_instances_but_the_first():
    found = measured(LaterError(), one_hot(LABELS), one_hot(ANSWERS), MASK)
    assert found == pytest.approx(3 / 7)
    assert measured(LaterError(2), one_hot(LABELS), one_hot(ANSWERS), MASK) == pytest.approx(3 / 4)


def test_masked_steps_do_not_count():
    assert measured(InstanceAccuracy(6), one_hot(LABELS), one_hot(ANSWERS)) == 1
    assert math.isnan(measured(InstanceAccuracy(6), one_hot(LABELS), one_hot(ANSWERS), MASK))


def test_a_label_of_several_characters_is_right_where_all_are(random):
    numbers, targets = strings(random)
    answers = numbers.copy()
    answers[:, ::2, 1] = (answers[:, ::2, 1] + 1) % 3
    logits = np.eye(3, dtype="float32")[answers].reshape(targets.shape)
    seen, expected = [set(), set()], []
    for index, sequence in enumerate(numbers):
        for step, label in enumerate(map(tuple, sequence)):
            if label not in seen[index]:
                expected.append(step % 2 == 1)
            seen[index].add(label)
    found = measured(InstanceAccuracy(1, places=2), targets, logits)
    assert found == pytest.approx(np.mean(expected))


def test_the_loss_is_nats_per_character_that_counts(random):
    numbers, targets = strings(random)
    logits = random.normal(size=targets.shape).astype("float32")
    mask = (random.uniform(size=(2, 9)) < 0.5).astype("float32")
    by_place = logits.reshape([2, 9, 2, 3])
    chances = np.exp(by_place) / np.exp(by_place).sum(axis=-1, keepdims=True)
    nats = -np.log(np.take_along_axis(chances, numbers[..., np.newaxis], axis=-1))[..., 0]
    found = LabelCrossentropy(places=2)(targets, logits, mask)
    assert float(found) == pytest.approx(nats[mask == 1].mean(), rel=1e-5)


def test_what_was_not_measured_is_nan():
    targets = one_hot([[0, 1, 2]])
    assert math.isnan(measured(InstanceAccuracy(2), targets, targets))
    assert math.isnan(measured(LaterError(), targets, targets))


@pytest.mark.graph
def test_shapes_may_be_unknown_until_there_is_data():
    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec(None)])
    def loss(targets, logits):
        return LabelCrossentropy()(targets, logits)

    targets, logits = one_hot(LABELS), one_hot(ANSWERS)
    assert float(loss(targets, logits)) == pytest.approx(
        float(LabelCrossentropy()(targets, logits))
    )


def test_they_come_back_from_their_config():
    for measure in (InstanceAccuracy(3, places=5), LaterError(2, 5), LabelCrossentropy(5)):
        again = type(measure).from_config(measure.get_config())
        assert again.get_config() == measure.get_config()


def test_a_compiled_model_reports_them():
    model = keras.Sequential([keras.layers.Dense(3, kernel_initializer="identity")])
    model.compile(loss=LabelCrossentropy(), weighted_metrics=[InstanceAccuracy(1), LaterError()])
    data = tf.data.Dataset.from_tensors((one_hot(ANSWERS), one_hot(LABELS), MASK))
    found = model.evaluate(data, verbose=0, return_dict=True)
    assert found["accuracy_at_instance_01"] == pytest.approx(3 / 4)
    assert found["later_error"] == pytest.approx(3 / 7)


def test_labels_that_are_not_one_hot_or_do_not_fit_the_places_are_refused():
    targets = one_hot(LABELS)
    for wrong, shape in ((tf.constant(LABELS), r"\(2, 6\)"), (targets[:, :, :2], r"\(2, 6, 2\)")):
        for call in (LabelCrossentropy(), InstanceAccuracy(1).update_state):
            with pytest.raises(ValueError, match=f"labels are one-hot. .* of the shape {shape}, "):
                call(wrong, targets)
    for call in (LabelCrossentropy(2), InstanceAccuracy(1, places=2).update_state):
        with pytest.raises(ValueError, match=r"Received: \(2, 6, 3\), places=2"):
            call(targets, targets)


@pytest.mark.parametrize("make", [InstanceAccuracy, LaterError])
def test_an_instance_before_the_first_is_refused(make):
    with pytest.raises(ValueError, match="instance=0"):
        make(0)
