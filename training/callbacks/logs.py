"""Numbers over training, for TensorBoard.

The step axis counts training steps, so that runs with different epochs can be compared. Tags begin
with a group. TensorBoard sorts groups by name: `learning`, `sizes`, `training`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import tensorflow as tf

from ntm_keras.callbacks.events import EventLog, EveryFewEpochs
from ntm_keras.keras_compat import keras, to_numpy, training_step

# What is not a measure of the task.
_TRAINING = {
    "learning_rate": "The optimizer's learning rate; after training has begun again, with Adam's "
    "correction for its new moments.",
    "sequences_seen": "How many sequences the machine was trained on so far.",
    "sequences_per_second": "Speed of the training steps, without validations.",
    "gradient_norm": "The gradient's norm in the last step, before clipping.",
    "gradients_left_out": "How many gradients were left out so far, as they were not finite.",
}


class ScalarLog(keras.callbacks.Callback):
    """Writes the logs of every epoch for TensorBoard: training and validation in one chart.

    It adds the learning rate, the sequences seen, and the sequences per second of training time
    (without validation and the other callbacks).

    Args:
        log_dir: The run's folder; training is written to its folder `train`, validation to
            `validation`.
        batch_size: Sequences of a batch.
        descriptions: What the task's measures are, by their names.
    """

    def __init__(self, log_dir: str, batch_size: int, descriptions: Mapping[str, str]):
        super().__init__()
        self.batch_size = batch_size
        self._log_dir = log_dir
        self._descriptions = {**descriptions, **_TRAINING}

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
        train = {name: value for name, value in logs.items() if not name.startswith("val_")}
        train["learning_rate"] = float(to_numpy(self.model.optimizer.learning_rate))
        train["sequences_seen"] = step * self.batch_size
        if self._stop > self._start:
            train["sequences_per_second"] = trained / (self._stop - self._start)
        self._write("train", train, step)
        self._write(
            "validation",
            {name[4:]: value for name, value in logs.items() if name.startswith("val_")},
            step,
        )

    def _write(self, run: str, scalars: dict[str, float], step: int) -> None:
        with self._logs[run].writing():
            for name, value in scalars.items():
                group = "training" if name in _TRAINING else "learning"
                description = self._descriptions.get(name)
                tf.summary.scalar(f"{group}/{name}", value, step=step, description=description)


class SizeLog(EveryFewEpochs):
    """Writes measures at several sizes for TensorBoard, every few epochs.

    Each size is a run of its own: the sizes are lines of one chart.

    Args:
        log_dir: The run's folder; a size is written to its folder `size_SIZE`.
        measure: Returns a dict from size to a dict from measure to number.
        descriptions: What the measures are, by their names.
        every: Measure after every `every` epochs, and when training ends.
    """

    def __init__(
        self,
        log_dir: str,
        measure: Callable[[], Mapping[str, Mapping[str, float]]],
        descriptions: Mapping[str, str],
        every: int,
    ):
        super().__init__(log_dir, every)
        self._measure = measure
        self._descriptions = descriptions
        self._logs: dict[str, EventLog] = {}

    def on_train_begin(self, logs=None):
        self._logs = {}

    def _run(self, step: int) -> None:
        for size, measures in self._measure().items():
            if size not in self._logs:
                self._logs[size] = EventLog(os.path.join(self._log_dir, f"size_{size}"))
            write_at_size(self._logs[size], measures, self._descriptions, step)


def write_at_size(
    log: EventLog, measures: Mapping[str, float], descriptions: Mapping[str, str], step: int
) -> None:
    """Writes the measures at one size."""
    with log.writing():
        for name, value in measures.items():
            tf.summary.scalar(f"sizes/{name}", value, step=step, description=descriptions.get(name))
