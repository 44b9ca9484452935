"""Training that begins again where the task is not solved in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ntm_keras.keras_compat import keras, training_step

# Where Adam and RMSprop keep the moments of the gradients.
_MOMENTS = ("_momentums", "_velocities", "_average_gradients")


class BeginAgain(keras.callbacks.Callback):
    """Gives the model other weights after every so many steps; its optimizer begins anew too.

    The optimizer, Adam or RMSprop, forgets its moments; its count of steps goes on. An epoch must
    end where an attempt ends. Put this after the callback that gives the model back the weights
    that are trained.

    Args:
        steps: The steps of an attempt.
        attempts: How many attempts there are.
        weights: Returns all weights of the model for an attempt, given its number: 1 for the
            second.
    """

    def __init__(self, steps: int, attempts: int, weights: Callable[[int], Sequence[np.ndarray]]):
        super().__init__()
        self._steps = steps
        self._attempts = attempts
        self._weights = weights

    def on_epoch_begin(self, epoch, logs=None):
        attempt, done = divmod(training_step(self.model), self._steps)
        if 0 < attempt < self._attempts and not done:
            print(f"Not solved in {self._steps} steps: it begins again with other weights.")
            self.model.set_weights(self._weights(attempt))
            _forget(self.model)


def _forget(model: Any) -> None:
    """Makes the moments zeros, and the averaged weights those that the model has now."""
    optimizer = model.optimizer
    for name in _MOMENTS:
        for moment in getattr(optimizer, name, ()):
            moment.assign(np.zeros(moment.shape))
    if optimizer.use_ema:
        averages = optimizer._model_variables_moving_average
        for average, weight in zip(averages, model.trainable_variables):
            average.assign(np.array(weight))  # JAX's variables must not share an array.
