"""Loss and metrics for sequences of bits, for `compile` in Keras.

`targets` and `logits` have the shape `(batch, time, bits)`. `sample_weight` is the mask
`(batch, time)`: 1 where an answer counts, 0 elsewhere. Steps that a layer of the model masks, such
as `Masking`, do not count either. In `fit` on JAX they count in measures, though not in the loss:
Keras keeps the mask from them. Pass it as `sample_weight` there.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ntm_keras import validation
from ntm_keras.keras_compat import (
    IS_KERAS_2,
    Tensor,
    keras,
    mask_of_layers,
    ops,
    serializable,
    static_shape,
)


class MaskedCrossentropy(keras.losses.Loss):
    """The mean cross-entropy over the steps that are not masked.

    Keras's own losses divide by the number of all steps, so padding would make the loss smaller. A
    subclass defines `nats`.

    Raises:
        ValueError: `reduction` is not Keras's default.
    """

    def __init__(self, name: str, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        if self.reduction not in ("sum_over_batch_size", "auto"):
            raise ValueError(
                f"{type(self).__name__} is a mean over targets and has no other reduction. "
                f"Received: reduction={self.reduction!r}"
            )

    def nats(self, targets: Tensor, logits: Tensor) -> Tensor:
        """The cross-entropy of every target, `(batch, time, targets of a step)`."""
        raise NotImplementedError

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = mask_of(y_pred, sample_weight)
        check_shapes(y_true, y_pred)
        nats = self.nats(ops.cast(y_true, "float32"), ops.cast(y_pred, "float32"))
        counted = ops.sum(mask) * ops.cast(ops.shape(nats)[-1], nats.dtype)
        total = ops.sum(ops.sum(nats, axis=-1) * mask)
        return _show_whole_batch_loss(ops.divide_no_nan(total, _sum_over_replicas(counted)))


@serializable
class BitCrossentropy(MaskedCrossentropy):
    """The cross-entropy per target bit, in nats; masked steps do not count.

    Args:
        name: Name of the loss.
        **kwargs: Keras's own.

    Raises:
        ValueError: `reduction` is not Keras's default.

    Examples:
        >>> loss = BitCrossentropy()(tf.ones([1, 2, 8]), tf.zeros([1, 2, 8]), [[1.0, 0.0]])
        >>> round(float(loss), 4)
        0.6931
    """

    def __init__(self, name: str = "bit_crossentropy", **kwargs: Any):
        super().__init__(name, **kwargs)

    def nats(self, targets, logits):
        return ops.binary_crossentropy(targets, logits, from_logits=True)


def _sum_over_replicas(count: Tensor) -> Tensor:
    """The sum of `count` over the replicas of a `tf.distribute` strategy.

    Keras adds up the replicas' losses. Keras 2 divides each by the number of replicas first, so the
    count is divided by it too.
    """
    context = _replica_context()
    if context is None:
        return count
    return context.all_reduce("SUM", count) / (context.num_replicas_in_sync if IS_KERAS_2 else 1)


def _show_whole_batch_loss(loss: Tensor) -> Tensor:
    """A loss with the value of the replicas' mean loss, and this replica's own gradient.

    Keras shows the mean over replicas, weighted by each one's number of sequences. But a replica's
    loss is already its share of the whole batch's loss. If the parts differ in size, the weighted
    mean of the shares would not be the loss of the whole batch.
    """
    context = _replica_context()
    if context is None:
        return loss
    mean = context.all_reduce("MEAN", ops.stop_gradient(loss))
    return loss + ops.stop_gradient(mean - loss)


def _replica_context() -> Any:
    """The context of this replica; None if replicas do not share batches."""
    is_shared = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return tf.distribute.get_replica_context() if is_shared else None


class MeanPerSequence(keras.metrics.Mean):
    """The mean over sequences of a function's value for each.

    A saved model does not contain the function. Load a model that was compiled with this metric by
    `load_model(path, compile=False)`.

    Args:
        function: Called with targets, logits and mask as float32; returns one number for each
            sequence, `(batch,)`.
        name: Name of the metric.
        **kwargs: Keras's own, such as `dtype`.

    Raises:
        ValueError: `function` is not a function.

    Examples:
        >>> steps = MeanPerSequence(lambda targets, logits, mask: tf.reduce_sum(mask, 1), "steps")
        >>> _ = steps.update_state(tf.ones([1, 2, 8]), tf.zeros([1, 2, 8]), [[1.0, 0.0]])
        >>> float(steps.result())
        1.0
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor, Tensor], Tensor],
        name: str,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self._function = validation.function("function", function)

    def update_state(self, y_true, y_pred, sample_weight=None):
        logits = ops.cast(y_pred, "float32")
        mask = mask_of(y_pred, sample_weight)
        return super().update_state(self._function(ops.cast(y_true, "float32"), logits, mask))


