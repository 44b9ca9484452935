"""Training with noise on the weights."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from ntm_keras import validation
from ntm_keras.keras_compat import keras, steps_seen_by


class NoisyModel(keras.Model):
    """A functional model whose trainable weights carry Gaussian noise while it is trained.

    Every training step draws the noise anew; the gradient is that of the noisy weights, and moves
    the weights without it. Outside training there is none. What works in spite of the noise does
    not depend on fine tuning: an NTM finds out sooner that it can use its memory.

    The noise is a function of the seed and of the number of training steps alone, which the
    optimizer counts, so the model has to be compiled. What `save` writes is loaded as an ordinary
    `keras.Model`.

    Args:
        inputs: As in `keras.Model`.
        outputs: The same.
        stddev: Standard deviation of the noise: a number, or a schedule from
            `keras.optimizers.schedules`.
        seed: Where the noise comes from.

    Raises:
        ValueError: `stddev` is negative or not finite, or `seed` no integer of at least 0; or
            computations are in mixed precision; or, in training, the model was not compiled.

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
        super().__init__(inputs, outputs, **kwargs)
        if self.compute_dtype != self.variable_dtype:
            raise ValueError(
                "A NoisyModel's weights must be computed with as they are, not in mixed precision. "
                f"Received: compute_dtype={self.compute_dtype}, "
                f"variable_dtype={self.variable_dtype}"
            )
        try:
            is_allowed = callable(stddev) or bool(0 <= stddev < math.inf)
        except (TypeError, ValueError):  # What cannot be compared, or several numbers.
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
        """Saves the layers as a `keras.Model`, which has no noise and is not compiled."""
        keras.Model(self.input, self.output, name=self.name).save(*args, **kwargs)

    def _noise(self, weights: list[Any]) -> list[tf.Tensor]:
        """The noise of this training step, a tensor for each weight."""
        if getattr(self, "optimizer", None) is None:
            raise ValueError(
                "A NoisyModel must be compiled, with an optimizer, before its training."
            )
        step = steps_seen_by(self.optimizer)
        stddev = self._stddev(step) if callable(self._stddev) else self._stddev
        sizes = [weight.shape.num_elements() for weight in weights]
        seed = tf.stack([self._noise_seed, tf.cast(step, tf.int64)])
        # Left to choose, XLA takes an algorithm that is fifteen times slower.
        numbers = tf.random.stateless_normal([sum(sizes)], seed, alg="philox")
        return [
            tf.cast(tf.reshape(part, weight.shape), weight.dtype)
            for weight, part in zip(weights, tf.split(stddev * numbers, sizes))
        ]
