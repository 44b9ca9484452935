"""Event files for TensorBoard, and when to write to them."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from ntm_keras import validation
from ntm_keras.keras_compat import keras, training_step


class EventLog:
    """An event file for TensorBoard, created when it is first written to.

    Args:
        folder: The file's folder, created if necessary.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = os.path.expanduser(folder)
        self._folder_was_there = False
        self._suffix = f".{os.urandom(4).hex()}.v2"
        self._writer: Any = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A context in which summaries are written to the file. It ends with a flush.

        Raises:
            OSError: They cannot be written. The next summaries go into a new file.
        """
        if not self._folder_was_there:
            os.makedirs(self._folder, exist_ok=True)
            self._folder_was_there = True
        if not os.path.isdir(self._folder):  # TensorFlow does not notice this.
            raise OSError(f"{self._folder} cannot be written: it is no longer there")
        try:
            self._writer = self._writer or tf.summary.create_file_writer(
                self._folder, filename_suffix=self._suffix
            )
            with self._writer.as_default():
                yield
            self._writer.flush()
        except tf.errors.OpError as error:
            self._writer = None  # Its last record is incomplete.
            for path in pathlib.Path(self._folder).glob(f"*{self._suffix}"):
                if path.stat().st_size == 0:
                    path.unlink()
            raise OSError(f"{self._folder} cannot be written: {reason(error)}") from error


def reason(error: tf.errors.OpError) -> str:
    """Why TensorFlow could not write, without the names of its operations and files."""
    return error.message.split("; ")[-1].split(" [Op:")[0].splitlines()[0]


class EveryFewEpochs(keras.callbacks.Callback):
    """Calls `_run` after every `every` epochs and after training, once for a training step.

    Without `every`: after 1, 2, 3, 4, 6, 8, 12, 16, 23, .. epochs, twice in each doubling.
    """

    def __init__(self, log_dir: str | os.PathLike, every: int | None):
        super().__init__()
        self._log_dir = log_dir
        self._every = None if every is None else validation.integer("every", every, at_least=1)
        self._done_at = -1

    def on_epoch_end(self, epoch, logs=None):
        if self._is_due(epoch + 1):
            self.on_train_end()

    def _is_due(self, epochs: int) -> bool:
        if self._every:
            return epochs % self._every == 0
        return epochs == 1 or int(2 * math.log2(epochs)) > int(2 * math.log2(epochs - 1))

    def on_train_end(self, logs=None):
        step = training_step(self.model)
        if step != self._done_at:
            self._done_at = step
            self._run(step)

    def _run(self, step: int) -> None:
        raise NotImplementedError
