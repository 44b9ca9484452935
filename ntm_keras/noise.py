"""Training with noise on the weights."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ntm_keras.keras_compat import keras


class NoisyModel(keras.Model):
    """A functional model whose trainable weights carry Gaussian noise while it is trained.

    Every training step draws the noise anew; the gradient is that of the noisy weights, and moves
    the weights without it. Outside training there is none. What works in spite of the noise does
    not depend on fine tuning: an NTM finds out sooner that it can use its memory.

    The noise is a function of the seed and of the optimizer's iterations alone: a compiled
    optimizer is needed.

    Args:
        inputs: As in `keras.Model`.
        outputs: The same.
        stddev: Standard deviation of the noise in the first step.
        falls_to_zero_at: The training step by which the noise has fallen, evenly, to zero; None:
            it stays.
        seed: Where the noise comes from.

    Example:

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
        stddev: float,
        falls_to_zero_at: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(inputs, outputs, **kwargs)
        self._stddev = stddev
        self._falls_to_zero_at = falls_to_zero_at
        self._noise_seed = seed

    def call(self, inputs, training=None, mask=None):
        if not training:
            return super().call(inputs, training=training, mask=mask)
        weights = self.trainable_variables
        without_noise = [tf.identity(weight) for weight in weights]
        for weight, noise in zip(weights, self._noise(weights)):
            weight.assign_add(noise)
        outputs = super().call(inputs, training=training, mask=mask)
        for weight, value in zip(weights, without_noise):
            weight.assign(value)
        return outputs

    def _noise(self, weights: list[Any]) -> list[tf.Tensor]:
        """The noise of this training step, a tensor for each weight."""
        step = tf.cast(self.optimizer.iterations, tf.int64)
        sizes = [weight.shape.num_elements() for weight in weights]
        # Left to choose, XLA takes an algorithm that is fifteen times slower.
        numbers = tf.random.stateless_normal(
            [sum(sizes)], tf.stack([self._noise_seed, step]), alg="philox"
        )
        left = 1.0
        if self._falls_to_zero_at is not None:
            left = tf.maximum(0.0, 1 - tf.cast(step, tf.float32) / self._falls_to_zero_at)
        return [
            tf.cast(tf.reshape(part, weight.shape), weight.dtype)
            for weight, part in zip(weights, tf.split(self._stddev * left * numbers, sizes))
        ]
