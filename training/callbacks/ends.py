"""Callbacks that end a training, and one that measures its time."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ntm_keras.keras_compat import keras, to_numpy, training_step


class StopAfter(keras.callbacks.Callback):
    """Ends training after `steps` training steps, even in the middle of an epoch."""

    def __init__(self, steps: int):
        super().__init__()
        self._steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if training_step(self.model) >= self._steps:
            self.model.stop_training = True


class StopWhenSolved(keras.callbacks.Callback):
    """Ends training when the validation, and then a test on fresh data, is below a threshold.

    A test that is repeated until it is passed is passed by luck sooner or later. So this test has
    `parts`: one, one more, then twice as many as so far. It is failed as soon as the mean so far is
    not below the threshold. A machine that often fails costs one part; one that passes all of them
    fails a final measure on as many sequences as a part has only by rare chance.

    Args:
        below: The threshold.
        test: Called with the number of the first part, different in every test, and a number of
            parts; returns the measure on the fresh sequences that belong to these parts.
        monitor: The name in the logs of the number to compare with `below`.
        times: How many validations in a row must be below the threshold before the test.
        parts: How many parts a test has at most, a power of 2.

    Attributes:
        is_testing: Whether a test is going on.
        failed_test: The measure in the test after the last validation, if there was one and it was
            not passed.
    """

    def __init__(
        self,
        below: float,
        test: Callable[[int, int], float],
        monitor: str,
        times: int = 1,
        parts: int = 1,
    ):
        super().__init__()
        self._below = below
        self._test = test
        self._monitor = monitor
        self._times = times
        self._parts = parts
        self.is_testing = False
        self.failed_test: float | None = None
        # The variables that a checkpoint must keep.
        self.variables = {"passed_in_a_row": tf.Variable(0, trainable=False)}

    def on_epoch_end(self, epoch, logs=None):
        passes = logs[self._monitor] < self._below
        passed = self.variables["passed_in_a_row"]
        passed.assign(passed + 1 if passes else 0)
        if self.is_solved(training_step(self.model)):
            self.model.stop_training = True

    @property
    def passed(self) -> int:
        """How many validations in a row were below the threshold, up to as many as are needed."""
        return min(int(self.variables["passed_in_a_row"]), self._times)

    def is_passing(self) -> bool:
        """Whether the last validation, and the test if there was one, were passed."""
        return self.passed > 0 and self.failed_test is None

    def is_solved(self, step: int) -> bool:
        """Whether enough validations in a row and the test at this step are passed."""
        self.failed_test = None
        if self.passed < self._times:
            return False
        self.is_testing = True
        is_passed = self._passes_test(step)
        self.is_testing = False
        return is_passed

    def _passes_test(self, step: int) -> bool:
        total, done = 0.0, 0
        while done < self._parts:
            parts = max(done, 1)
            total += parts * self._test(step * self._parts + done, parts)
            done += parts
            if not total / done < self._below:
                self.failed_test = total / done
                return False
        return True


class RunTime(keras.callbacks.Callback):
    """Counts the seconds of a training, over all processes in which it ran.

    Args:
        started: The start of this process or call, by `time.perf_counter`.
    """

    def __init__(self, started: float):
        super().__init__()
        self._since = started
        # The variables that a checkpoint must keep.
        self.variables = {"seconds": tf.Variable(0.0, trainable=False, dtype=tf.float64)}

    def on_train_batch_end(self, batch, logs=None):
        self.count()

    def on_epoch_end(self, epoch, logs=None):
        self.count()

    def count(self) -> None:
        """Adds the seconds since the last call."""
        now = time.perf_counter()
        self.variables["seconds"].assign_add(now - self._since)
        self._since = now

    @property
    def seconds(self) -> float:
        """The seconds up to the last call of `count`."""
        return float(self.variables["seconds"])


class SignalReceivedError(Exception):
    """Training ended because of a signal, `number`."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopOnSignal(keras.callbacks.Callback):
    """Ends training on Ctrl-C or SIGTERM after the current step. A second signal ends it at once.

    After the last step of an epoch it waits for the validation. Put it after the callbacks that
    must finish their work first. When training ends, it restores the signal handlers; call
    `on_train_end` for that if another callback raises an exception. Python allows only the main
    thread to catch signals: in another thread this callback does nothing.

    Args:
        save: Called before training ends.

    Raises:
        SignalReceivedError: In training, after a signal.
    """

    def __init__(self, save: Callable[[], None]):
        super().__init__()
        self._save = save
        self._received: int | None = None
        self._handlers: dict[int, Any] = {}
        self._epoch_began = 0

    def on_train_begin(self, logs=None):
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._receive)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_began = training_step(self.model)

    def on_train_batch_end(self, batch, logs=None):
        # If a call makes several steps, `batch` is the first or the last, depending on Keras.
        if training_step(self.model) - self._epoch_began != self.params.get("steps"):
            self._end_if_asked_to()

    def on_epoch_end(self, epoch, logs=None):
        self._end_if_asked_to()

    def _end_if_asked_to(self) -> None:
        if self._received is not None:
            self._save()
            self.on_train_end()
            received, self._received = self._received, None
            raise SignalReceivedError(received)

    def on_train_end(self, logs=None):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _receive(self, number: int, frame: Any) -> None:
        self._received = number
        name = signal.Signals(number).name
        print(
            f"\n{name}: stopping after the current steps. A second signal stops at once.",
            flush=True,
        )
        self.on_train_end()


class NonFiniteLossError(Exception):
    """The loss became NaN or infinite."""


class StopWhenNotFinite(keras.callbacks.Callback):
    """Ends training when its loss is no longer finite, and says what overflowed first.

    Put it before the callbacks that save. The training needs a `GuardGradients` too.

    Raises:
        NonFiniteLossError: In training, when loss or validation loss is NaN or infinite.
    """

    def on_train_batch_end(self, batch, logs=None):
        self._check("loss", logs)

    def on_epoch_end(self, epoch, logs=None):
        self._check("loss", logs)
        self._check("val_loss", logs)

    def _check(self, name: str, logs: Any) -> None:
        value = (logs or {}).get(name, 0.0)
        if not math.isfinite(value):
            step = training_step(self.model)
            raise NonFiniteLossError(
                f"{name} became {value} by training step {step}, with {self._not_finite()}"
            )

    def _not_finite(self) -> str:
        """Which weights are not finite, and which gradient was left out first."""
        variables = self.model.trainable_variables
        weights = [_path(each) for each in variables if not np.isfinite(to_numpy(each)).all()]
        found = f"{', '.join(weights) or 'no weight'} not finite"
        step, index = to_numpy(self.model.optimizer.first_left_out)
        if step > 0:
            weight = _path(variables[index])
            found += f"; the first gradient to overflow was that of {weight} in step {step} of the"
            found += " optimizer"
        return found


def _path(weight: Any) -> str:
    """A weight's name with its layers' names: Keras 2 has it in `name`, Keras 3 in `path`."""
    return getattr(weight, "path", weight.name)
