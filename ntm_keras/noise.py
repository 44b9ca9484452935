"""Training with noise on the weights."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from ntm_keras import validation
from ntm_keras.keras_compat import IS_TENSORFLOW, keras, steps_seen_by


class NoisyModel(keras.Model):
    """A functional model that adds Gaussian noise to its trainable weights during training.

    Every training step draws new noise. The gradient is computed at the noisy weights and applied
    to the weights without noise. Outside training there is no noise. A solution that works under
    noise does not depend on finely tuned weights: an NTM learns sooner to use its memory.

    The noise depends only on the seed and on the number of training steps. The optimizer counts
    these, so the model must be compiled. A file that `save` writes is loaded as an ordinary
    `keras.Model`.

    Args:
        inputs: As in `keras.Model`.
        outputs: As in `keras.Model`.
        stddev: Standard deviation of the noise: a number, or a schedule from
            `keras.optimizers.schedules`.
        seed: Seed of the noise.

    Raises:
        ValueError: `stddev` is negative or not finite; `seed` is not an integer of at least 0; the
            model computes in mixed precision; Keras has another backend than TensorFlow; or, in
            training, the model was not compiled.

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
        if not IS_TENSORFLOW:
            raise ValueError(
                "A NoisyModel trains on the backend TensorFlow only. Received:"
                f" backend={keras.backend.backend()!r}"
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
        if not training or not self.trainable_variables:
            return super().call(inputs, training=training, mask=mask)
        weights = self.trainable_variables
        without_noise = [tf.identity(weight) for weight in weights]
        try:
            for weight, noise in zip(weights, self._noise(weights)):
                weight.assign_add(noise)
            return super().call(inputs, training=training, mask=mask)
        finally:
            for weight, value in zip(weights, without_noise):
                weight.assign(value)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the layers as a `keras.Model`, without noise and not compiled."""
        keras.Model(self.input, self.output, name=self.name).save(*args, **kwargs)

    def _noise(self, weights: list[Any]) -> list[tf.Tensor]:
        """The noise of this training step, a tensor for each weight."""
        if getattr(self, "optimizer", None) is None:
            raise ValueError(
                "A NoisyModel must be compiled, with an optimizer, before it is trained."
            )
        step = steps_seen_by(self.optimizer)
        stddev = self._stddev(step) if callable(self._stddev) else self._stddev
        sizes = [weight.shape.num_elements() for weight in weights]
        seed = tf.stack([self._noise_seed, tf.cast(step, tf.int64)])
        # The algorithm that XLA would choose is fifteen times slower.
        numbers = tf.random.stateless_normal([sum(sizes)], seed, alg="philox")
        return [
            tf.cast(tf.reshape(part, weight.shape), weight.dtype)
            for weight, part in zip(weights, tf.split(stddev * numbers, sizes))
        ]
