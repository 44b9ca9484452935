"""Training that begins again where the task is not solved in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ntm_keras.keras_compat import keras, steps_seen_by, training_step

# Where Adam and RMSprop keep the moments of the gradients.
_MOMENTS = ("_momentums", "_velocities", "_average_gradients")


class BeginAgain(keras.callbacks.Callback):
    """Ends an attempt after so many steps: the model gets other weights, its optimizer begins anew.

    The optimizer, Adam or RMSprop, forgets its moments and its count of steps, and so its schedules
    begin anew too. `training_step` counts the steps of all attempts. Attempts end between two
    epochs. Put this after the callback that gives the model back the weights that are trained.

    Args:
        steps: The steps of an attempt. 0: training does not begin again.
        until: The training step at which training ends. The last attempt goes on until then, if
            fewer than `steps` are left.
        is_passing: Tells whether the task may soon be solved. Then the attempt goes on.
        weights: Returns all weights of the model for an attempt, given its number: 1 for the
            second.
    """

    def __init__(
        self,
        steps: int,
        until: int,
        is_passing: Callable[[], bool],
        weights: Callable[[int], Sequence[np.ndarray]],
    ):
        super().__init__()
        self._steps = steps
        self._until = until
        self._is_passing = is_passing
        self._weights = weights
        self._attempt, self._steps_before = (
            tf.Variable(0, trainable=False, dtype=tf.int64) for _ in range(2)
        )
        # The variables that a checkpoint must keep.
        self.variables = {"attempt": self._attempt, "steps_before": self._steps_before}

    def set_model(self, model):
        super().set_model(model)
        model.optimizer.steps_before = self._steps_before

    def on_epoch_begin(self, epoch, logs=None):
        step = training_step(self.model)
        made = step - int(self._steps_before)
        is_over = 0 < self._steps <= made and step + self._steps <= self._until
        if is_over and not self._is_passing():
            print(f"Not solved in {made} steps: it begins again with other weights.")
            self._attempt.assign_add(1)
            self.model.set_weights(self._weights(int(self._attempt)))
            self._steps_before.assign(step)
            _begin_anew(self.model)


def _begin_anew(model: Any) -> None:
    """Sets the count of steps and the moments to zero, and the averages to the model's weights."""
    optimizer = model.optimizer
    steps_seen_by(optimizer).assign(0)
    for name in _MOMENTS:
        for moment in getattr(optimizer, name, ()):
            moment.assign(np.zeros(moment.shape))
    if optimizer.use_ema:
        averages = optimizer._model_variables_moving_average
        for average, weight in zip(averages, model.trainable_variables):
            average.assign(np.array(weight))  # JAX's variables must not share an array.
