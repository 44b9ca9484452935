"""Training that begins again where the task is not solved in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ntm_keras.keras_compat import keras, optimizer_variables, training_step


class BeginAgain(keras.callbacks.Callback):
    """Gives the model other weights after every so many steps; its optimizer begins anew too.

    The optimizer's count of steps goes on. An epoch must end where an attempt ends. Put this after
    the callback that gives the model back the weights that are trained.

    Args:
        steps: The steps of an attempt.
        weights: Returns all weights of the model for an attempt, given its number: 1 for the
            second.
    """

    def __init__(self, steps: int, weights: Callable[[int], Sequence[np.ndarray]]):
        super().__init__()
        self._steps = steps
        self._weights = weights

    def on_epoch_begin(self, epoch, logs=None):
        attempt, done = divmod(training_step(self.model), self._steps)
        if attempt and not done:
            print(f"Not solved in {self._steps} steps: it begins again with other weights.")
            self.model.set_weights(self._weights(attempt))
            _begin_anew(self.model)


def _begin_anew(model: Any) -> None:
    """Makes an optimizer's variables what they are before the first step, but not its count."""
    optimizer = model.optimizer
    for variable in optimizer_variables(optimizer):
        if variable is not optimizer.iterations:
            variable.assign(np.zeros(variable.shape))
    if optimizer.use_ema:
        averages = optimizer._model_variables_moving_average
        for average, weight in zip(averages, model.trainable_variables):
            average.assign(np.array(weight))  # JAX's variables must not share an array.
