"""The loss and the measures of sequences of bits, for `compile` in Keras.

All take `targets` and `logits` of the shape `(batch, time, bits)` and, as `sample_weight`, the
mask `(batch, time)`: 1 where an answer counts, 0 elsewhere. Steps that a layer of the model masks,
such as `Masking`, do not count either.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ntm_keras.keras_compat import IS_KERAS_2, keras, serializable


class MaskedCrossentropy(keras.losses.Loss):
    """A cross-entropy whose masked steps are neither in its numerator nor in its denominator.

    Keras by itself divides by all steps, masked or not, so that padding would make the loss
    smaller. A subclass has the method `nats`.

    Raises:
        ValueError: A `reduction` other than Keras's default is asked for.
    """

    def __init__(self, name: str, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        if self.reduction not in ("sum_over_batch_size", "auto"):
            raise ValueError(
                f"{type(self).__name__} is a mean over targets and has no other reduction. "
                f"Received: reduction={self.reduction!r}"
            )

    def nats(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The cross-entropy of every target, `(batch, time, targets of a step)`."""
        raise NotImplementedError

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = mask_of(y_pred, sample_weight)
        check_shapes(y_true, y_pred)
        nats = self.nats(tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32))
        counted = tf.reduce_sum(mask) * tf.cast(tf.shape(nats)[-1], nats.dtype)
        total = tf.reduce_sum(tf.reduce_sum(nats, axis=-1) * mask)
        return _with_value_of_the_whole_batch(
            tf.math.divide_no_nan(total, _in_the_whole_batch(counted))
        )


@serializable
class BitCrossentropy(MaskedCrossentropy):
    """The cross-entropy per target bit, in nats; masked steps do not count.

    Args:
        name: Of the loss.
        **kwargs: Keras's own, such as `dtype`.

    Raises:
        ValueError: A `reduction` other than Keras's default is asked for.

    Examples:
        >>> loss = BitCrossentropy()(tf.ones([1, 2, 8]), tf.zeros([1, 2, 8]), [[1.0, 0.0]])
        >>> round(float(loss), 4)
        0.6931
    """

    def __init__(self, name: str = "bit_crossentropy", **kwargs: Any):
        super().__init__(name, **kwargs)

    def nats(self, targets, logits):
        return tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)


def _in_the_whole_batch(count: tf.Tensor) -> tf.Tensor:
    """The sum over the replicas of a `tf.distribute` strategy, each of which has a part.

    Keras adds up the losses of the replicas; Keras 2 divides them by their number before.
    """
    context = _context_of_a_part()
    if context is None:
        return count
    return context.all_reduce("SUM", count) / (context.num_replicas_in_sync if IS_KERAS_2 else 1)


def _with_value_of_the_whole_batch(loss: tf.Tensor) -> tf.Tensor:
    """The mean of the replicas' losses, with the gradient of this replica's own.

    Keras shows the mean over the replicas, weighted by the sequences of each. A replica's own loss
    is already its share of the whole batch's, so where parts are uneven that would not be the
    whole batch's loss.
    """
    context = _context_of_a_part()
    if context is None:
        return loss
    mean = context.all_reduce("MEAN", tf.stop_gradient(loss))
    return loss + tf.stop_gradient(mean - loss)


def _context_of_a_part() -> Any:
    """The context of a replica that has a part of the batch; None where no other has one."""
    is_shared = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return tf.distribute.get_replica_context() if is_shared else None


