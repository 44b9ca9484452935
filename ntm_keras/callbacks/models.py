"""The model as it is trained, in a file of its own."""

from __future__ import annotations

import math
import os
import time

import tensorflow as tf

from ntm_keras import arguments
from ntm_keras.callbacks.monitor import monitored
from ntm_keras.keras_compat import keras


class SaveLatest(keras.callbacks.Callback):
    """Saves the model after an epoch, and when training ends.

    Args:
        path: Where to save, ending in `.keras`; its folder is made when training begins. The file
            is written beside and renamed, so that there is always a whole one.
        saved: What to save; by default the model that is trained.
        seconds: The least time between two epochs after which it is saved.

    Raises:
        ValueError: `path` does not end in `.keras`, or `seconds` is no number of at least 0.
        OSError: In training, when the file cannot be written. What was saved last stays.
    """

    def __init__(self, path: str, saved: keras.Model | None = None, seconds: float = 30.0):
        super().__init__()
        self._path = _keras_file(path)
        self._saved = saved
        self._seconds = arguments.number("seconds", seconds, at_least=0)
        self._saved_at = -math.inf

    def on_train_begin(self, logs=None):
        _make_folder(self._path)

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self._saved_at >= self._seconds:
            self.save()

    def on_train_end(self, logs=None):
        self.save()

    def save(self) -> None:
        """Saves the model as it is now."""
        _save(self._saved or self.model, self._path)
        self._saved_at = time.monotonic()


class SaveBest(keras.callbacks.Callback):
    """Saves the model after every epoch that is better than all before.

    Args:
        path: Where to save, ending in `.keras`; its folder is made when training begins. The file
            is written beside and renamed, so that there is always a whole one.
        monitor: What of the logs is lower, the better. After an epoch without it nothing is saved,
            and a warning says so.
        saved: What to save; by default the model that is trained.

    Raises:
        ValueError: `path` does not end in `.keras`.
        OSError: In training, when the file cannot be written. What was saved last stays.
    """

    def __init__(self, path: str, monitor: str = "val_loss", saved: keras.Model | None = None):
        super().__init__()
        self._path = _keras_file(path)
        self._monitor = monitor
        self._saved = saved
        # What a checkpoint has to keep.
        self.variables = {"lowest": tf.Variable(math.inf, trainable=False)}

    def on_train_begin(self, logs=None):
        _make_folder(self._path)

    def on_epoch_end(self, epoch, logs=None):
        value = monitored(self._monitor, logs)
        if value < self.variables["lowest"]:
            _save(self._saved or self.model, self._path)
            self.variables["lowest"].assign(value)


def _keras_file(path: str) -> str:
    if not str(path).endswith(".keras"):
        raise ValueError(f"Argument `path` must end in '.keras'. Received: path={path!r}")
    return os.path.expanduser(path)


def _make_folder(path: str) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)


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
