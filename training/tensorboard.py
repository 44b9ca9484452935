"""What a run writes for TensorBoard outside its callbacks, and removes when it continues."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import sys
from typing import Any

import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api as hparams

from ntm_keras.callbacks import write_machine_images
from ntm_keras.callbacks.images import EventLog
from ntm_keras.keras_compat import keras
from ntm_keras.tracing import trace_model
from tasks.task import Task
from training import report
from training.errors import BadInput


def write_settings(logdir: str, flags: dict[str, Any]) -> None:
    """Writes the flags and the command line as text, and the flags as hparams, to compare runs."""
    table = ["| flag | value |", "| --- | --- |"]
    table += [f"| {name} | {value} |" for name, value in flags.items()]
    command = shlex.join(["python", *sys.argv])
    with EventLog(logdir).writing():
        tf.summary.text("command line", f"    {command}", step=0)
        tf.summary.text("flags", "\n".join(table), step=0)
        hparams.hparams({name: "none" if value is None else value for name, value in flags.items()})


def at_size(record: dict[str, Any]) -> dict[str, float]:
    """A record's measures by their tags, `MEASURE_at_size/SIZE`."""
    found = {**report.measures(record), **report.share_without_error(record)}
    return {f"{name}_at_size/{record['size']}": value for name, value in found.items()}


def write_evaluation(
    logdir: str,
    task: Task,
    model: keras.Model,
    step: int,
    records: list[dict[str, Any]],
    data: list[tuple[str, tf.data.Dataset]],
) -> None:
    """Writes the measures, and an example of each size, at the run's last step."""
    log = EventLog(os.path.join(logdir, "eval"))
    for record, (written, dataset) in zip(records, data):
        with log.writing():
            for name, value in at_size(record).items():
                tf.summary.scalar(name, value, step=step)
        inputs, targets, mask = next(iter(dataset))
        outputs, traces = trace_model(model, inputs[:1])
        drawn = task.pictures(inputs, targets, outputs, mask)
        with log.writing():
            write_machine_images(traces, drawn, step, f"/size_{written}")


def forget_events_after(logdir: str, step: int) -> None:
    """Removes from the event files what the run wrote after this step.

    Raises:
        BadInput: The files cannot be written.
    """
    for folder in (pathlib.Path(logdir, name) for name in ("train", "validation")):
        for unfinished in folder.glob("*.part"):  # Left by a killed process.
            unfinished.unlink()
        for path in folder.glob("events.*"):
            try:
                _forget_after(path, step)
            except (OSError, tf.errors.OpError) as error:
                raise BadInput(f"{path} cannot be written: {error}") from error


def _forget_after(path: pathlib.Path, step: int) -> None:
    records = []
    # A killed run leaves an incomplete record.
    with contextlib.suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            records.append(record)
    unfinished = f"{path}.part"
    with tf.io.TFRecordWriter(unfinished) as writer:
        for record in records:
            if Event.FromString(record).step <= step:
                writer.write(record)
    os.replace(unfinished, path)