class MeanPerSequence(keras.metrics.Mean):
    """The mean over sequences of what a function says of each.

    A saved model does not hold the function: load one that was compiled with this measure by
    `load_model(path, compile=False)`.

    Args:
        function: Called with targets, logits and mask as float32; returns one number for each
            sequence, `(batch,)`.
        name: Of the measure.
        **kwargs: Keras's own, such as `dtype`.

    Examples:
        >>> steps = MeanPerSequence(lambda targets, logits, mask: tf.reduce_sum(mask, 1), "steps")
        >>> _ = steps.update_state(tf.ones([1, 2, 8]), tf.zeros([1, 2, 8]), [[1.0, 0.0]])
        >>> float(steps.result())
        1.0
    """

    def __init__(
        self,
        function: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
        name: str,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self._function = function

    def update_state(self, y_true, y_pred, sample_weight=None):
        logits = tf.cast(y_pred, tf.float32)
        mask = mask_of(y_pred, sample_weight)
        return super().update_state(self._function(tf.cast(y_true, tf.float32), logits, mask))


@serializable
class CostPerSequence(MeanPerSequence):
    """The cross-entropy of a sequence in bits: the paper's measure.

    Args:
        name: Of the measure.

    Examples:
        >>> cost = CostPerSequence()
        >>> _ = cost.update_state(tf.ones([1, 2, 8]), tf.zeros([1, 2, 8]), [[1.0, 0.0]])
        >>> float(cost.result())
        8.0
    """

    def __init__(self, name: str = "cost_bits_per_sequence", **kwargs: Any):
        super().__init__(cost_per_sequence, name, **kwargs)


@serializable
class WrongBitsPerSequence(MeanPerSequence):
    """How many bits of a sequence are answered wrongly, the answer being the sign of the logit.

    Args:
        name: Of the measure.
        channels: The first bit of a step that counts and the first that does not any more, by
            default `(0, None)`: all.

    Examples:
        >>> wrong = WrongBitsPerSequence()
        >>> _ = wrong.update_state(tf.ones([1, 2, 8]), -tf.ones([1, 2, 8]), [[1.0, 0.0]])
        >>> float(wrong.result())
        8.0
    """

    def __init__(
        self,
        name: str = "wrong_bits_per_sequence",
        channels: tuple[int, int | None] = (0, None),
        **kwargs: Any,
    ):
        def wrong_bits(targets, logits, mask):
            bits = slice(*channels)
            return _wrong_bits(targets[:, :, bits], logits[:, :, bits], mask)

        super().__init__(wrong_bits, name, **kwargs)
        self._channels = channels

    def get_config(self):
        return {**super().get_config(), "channels": self._channels}


@serializable
class ShareWithoutError(MeanPerSequence):
    """The share of sequences in which every bit is answered rightly.

    Args:
        name: Of the measure.
    """

    def __init__(self, name: str = "share_without_error", **kwargs: Any):
        def is_right(targets, logits, mask):
            return tf.cast(tf.equal(_wrong_bits(targets, logits, mask), 0), tf.float32)

        super().__init__(is_right, name, **kwargs)


def cost_per_sequence(targets: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The cross-entropy of each sequence in bits, `(batch,)`."""
    check_shapes(targets, logits)
    nats = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    return tf.reduce_sum(tf.reduce_sum(nats, axis=-1) * mask, axis=-1) / math.log(2)


def check_shapes(targets: Any, outputs: Any) -> None:
    """Refuses targets of another shape than the outputs have, with a ValueError."""
    wanted, given = (tf.convert_to_tensor(each).shape for each in (targets, outputs))
    if not wanted.is_compatible_with(given):
        raise ValueError(
            "Argument `y_true`, the targets, must have the shape of the model's outputs,"
            f" (batch, time, width); labels are one-hot. Received: targets of the shape {wanted},"
            f" outputs of the shape {given}"
        )


def mask_of(outputs: Any, sample_weight: Any) -> tf.Tensor:
    """The mask of a model's outputs, `(batch, time)`, float32.

    It is 1 everywhere where no `sample_weight` is given, and 0 where a layer of the model masks.

    Raises:
        ValueError: `outputs` are not `(batch, time, width)`; or `sample_weight` is not `(batch,
            time)`, nor has 1 in the place of either.
    """
    given = tf.convert_to_tensor(outputs).shape
    if not given.is_compatible_with([None] * 3):
        raise ValueError(
            "Argument `y_pred`, the model's outputs, must have the shape (batch, time, width): its"
            f" recurrent layers need return_sequences=True. Received: the shape {given}"
        )
    steps = tf.shape(outputs)[:-1]
    mask = tf.ones(steps) if sample_weight is None else tf.cast(sample_weight, tf.float32)
    batch_size, time, _ = tf.TensorShape([None] * 3).merge_with(given)
    allowed = itertools.product((batch_size, 1), (time, 1))
    if not any(map(mask.shape.is_compatible_with, allowed)):
        raise ValueError(
            "Argument `sample_weight` must be a mask of the shape (batch, time), here"
            f" {(batch_size, time)}. Received: sample_weight of the shape {tuple(mask.shape)}"
        )
    of_layers = getattr(outputs, "_keras_mask", None)  # Keras 2 has it in `sample_weight` too.
    if of_layers is not None:
        mask *= tf.cast(of_layers, tf.float32)
    return tf.broadcast_to(mask, steps)


def _wrong_bits(targets, logits, mask):
    check_shapes(targets, logits)
    wrong = tf.cast(tf.not_equal(logits > 0, targets > 0.5), tf.float32)
    return tf.reduce_sum(wrong * mask[:, :, tf.newaxis], axis=[1, 2])
