"""Numbers over training, for TensorBoard.

The step axis counts training steps, so that runs with different epochs can be compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import tensorflow as tf

from ntm_keras.callbacks.images import EventLog, EveryFewEpochs
from ntm_keras.keras_compat import keras, training_step


class ScalarLog(keras.callbacks.Callback):
    """Writes the logs of every epoch for TensorBoard: training and validation in one chart.

    It adds the learning rate, the sequences seen, and the sequences per second of training time
    (without validation and the other callbacks).

    Args:
        log_dir: The run's folder; training is written to its folder `train`, validation to
            `validation`.
        batch_size: Sequences of a batch.
    """

    def __init__(self, log_dir: str, batch_size: int):
        super().__init__()
        self.batch_size = batch_size
        self._log_dir = log_dir

    def on_train_begin(self, logs=None):
        self._logs = {
            run: EventLog(os.path.join(self._log_dir, run)) for run in ("train", "validation")
        }

    def on_epoch_begin(self, epoch, logs=None):
        self._start_step, self._start = training_step(self.model), time.perf_counter()
        self._stop = self._start

    def on_train_batch_end(self, batch, logs=None):
        self._stop = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        step, logs = training_step(self.model), logs or {}
        trained = (step - self._start_step) * self.batch_size
        train = {tag: value for tag, value in logs.items() if not tag.startswith("val_")}
        train["learning_rate"] = float(tf.convert_to_tensor(self.model.optimizer.learning_rate))
        train["sequences_seen"] = step * self.batch_size
        if self._stop > self._start:
            train["sequences_per_second"] = trained / (self._stop - self._start)
        self._write("train", train, step)
        self._write(
            "validation",
            {tag[4:]: value for tag, value in logs.items() if tag.startswith("val_")},
            step,
        )

    def _write(self, run: str, scalars: dict[str, float], step: int) -> None:
        with self._logs[run].writing():
            for tag, value in scalars.items():
                tf.summary.scalar(tag, value, step=step)


class Measurements(EveryFewEpochs):
    """Writes the scalars that a function measures for TensorBoard, every few epochs.

    Args:
        log_dir: Where to write.
        measure: Returns a dict from tag to scalar.
        every: Measure after every `every` epochs, and when training ends.
    """

    def __init__(self, log_dir: str, measure: Callable[[], dict[str, float]], every: int = 1):
        super().__init__(log_dir, every)
        self._measure = measure

    def _run(self, step: int) -> None:
        measured = self._measure()
        with self._log.writing():
            for tag, value in measured.items():
                tf.summary.scalar(tag, value, step=step)
