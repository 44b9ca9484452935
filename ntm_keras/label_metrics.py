"""Loss and metrics for sequences of labels, for `compile` in Keras.

A label is a string of `places` characters, and each character is one of `letters` letters.
`targets` and `logits` have the shape `(batch, time, places * letters)`; the targets are one-hot at
each place. `sample_weight` is the mask `(batch, time)`: 1 where an answer counts, 0 elsewhere.
Steps that a layer of the model masks do not count either, with the exception that metrics.py tells.
The answer at each place is the letter
with the largest logit. A label is right if all its characters are.
"""

from __future__ import annotations

import math
from typing import Any

from ntm_keras import validation
from ntm_keras.keras_compat import Tensor, keras, ops, serializable
from ntm_keras.metrics import MaskedCrossentropy, check_shapes, mask_of


@serializable
class LabelCrossentropy(MaskedCrossentropy):
    """The cross-entropy per character of a label, in nats; masked steps do not count.

    Args:
        places: How many characters a label has.
        name: Name of the loss.
        **kwargs: Keras's own.

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
        return ops.categorical_crossentropy(
            letters(targets, self.places), letters(logits, self.places), from_logits=True
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
        right = ops.cast(is_right(y_true, y_pred, self.places), "float32")
        here = self._counts(instance_numbers(y_true))
        return super().update_state(self._value(right), mask * ops.cast(here, "float32"))

    def result(self):
        return ops.where(ops.convert_to_tensor(self.count) > 0, super().result(), math.nan)

    def _counts(self, instances: Tensor) -> Tensor:
        return ops.equal(instances, self.instance)

    def _value(self, right: Tensor) -> Tensor:
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


def letters(labels: Tensor, places: int) -> Tensor:
    """Labels, `(batch, time, places * letters)`, as `(batch, time, places, letters)`."""
    labels = ops.convert_to_tensor(labels)
    width = labels.shape[-1]
    if width is not None and width % places:
        raise ValueError(
            "Labels must have the shape (batch, time, places * letters). "
            f"Received: {tuple(labels.shape)}, places={places}"
        )
    sizes = ops.shape(labels)
    return ops.reshape(
        labels, [sizes[0], sizes[1], places, -1 if width is None else width // places]
    )


def is_right(targets: Tensor, logits: Tensor, places: int) -> Tensor:
    """Whether each answer is the target, `(batch, time)`."""
    wanted, answered = (ops.argmax(letters(each, places), axis=-1) for each in (targets, logits))
    return ops.all(ops.equal(wanted, answered), axis=-1)


def instance_numbers(targets: Tensor) -> Tensor:
    """How many times each target's label has occurred so far, itself included: `(batch, time)`."""
    targets = ops.cast(targets, "float32")
    shared = ops.matmul(targets, ops.transpose(targets, [0, 2, 1]))
    own = ops.sum(targets, axis=-1)[:, :, None]
    is_same = ops.tril(ops.cast(shared > own - 0.5, "int32"))
    return ops.sum(is_same, axis=-1)
