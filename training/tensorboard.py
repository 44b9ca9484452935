"""What a run writes for TensorBoard outside its callbacks, and removes when it continues."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import pathlib
import shlex
from typing import Any

import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api as hparams

from ntm_keras.callbacks.events import EventLog
from ntm_keras.callbacks.images import write_figures
from ntm_keras.keras_compat import as_graph, keras
from ntm_keras.tracing import trace_model
from tasks.task import Task
from training import flagfiles, report
from training.callbacks.logs import write_at_size
from training.errors import BadInput
from training.run_folder import LOGS, SETTINGS
from training.settings import Settings, flags_of_other_models


def write_settings(logdir: str, settings: Settings) -> None:
    """Writes the flags, and a command line that repeats the run, as text; and hparams."""
    flags = settings.as_flags()
    table = ["| flag | value |", "| --- | --- |"]
    table += [f"| {name} | {value} |" for name, value in flags.items()]
    command = shlex.join(["python", "train.py", f"--flagfile={os.path.join(logdir, SETTINGS)}"])
    with EventLog(logdir).writing():
        tf.summary.text("command line", f"    {command}", step=0)
        tf.summary.text("flags", "\n".join(table), step=0)
        hparams.hparams(compared(settings), trial_id=logdir)


def compared(settings: Settings) -> dict[str, Any]:
    """The flags by which runs are compared: task, model, seed, and what differs from the config.

    Flags that mean nothing to the model are left out.
    """
    usual = flagfiles.usual(settings.task_name)
    others = flags_of_other_models(settings.model)
    always = {"task", "model", "seed"}
    return {
        name: "none" if value is None else value
        for name, value in settings.as_flags().items()
        if name in always or (value != usual.get(name) and name not in others)
    }


def descriptions(task: Task) -> dict[str, str]:
    """What the loss and the task's measures are, by their names."""
    named = {"loss": task.loss(), **{measure.name: measure for measure in task.measures()}}
    return {name: str(inspect.getdoc(type(each))).split("\n")[0] for name, each in named.items()}


def write_evaluation(
    logdir: str,
    task: Task,
    model: keras.Model,
    step: int,
    records: list[dict[str, Any]],
    data: list[tuple[str, tf.data.Dataset]],
) -> None:
    """Writes the measures, and an example of each size, at the run's last step."""
    examples = [next(iter(dataset)) for _, dataset in data]
    outputs, traces = _trace_together(model, [inputs[:1] for inputs, *_ in examples])
    for index, (record, (written, _)) in enumerate(zip(records, data)):
        log = EventLog(os.path.join(logdir, "eval", f"size_{written}"))
        write_at_size(log, report.at_size(record), descriptions(task), step)
        inputs, targets, mask = examples[index]
        own = functools.partial(_of_sequence, index=index, time=inputs.shape[1])
        figures = {
            f"{name}_at_sizes": task.plot(
                inputs,
                targets,
                own(outputs),
                mask,
                tf.nest.map_structure(own, trace),
                f"A sequence of size {written}",
            )
            for name, trace in (traces or {"model": None}).items()
        }
        with log.writing():
            write_figures(figures, step)


def _trace_together(model: keras.Model, sequences: list[tf.Tensor]) -> tuple[Any, dict[str, Any]]:
    """`trace_model` of sequences of different lengths, as one padded batch."""
    longest = max(each.shape[1] for each in sequences)
    padded = [tf.pad(each, [[0, 0], [0, longest - each.shape[1]], [0, 0]]) for each in sequences]
    # As a graph: step by step, it takes many times as long.
    trace = as_graph(functools.partial(trace_model, model))
    return trace(tf.concat(padded, axis=0))


def _of_sequence(tensor: tf.Tensor, index: int, time: int) -> tf.Tensor:
    """One sequence's part, `(1, time, ..)`, of what was computed for all."""
    return None if tensor is None else tensor[index : index + 1, :time]


def forget_events_after(logdir: str, step: int) -> None:
    """Removes from the event files what the run wrote after this step.

    Raises:
        BadInput: The files cannot be written.
    """
    for folder in (path for name in LOGS for path in pathlib.Path(logdir).glob(name)):
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
