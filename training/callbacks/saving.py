"""Callbacks that save the model during training, also when the disk is full."""

from __future__ import annotations

import functools
import math
import os
import time
import warnings
from typing import Any

import tensorflow as tf

from ntm_keras.keras_compat import keras


class SaveLatest(keras.callbacks.Callback):
    """Saves a model after an epoch, and when training ends.

    Args:
        path: Where to save, ending in `.keras`. A new file is written under another name and then
            renamed, so that the file at `path` is always complete.
        saved: The model to save.
        seconds: The least time between two saves after an epoch.

    Raises:
        OSError: In training, when the file cannot be written. The last saved file stays.
    """

    def __init__(self, path: str, saved: keras.Model, seconds: float = 30.0):
        super().__init__()
        self._path = path
        self._saved = saved
        self._seconds = seconds
        self._saved_at = -math.inf

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self._saved_at >= self._seconds:
            self.save()

    def on_train_end(self, logs=None):
        self.save()

    def save(self) -> None:
        """Saves the model as it is now."""
        _save(self._saved, self._path)
        self._saved_at = time.monotonic()


class SaveBest(keras.callbacks.Callback):
    """Saves a model after every epoch that no epoch before was better than.

    Args:
        path: As for `SaveLatest`.
        saved: The model to save.
        monitor: The name in the logs of the number that is lower in a better epoch.

    Raises:
        OSError: In training, when the file cannot be written. The last saved file stays.
    """

    def __init__(self, path: str, saved: keras.Model, monitor: str):
        super().__init__()
        self._path = path
        self._saved = saved
        self._monitor = monitor
        # The variables that a checkpoint must keep.
        self.variables = {"lowest": tf.Variable(math.inf, trainable=False)}

    def on_epoch_end(self, epoch, logs=None):
        value = logs[self._monitor]
        if value <= self.variables["lowest"]:
            _save(self._saved, self._path)
            self.variables["lowest"].assign(value)


def _save(model: keras.Model, path: str) -> None:
    root, extension = os.path.splitext(path)
    unfinished = f"{root}.part{extension}"
    try:
        model.save(unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        if os.path.exists(unfinished):
            os.remove(unfinished)
        raise OSError(f"{path} cannot be written: {error}") from error


_HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_end",
    "on_epoch_end",
    "on_train_end",
)


def ignore_write_errors(callback: Any) -> Any:
    """Lets training go on if a callback cannot write, for example because the disk is full.

    Args:
        callback: The callback. An `OSError` in its hooks no longer ends training; the first one
            becomes a warning.

    Returns:
        The same callback.
    """
    failed = False

    def without_failing(hook):
        @functools.wraps(hook)
        def call(*args, **kwargs):
            nonlocal failed
            try:
                hook(*args, **kwargs)
            except OSError as error:
                if not failed:
                    warnings.warn(f"{error}. Training goes on", stacklevel=2)
                failed = True

        return call

    for name in _HOOKS:
        setattr(callback, name, without_failing(getattr(callback, name)))
    return callback
