"""How a run goes, in the terminal or in a file."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from ntm_keras.keras_compat import keras, training_step
from training import report
from training.callbacks.ends import RunTime, StopWhenSolved
from training.settings import Settings


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """A context in which a terminal shows what takes a while."""
    console = Console()
    with console.status(what) if console.is_terminal else contextlib.nullcontext():
        yield


class Progress(keras.callbacks.Callback):
    """Prints a line for each validation; below them a terminal shows where the training is.

    Put it after the callbacks that it asks.

    Args:
        settings: The run's settings.
        stop: It knows how many validations in a row were passed.
        clock: It knows the seconds of training.
    """

    def __init__(self, settings: Settings, stop: StopWhenSolved, clock: RunTime):
        super().__init__()
        self._settings = settings
        self._stop = stop
        self._clock = clock
        self._measure = settings.made_task.solved_measure
        self._validation = "none yet"
        # The step and the time of the first call's end: that call compiles.
        self._first: tuple[int, float] | None = None
        self._step = 0

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """A context for the training: it begins with the head of the lines."""
        console = Console()
        with (
            Live(get_renderable=self._now, console=console, refresh_per_second=2, transient=True)
            if console.is_terminal
            else contextlib.nullcontext()
        ):
            print(self._line("step", "time", "loss", report.title(self._measure), "passed"))
            yield

    def on_train_batch_end(self, batch, logs=None):
        self._step = training_step(self.model)
        self._first = self._first or (self._step, time.perf_counter())

    def on_epoch_end(self, epoch, logs=None):
        value = f"{logs[f'val_{self._measure}']:.4f}"
        passed = f"{self._stop.passed} of {self._settings.solved_times}"
        self._validation = f"{value}, {passed} validations in a row passed"
        if self._stop.failed_test is not None:
            passed = f"{self._stop.failed_test:.4f} in test"
            self._validation = f"{value}, but {passed}"
        seconds = _time(self._clock.seconds)
        step = str(training_step(self.model))
        print(self._line(step, seconds, f"{logs['loss']:.4f}", value, passed), flush=True)

    def _line(self, step: str, seconds: str, loss: str, value: str, passed: str) -> str:
        width = len(self._measure)
        return f"{step:>8} {seconds:>9} {loss:>9}  {value:>{width}}  {passed:>14}"

    def _now(self) -> Group:
        """What a terminal shows below the lines."""
        total = self._settings.steps
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            f"{self._step}/{total}",
            ProgressBar(total=total, completed=self._step, width=20),
            self._speed(),
        )
        return Group(bar, f"{report.title(self._measure)}: {self._validation}")

    def _speed(self) -> str:
        """The sequences a second, and how long the steps that are left would take."""
        if self._stop.is_testing:
            return "testing on fresh sequences"
        if self._first is None:
            return "compiling the training step"
        step, began = self._first
        seconds, steps = time.perf_counter() - began, self._step - step
        if not steps:
            return ""
        left = seconds / steps * (self._settings.steps - self._step)
        sequences = steps * self._settings.batch_size / seconds
        return f"{sequences:.0f} sequences/s, at most {_time(left)} left"


def _time(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
