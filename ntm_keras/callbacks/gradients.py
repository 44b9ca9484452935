"""A guard against gradients that overflow."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ntm_keras.keras_compat import (
    IS_KERAS_2,
    IS_TENSORFLOW,
    global_norm,
    keras,
    ops,
    scope_of,
    steps_seen_by,
)


class GuardGradients(keras.callbacks.Callback):
    """Replaces gradients that overflow by zeros, and logs the gradient's norm.

    Over many steps a gradient can overflow while the loss is still finite. It would turn the
    weights into NaN, even with clipping by norm.

    Adds two values to the logs. `gradient_norm` is the global norm in the last step, before any
    clipping. `gradients_left_out` counts the training steps in which the gradient was replaced.

    Put this callback before the callbacks that use its logs. If the replicas of a `tf.distribute`
    strategy share a batch, the norm is that of the whole batch's gradient, and the optimizer clips
    that gradient too. Without this callback Keras 3 clips the gradient of each part.

    On JAX and PyTorch the optimizer keeps these values among its own variables. To restore a
    checkpoint before training there, give the callback the model first: `guard.set_model(model)`.

    Raises:
        ValueError: When training begins: the model is not compiled, or was trained without this
            callback before; or its optimizer scales the loss, and so must see the overflow itself.
    """

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            raise ValueError("GuardGradients needs a model that is compiled, with an optimizer.")
        if hasattr(optimizer, "inner_optimizer"):
            raise ValueError(
                "GuardGradients cannot guard an optimizer that handles gradients that overflow "
                f"itself. Received: optimizer={optimizer!r}"
            )
        if hasattr(optimizer, "gradient_norm"):
            return
        if getattr(model, "train_function", None) is not None and not model.run_eagerly:
            raise ValueError(
                "GuardGradients must be among the callbacks from a model's first training step on."
                f" Received: model={model.name!r}, trained without it before; compile it again"
            )
        with scope_of(model):
            _guard(optimizer)

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The variables that a checkpoint must keep beside the optimizer's own.

        They exist once the model is set.
        """
        names = "gradient_norm", "gradients_left_out", "first_left_out"
        optimizer = self.model.optimizer
        return {name: getattr(optimizer, name) for name in names} if IS_TENSORFLOW else {}

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["gradient_norm"] = float(self.model.optimizer.gradient_norm.numpy())
            logs["gradients_left_out"] = int(self.model.optimizer.gradients_left_out.numpy())


def _guard(optimizer: Any) -> None:
    """Makes an optimizer check its gradients: a callback cannot see them."""
    optimizer.gradient_norm = _variable(optimizer, "gradient_norm")
    optimizer.gradients_left_out = _variable(optimizer, "gradients_left_out", dtype="int32")
    # The first step whose gradient was left out, and the index of the largest gradient in it.
    optimizer.first_left_out = _variable(optimizer, "first_left_out", (2,), "int32")
    if not IS_TENSORFLOW:
        _guard_apply(optimizer)
        return
    steps_seen_by(optimizer)  # Keras 2's legacy optimizers create the variable here.
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
        return apply_gradients(zip(_checked(optimizer, gradients), variables), *args, **kwargs)

    optimizer.apply_gradients = guarded


def _variable(
    optimizer: Any, name: str, shape: tuple[int, ...] = (), dtype: str = "float32"
) -> Any:
    """A variable of zeros that training changes."""
    if not IS_TENSORFLOW:
        return optimizer.add_variable(shape, "zeros", dtype, name=name)
    once = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(tf.zeros(shape, dtype), trainable=False, name=name, aggregation=once)


def _guard_apply(optimizer: Any) -> None:
    """`_guard` for an optimizer on another backend than TensorFlow."""
    apply = optimizer.apply

    def guarded(grads, trainable_variables=None):
        return apply(_checked(optimizer, grads), trainable_variables)

    optimizer.apply = guarded


def _checked(optimizer: Any, gradients: Sequence[Any]) -> list[Any]:
    """The gradients of a step, zeros if one is not finite; the optimizer's variables say so."""
    # Keras 3's optimizers may get the gradient of a scaled loss.
    norm = global_norm(gradients) / (getattr(optimizer, "loss_scale_factor", 0) or 1)
    is_finite = ops.isfinite(norm)
    optimizer.gradient_norm.assign(ops.cast(norm, "float32"))
    nothing_left_out = ops.equal(optimizer.gradients_left_out, 0)
    is_first = ops.logical_and(ops.logical_not(is_finite), nothing_left_out)
    step = ops.cast(steps_seen_by(optimizer), "int32") + 1
    optimizer.first_left_out.assign(
        ops.cond(
            is_first,
            lambda: ops.stack([step, _index_of_largest(gradients)]),
            lambda: ops.convert_to_tensor(optimizer.first_left_out),
        )
    )
    optimizer.gradients_left_out.assign_add(ops.cast(ops.logical_not(is_finite), "int32"))
    return [
        None if each is None else ops.where(is_finite, each, ops.zeros_like(each))
        for each in gradients
    ]


def _index_of_largest(gradients: Sequence[Any]) -> Any:
    """The index of the gradient with the largest absolute value, where NaN is the largest."""

    def largest(gradient):
        if gradient is None:
            return ops.cast(0, "float32")
        size = ops.cast(ops.abs(gradient), "float32")
        return ops.max(ops.where(ops.isnan(size), math.inf, size))

    return ops.cast(ops.argmax(ops.stack([*map(largest, gradients)])), "int32")
