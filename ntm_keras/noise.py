"""Training with noise on the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ntm_keras import validation
from ntm_keras.keras_compat import (
    IS_TENSORFLOW,
    Tensor,
    keras,
    ops,
    stateless_normal,
    steps_seen_by,
)


class NoisyModel(keras.Model):
    """A functional model that adds Gaussian noise to its trainable weights during training.

    Every training step draws new noise. The gradient is computed at the noisy weights and applied
    to the weights without noise. Outside training there is no noise. A solution that works under
    noise does not depend on finely tuned weights: an NTM learns sooner to use its memory.

    The noise depends only on the seed and on the number of training steps. The optimizer counts
    these, so the model must be compiled. On TensorFlow every call with `training=True` is noisy, on
    JAX the training steps of `fit`. A file that `save` writes is loaded as an ordinary
    `keras.Model`.

    Args:
        inputs: As in `keras.Model`.
        outputs: As in `keras.Model`.
        stddev: Standard deviation of the noise: a number, or a schedule from
            `keras.optimizers.schedules`.
        seed: Seed of the noise.

    Raises:
        ValueError: `stddev` is negative or not finite; `seed` is not an integer of at least 0; the
            model computes in mixed precision; Keras runs on PyTorch; or, in training on
            TensorFlow, the model was not compiled.

    Examples:
        >>> inputs = tf.keras.Input([3])
        >>> model = NoisyModel(inputs, tf.keras.layers.Dense(2)(inputs), stddev=0.05)
        >>> model.compile("adam", "mse")
        >>> _ = model.fit(tf.ones([4, 3]), tf.zeros([4, 2]), verbose=0)

    Reference:
        Graves, [Practical Variational Inference for Neural Networks](https://papers.nips.cc/paper/
        4329-practical-variational-inference-for-neural-networks), 2011: noise of a fixed size on
        the weights of recurrent networks.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        stddev: Any,
        seed: int = 0,
        **kwargs: Any,
    ):
        if keras.backend.backend() == "torch":
            raise ValueError(
                "A NoisyModel trains on the backends TensorFlow and JAX only. Received:"
                " backend='torch'"
            )
        super().__init__(inputs, outputs, **kwargs)
        if self.compute_dtype != self.variable_dtype:
            raise ValueError(
                "A NoisyModel must compute in the dtype of its weights, not in mixed precision. "
                f"Received: compute_dtype={self.compute_dtype}, "
                f"variable_dtype={self.variable_dtype}"
            )
        try:
            is_allowed = callable(stddev) or bool(0 <= stddev < math.inf)
        except (TypeError, ValueError):  # Not comparable, or several numbers.
            is_allowed = False
        if not is_allowed:
            raise ValueError(
                "Argument `stddev` must be a finite number of at least 0, or a schedule. "
                f"Received: stddev={stddev!r}"
            )
        self._stddev = stddev
        self._noise_seed = validation.integer("seed", seed, at_least=0)

    def call(self, inputs, training=None, mask=None):
        # On JAX the weights are arguments of the function that it differentiates, see below.
        if not training or not self.trainable_variables or not IS_TENSORFLOW:
            return super().call(inputs, training=training, mask=mask)
        if getattr(self, "optimizer", None) is None:
            raise ValueError(
                "A NoisyModel must be compiled, with an optimizer, before it is trained."
            )
        weights = self.trainable_variables
        without_noise = [tf.identity(weight) for weight in weights]
        try:
            noises = self._noise(weights, steps_seen_by(self.optimizer))
            for weight, noise in zip(weights, noises):
                weight.assign_add(noise)
            return super().call(inputs, training=training, mask=mask)
        finally:
            for weight, value in zip(weights, without_noise):
                weight.assign(value)

    def compute_loss_and_updates(
        self, trainable_variables, *arguments, training=False, optimizer_variables=None
    ):
        """The loss, which JAX differentiates by the first argument: the weights' values."""
        if training and trainable_variables:
            counter = steps_seen_by(self.optimizer)
            values = zip(self.optimizer.variables, optimizer_variables)
            (step,) = (value for variable, value in values if variable is counter)
            noises = self._noise(trainable_variables, step)
            trainable_variables = [w + noise for w, noise in zip(trainable_variables, noises)]
        return super().compute_loss_and_updates(
            trainable_variables,
            *arguments,
            training=training,
            optimizer_variables=optimizer_variables,
        )

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the layers as a `keras.Model`, without noise and not compiled."""
        keras.Model(self.input, self.output, name=self.name).save(*args, **kwargs)

    def _noise(self, weights: Sequence[Tensor], step: Tensor) -> list[Tensor]:
        """The noise of a training step, a tensor for each weight."""
        stddev = self._stddev(step) if callable(self._stddev) else self._stddev
        sizes = [math.prod(weight.shape) for weight in weights]
        numbers = stddev * stateless_normal(sum(sizes), self._noise_seed, step)
        parts = ops.split(numbers, np.cumsum(sizes)[:-1].tolist(), 0)
        return [
            ops.cast(ops.reshape(part, weight.shape), weight.dtype)
            for weight, part in zip(weights, parts)
        ]