@serializable
class CostPerSequence(MeanPerSequence):
    """The cross-entropy of a sequence in bits, as in the paper.

    Args:
        name: Name of the metric.

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
    """How many bits of a sequence are wrong; the answer to a bit is its logit's sign.

    Args:
        name: Name of the metric.
        channels: The bits of a step that count, from the first to the second number (exclusive);
            by default `(0, None)`, all bits.

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
        try:
            first, end = channels
            bits = slice(operator.index(first), None if end is None else operator.index(end))
        except (TypeError, ValueError):
            raise ValueError(
                "Argument `channels` must be two integers; the second may be None."
                f" Received: channels={channels!r}"
            ) from None

        def wrong_bits(targets, logits, mask):
            return _wrong_bits(targets[:, :, bits], logits[:, :, bits], mask)

        super().__init__(wrong_bits, name, **kwargs)
        self._channels = channels

    def get_config(self):
        return {**super().get_config(), "channels": self._channels}


@serializable
class ShareWithoutError(MeanPerSequence):
    """The share of sequences in which every bit is right.

    Args:
        name: Name of the metric.
    """

    def __init__(self, name: str = "share_without_error", **kwargs: Any):
        def is_right(targets, logits, mask):
            return ops.cast(ops.equal(_wrong_bits(targets, logits, mask), 0), "float32")

        super().__init__(is_right, name, **kwargs)


def cost_per_sequence(targets: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """The cross-entropy of each sequence in bits, `(batch,)`."""
    check_shapes(targets, logits)
    nats = ops.binary_crossentropy(targets, logits, from_logits=True)
    return ops.sum(ops.sum(nats, axis=-1) * mask, axis=-1) / math.log(2)


def check_shapes(targets: Any, outputs: Any) -> None:
    """Raises a ValueError if the targets' shape differs from the outputs'."""
    wanted, given = (static_shape(ops.convert_to_tensor(each)) for each in (targets, outputs))
    if not wanted.is_compatible_with(given):
        raise ValueError(
            "Argument `y_true`, the targets, must have the shape of the model's outputs,"
            f" (batch, time, width); labels are one-hot. Received: targets of the shape {wanted},"
            f" outputs of the shape {given}"
        )


def mask_of(outputs: Any, sample_weight: Any) -> Tensor:
    """The mask of a model's outputs, `(batch, time)`, float32.

    Without `sample_weight` it is 1, except that it is 0 where a layer of the model masks.

    Raises:
        ValueError: The shape of `outputs` is not `(batch, time, width)`; or the shape of
            `sample_weight` is not `(batch, time)` and does not broadcast to it.
    """
    given = static_shape(ops.convert_to_tensor(outputs))
    if not given.is_compatible_with([None] * 3):
        raise ValueError(
            "Argument `y_pred`, the model's outputs, must have the shape (batch, time, width): its"
            f" recurrent layers need return_sequences=True. Received: the shape {given}"
        )
    steps = ops.shape(outputs)[:-1]
    mask = ops.ones(steps) if sample_weight is None else ops.cast(sample_weight, "float32")
    batch_size, time, _ = tf.TensorShape([None] * 3).merge_with(given)
    allowed = itertools.product((batch_size, 1), (time, 1))
    if not any(map(static_shape(mask).is_compatible_with, allowed)):
        raise ValueError(
            "Argument `sample_weight` must be a mask of the shape (batch, time), here"
            f" {(batch_size, time)}. Received: sample_weight of the shape {tuple(mask.shape)}"
        )
    layer_mask = mask_of_layers(outputs)  # Keras 2 puts it into `sample_weight` too.
    if layer_mask is not None:
        mask *= ops.cast(layer_mask, "float32")
    return ops.broadcast_to(mask, steps)


def _wrong_bits(targets, logits, mask):
    check_shapes(targets, logits)
    wrong = ops.cast(ops.not_equal(logits > 0, targets > 0.5), "float32")
    return ops.sum(wrong * mask[:, :, None], axis=[1, 2])
