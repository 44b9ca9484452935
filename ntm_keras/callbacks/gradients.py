"""Gradients that overflow."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ntm_keras.keras_compat import IS_KERAS_2, keras, steps_seen_by


class GuardGradients(keras.callbacks.Callback):
    """Leaves out gradients that overflow, and tells in the logs how large they are.

    Back through many steps a gradient can grow beyond all numbers while the loss is still sound.
    Even clipped to a norm it would turn the weights into NaN; here zeros take its place.

    Adds to the logs `gradient_norm`, the last step's global norm before any clipping, and
    `gradients_left_out`, in how many of the model's training steps it was left out.

    It has to come before the callbacks that are to see its logs. Where the replicas of a
    `tf.distribute` strategy share a batch, it sees the gradient of the whole batch, and so does the
    optimizer when it clips it. By itself Keras 3 clips the gradient of each part.

    Raises:
        ValueError: When training begins: the model is not compiled, or was trained without this
            callback since; or its optimizer scales the loss, and has to see what overflows.
    """

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            raise ValueError("GuardGradients needs a model that is compiled, with an optimizer.")
        if hasattr(optimizer, "inner_optimizer"):
            raise ValueError(
                "GuardGradients is for optimizers that do not leave out gradients that overflow by "
                f"themselves. Received: optimizer={optimizer!r}"
            )
        if hasattr(optimizer, "gradient_norm"):
            return
        if getattr(model, "train_function", None) is not None and not model.run_eagerly:
            raise ValueError(
                "GuardGradients must be there from a model's first training step on. Received:"
                f" model={model.name!r}, trained without it before; compile it again"
            )
        with model.distribute_strategy.scope():
            _guard(optimizer)

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """What a checkpoint has to keep, once there is a model."""
        names = "gradient_norm", "gradients_left_out", "first_left_out"
        return {name: getattr(self.model.optimizer, name) for name in names}

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["gradient_norm"] = float(self.model.optimizer.gradient_norm.numpy())
            logs["gradients_left_out"] = int(self.model.optimizer.gradients_left_out.numpy())


def _guard(optimizer: Any) -> None:
    """Makes an optimizer look at what it is given: no callback sees the gradients."""

    def variable(value, name):
        once = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return tf.Variable(value, trainable=False, name=name, aggregation=once)

    optimizer.gradient_norm = variable(0.0, "gradient_norm")
    optimizer.gradients_left_out = variable(0, "gradients_left_out")
    # In which step the first one was left out, and which of the gradients was the largest there.
    optimizer.first_left_out = variable([0, 0], "first_left_out")
    steps = steps_seen_by(optimizer)  # Keras 2's legacy optimizers make the variable now.
    apply_gradients = optimizer.apply_gradients
    is_distributed = tf.distribute.get_strategy().num_replicas_in_sync > 1
    if is_distributed and IS_KERAS_2:
        is_legacy = isinstance(optimizer, keras.optimizers.legacy.Optimizer)
        apply_gradients = functools.partial(
            apply_gradients,
            **{"experimental_aggregate_gradients": False}
            if is_legacy
            else {"skip_gradients_aggregation": True},
        )
    elif is_distributed:  # Keras 3 has no argument for it.
        optimizer._all_reduce_sum_gradients = list

    def guarded(grads_and_vars, *args, **kwargs):
        gradients, variables = zip(*grads_and_vars)
        if is_distributed:
            gradients = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        # Keras 3's optimizers may be given the gradient of a loss that was scaled.
        norm = tf.linalg.global_norm(gradients) / (getattr(optimizer, "loss_scale_factor", 0) or 1)
        is_finite = tf.math.is_finite(norm)
        optimizer.gradient_norm.assign(tf.cast(norm, tf.float32))
        is_first = ~is_finite & (optimizer.gradients_left_out == 0)
        step = tf.cast(steps, tf.int32) + 1
        optimizer.first_left_out.assign(
            tf.cond(
                is_first,
                lambda: tf.stack([step, _number_of_largest(gradients)]),
                lambda: tf.identity(optimizer.first_left_out),
            )
        )
        optimizer.gradients_left_out.assign_add(tf.cast(~is_finite, tf.int32))
        gradients = [
            None if each is None else tf.where(is_finite, each, tf.zeros_like(each))
            for each in gradients
        ]
        return apply_gradients(zip(gradients, variables), *args, **kwargs)

    optimizer.apply_gradients = guarded


def _number_of_largest(gradients: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """Which of the gradients has the largest number, or one that is NaN."""

    def largest(gradient):
        size = tf.cast(tf.abs(gradient), tf.float32)
        return tf.reduce_max(tf.where(tf.math.is_nan(size), math.inf, size))

    sizes = [tf.constant(0.0) if each is None else largest(each) for each in gradients]
    return tf.argmax(sizes, output_type=tf.int32)
