"""Numbers that change in training: the learning rate, and the noise on the weights."""

from __future__ import annotations

from typing import Any

from ntm_keras.keras_compat import keras, ops
from training.settings import Settings

# Of Adam's two moments; Keras's defaults.
ADAM_BETAS = 0.9, 0.999


def learning_rate(settings: Settings) -> Any:
    """The learning rate: a number, or a schedule if it changes."""
    rate = falling(settings, "learning_rate")
    is_adam = settings.optimizer == "adam"
    if settings.attempts > 1 and (is_adam or callable(rate)):
        steps, attempts = settings.steps_of_attempt, settings.attempts
        return InEveryAttempt(rate, steps, attempts, corrects_adam=is_adam)
    return rate


def weight_noise(settings: Settings) -> Any:
    """The standard deviation of the noise on the weights: a number, or a schedule if it changes."""
    stddev = falling(settings, "weight_noise")
    if settings.attempts > 1 and callable(stddev):
        return InEveryAttempt(stddev, settings.steps_of_attempt, settings.attempts)
    return stddev


def falling(settings: Settings, name: str) -> Any:
    """A setting: a number, or a schedule if it falls."""
    start, end, steps = (getattr(settings, each) for each in (name, f"{name}_end", f"{name}_steps"))
    return keras.optimizers.schedules.PolynomialDecay(start, steps, end) if steps else start


class InEveryAttempt(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that begins anew with every attempt.

    Adam's moments begin with zeros, and Adam corrects them for it by the number of steps since
    training began (Kingma and Ba, 2015, algorithm 1). In a later attempt the schedule does so.

    Args:
        schedule: From the step of an attempt, beginning with 0, to a number; or a number.
        steps: The steps of an attempt.
        attempts: How many attempts there are.
        corrects_adam: Whether it is Adam's learning rate.
    """

    def __init__(self, schedule: Any, steps: int, attempts: int, corrects_adam: bool = False):
        super().__init__()
        self._schedule = schedule
        self._steps = steps
        self._attempts = attempts
        self._corrects_adam = corrects_adam

    def __call__(self, step):
        step = ops.cast(step, "float32")
        last = float(self._steps * (self._attempts - 1))
        of_attempt = ops.where(step < last, step % self._steps, step - last)
        value = self._schedule(of_attempt) if callable(self._schedule) else self._schedule
        if self._corrects_adam:
            return value * (_adam_correction(of_attempt) / _adam_correction(step))
        return value


def _adam_correction(step: Any) -> Any:
    """The factor by which Adam corrects its step for moments that began with zeros."""
    first, second = (1 - beta ** (step + 1) for beta in ADAM_BETAS)
    return second**0.5 / first
