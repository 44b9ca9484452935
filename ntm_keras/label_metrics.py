"""Loss and metrics for sequences of labels, for `compile` in Keras.

A label is a string of `places` characters, and each character is one of `letters` letters.
`targets` and `logits` have the shape `(batch, time, places * letters)`; the targets are one-hot at
each place. `sample_weight` is the mask `(batch, time)`: 1 where an answer counts, 0 elsewhere.
Steps that a layer of the model masks do not count either. The answer at each place is the letter
with the largest logit. A label is right if all its characters are.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from ntm_keras import validation
from ntm_keras.keras_compat import keras, serializable
from ntm_keras.metrics import MaskedCrossentropy, check_shapes, mask_of


@serializable
class LabelCrossentropy(MaskedCrossentropy):
    """The cross-entropy per character of a label, in nats; masked steps do not count.

    Args:
        places: How many characters a label has.
        name: Name of the loss.
        **kwargs: Keras's own, such as `dtype`.

    Raises:
        ValueError: `reduction` is not Keras's default.

    Examples:
        >>> loss = LabelCrossentropy()(tf.one_hot([[2]], 5), tf.zeros([1, 1, 5]))
        >>> round(float(loss), 4)
        1.6094
    """

    def __init__(self, places: int = 1, name: str = "label_crossentropy", **kwargs: Any):
        super().__init__(name, **kwargs)
        self.places = validation.integer("places", places, at_least=1)

    def nats(self, targets, logits):
        return tf.nn.softmax_cross_entropy_with_logits(
            letters(targets, self.places), letters(logits, self.places)
        )

    def get_config(self):
        return {**super().get_config(), "places": self.places}


@serializable
class InstanceAccuracy(keras.metrics.Mean):
    """The share of right answers at the n-th instance of a label in its sequence.

    NaN if there was no such instance.

    Args:
        instance: n, counted from 1.
        places: How many characters a label has.
        name: Name of the metric; by default `accuracy_at_instance_01` and so on.

    Examples:
        >>> targets = tf.one_hot([[2, 2, 0, 2]], 3)
        >>> accuracy = InstanceAccuracy(2)
        >>> _ = accuracy.update_state(targets, targets)
        >>> float(accuracy.result())
        1.0
    """

    def __init__(self, instance: int, places: int = 1, name: str | None = None, **kwargs: Any):
        instance = validation.integer("instance", instance, at_least=1)
        super().__init__(name=name or f"accuracy_at_instance_{instance:02}", **kwargs)
        self.instance = instance
        self.places = validation.integer("places", places, at_least=1)

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = mask_of(y_pred, sample_weight)
        check_shapes(y_true, y_pred)
        right = tf.cast(is_right(y_true, y_pred, self.places), tf.float32)
        here = self._counts(instance_numbers(y_true))
        return super().update_state(self._value(right), mask * tf.cast(here, tf.float32))

    def result(self):
        return tf.where(tf.convert_to_tensor(self.count) > 0, super().result(), math.nan)

    def _counts(self, instances: tf.Tensor) -> tf.Tensor:
        return tf.equal(instances, self.instance)

    def _value(self, right: tf.Tensor) -> tf.Tensor:
        return right

    def get_config(self):
        return {**super().get_config(), "instance": self.instance, "places": self.places}


@serializable
class LaterError(InstanceAccuracy):
    """The share of wrong answers after the n-th instance of a label in its sequence.

    NaN if there was no such instance.

    Args:
        instance: n; by default 1, the instance at which the label has not been shown yet.
        places: How many characters a label has.
        name: Name of the metric.
    """

    def __init__(
        self, instance: int = 1, places: int = 1, name: str = "later_error", **kwargs: Any
    ):
        super().__init__(instance, places, name, **kwargs)

    def _counts(self, instances):
        return instances > self.instance

    def _value(self, right):
        return 1 - right


def letters(labels: tf.Tensor, places: int) -> tf.Tensor:
    """Labels, `(batch, time, places * letters)`, as `(batch, time, places, letters)`."""
    labels = tf.convert_to_tensor(labels)
    width = labels.shape[-1]
    if width is not None and width % places:
        raise ValueError(
            "Labels must have the shape (batch, time, places * letters). "
            f"Received: {tuple(labels.shape)}, places={places}"
        )
    batch, time = tf.unstack(tf.shape(labels)[:2], num=2)
    return tf.reshape(labels, [batch, time, places, -1 if width is None else width // places])


def is_right(targets: tf.Tensor, logits: tf.Tensor, places: int) -> tf.Tensor:
    """Whether each answer is the target, `(batch, time)`."""
    wanted, answered = (tf.argmax(letters(each, places), axis=-1) for each in (targets, logits))
    return tf.reduce_all(tf.equal(wanted, answered), axis=-1)


def instance_numbers(targets: tf.Tensor) -> tf.Tensor:
    """How many times each target's label has occurred so far, itself included: `(batch, time)`."""
    targets = tf.cast(targets, tf.float32)
    shared = tf.matmul(targets, targets, transpose_b=True)
    own = tf.reduce_sum(targets, axis=-1)[:, :, tf.newaxis]
    is_same = tf.linalg.band_part(tf.cast(shared > own - 0.5, tf.int32), -1, 0)
    return tf.reduce_sum(is_same, axis=-1)
