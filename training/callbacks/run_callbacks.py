"""The callbacks of a run, and their order."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from ntm_keras.callbacks import Checkpoints, GuardGradients, SwapAveragedWeights
from ntm_keras.keras_compat import keras
from training.callbacks.attempts import BeginAgain
from training.callbacks.ends import (
    RunTime,
    StopAfter,
    StopOnSignal,
    StopWhenNotFinite,
    StopWhenSolved,
)
from training.callbacks.growing import GrowMemory
from training.callbacks.saving import SaveBest, SaveLatest, ignore_write_errors
from training.models import Models, weights_of_attempt
from training.settings import Settings


class RunCallbacks(NamedTuple):
    """The callbacks that have a state of their own, or save the state of a run."""

    averages: SwapAveragedWeights | None
    begin_again: BeginAgain
    grow: GrowMemory | None
    guard: GuardGradients
    latest: SaveLatest
    best: SaveBest
    stop: StopWhenSolved
    clock: RunTime
    checkpoints: Checkpoints

    @classmethod
    def make(
        cls,
        settings: Settings,
        logdir: str,
        models: Models,
        validation: tf.data.Dataset,
        test: Callable[[int, int], float],
        started: float,
    ) -> RunCallbacks:
        """The callbacks of a training of `models.trainer`."""
        model, trainer, tester = models
        task, seconds = settings.made_task, settings.checkpoint_seconds
        averages = SwapAveragedWeights() if settings.ema_momentum else None
        guard = GuardGradients()
        monitor = f"val_{task.solved_measure}"
        best = SaveBest(os.path.join(logdir, "best.keras"), model, monitor)
        below = settings.solved_below or task.solved_below
        stop = StopWhenSolved(below, test, monitor, settings.solved_times, settings.test_parts)
        begin_again = _begin_again(settings, stop)
        clock = RunTime(started)
        for callback in (guard, averages, begin_again):
            if callback:
                callback.set_model(trainer)
        own = (each.variables for each in (begin_again, guard, best, stop, clock))
        variables = {name: variable for each in own for name, variable in each.items()}
        return cls(
            averages,
            begin_again,
            None if tester is trainer else GrowMemory(models, validation),
            guard,
            SaveLatest(os.path.join(logdir, "model.keras"), model, seconds),
            best,
            stop,
            clock,
            Checkpoints(os.path.join(logdir, "checkpoints"), variables, averages, seconds=seconds),
        )

    def in_order(
        self,
        steps: int,
        logs: list[keras.callbacks.Callback],
        progress: keras.callbacks.Callback,
        on_signal: StopOnSignal,
    ) -> list[keras.callbacks.Callback]:
        """All callbacks of a training up to a step; each comes after the callbacks it needs."""
        return [
            StopAfter(steps),
            *[each for each in (self.averages, self.begin_again, self.grow) if each],
            self.guard,
            StopWhenNotFinite(),
            *[ignore_write_errors(each) for each in (*logs, self.latest, self.best)],
            self.stop,
            self.clock,
            progress,
            ignore_write_errors(self.checkpoints),
            on_signal,
        ]

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the models have their averaged weights, if the run averages."""
        with self.averages.shown() if self.averages else contextlib.nullcontext():
            if self.grow:
                self.grow.copy()
            yield

    def save(self) -> None:
        """Writes a checkpoint and the model; if that fails, a warning says why."""
        try:
            self.checkpoints.write()
            with self.averaged():
                self.latest.save()
        except OSError as error:
            warnings.warn(str(error), stacklevel=2)


def _begin_again(settings: Settings, stop: StopWhenSolved) -> BeginAgain:
    steps = settings.attempt_steps if settings.may_begin_again else 0
    weights = functools.partial(weights_of_attempt, settings)
    return BeginAgain(steps, settings.steps, stop.is_passing, weights)
