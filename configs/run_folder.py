"""The folder of a run: who writes into it, and what is in it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import shutil
from typing import Any

from absl import flags

from configs.command_line import DATA_NAMES, GROUPS, OUTPUTS, SETTINGS, BadInput, flag_values

FLAGS = flags.FLAGS

_FOLDERS = ("checkpoints", "train", "validation", "eval")


def make_new(task_name: str) -> str:
    """Makes a folder for a run that no other has: runs/TASK/DATE-TIME.

    Raises:
        BadInput: It cannot be made.
    """
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    first = logdir = os.path.join("runs", task_name, now)
    number = 1
    while True:
        try:
            os.makedirs(logdir)
            return logdir
        except FileExistsError:
            number += 1
            logdir = f"{first}_{number}"
        except OSError as error:
            raise BadInput(f"--logdir={logdir} cannot be written: {error}") from error


def claim(logdir: str) -> Any:
    """Makes the folder if need be, and this process the only one to train in it.

    Returns:
        What must be kept as long as the process writes.

    Raises:
        BadInput: Another process does, or the folder cannot be written.
    """
    import fcntl  # Windows has none; there train.py can show its help, and evaluate.

    try:
        os.makedirs(logdir, exist_ok=True)
        lock = open(os.path.join(logdir, "lock"), "a+", encoding="utf-8")
        try:
            # The system gives the lock back when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise BadInput(
                f"--logdir={logdir} is being written by another run, process {lock.read().strip()}."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    except OSError as error:
        raise BadInput(f"--logdir={logdir} cannot be written: {error}") from error
    return lock


def clear(logdir: str) -> None:
    """Removes what a run has written, and nothing else."""
    folder = pathlib.Path(logdir)
    logs = (f"{name}/events.*" for name in _FOLDERS)
    for pattern in (SETTINGS, DATA_NAMES, *OUTPUTS, "events.*", *logs, "checkpoints/step-*"):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    for name in _FOLDERS:
        with contextlib.suppress(OSError):  # It is not there, or something else is in it.
            (folder / name).rmdir()


def kept_steps(logdir: str) -> list[int]:
    """The training steps of the run's checkpoints, in order."""
    finished = pathlib.Path(logdir, "checkpoints").glob("step-*.sha256")
    steps = (path.stem.removeprefix("step-") for path in finished)
    return sorted(int(step) for step in steps if step.isdecimal())


def write(logdir: str, name: str, text: str) -> None:
    """Writes a file of the folder, whole or not at all.

    Raises:
        BadInput: It cannot be written.
    """
    path = pathlib.Path(logdir, name)
    try:
        unfinished = path.with_suffix(".part")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error


def write_settings(logdir: str) -> None:
    """Writes the flags, as a flagfile that makes the same run."""
    lines = [
        f"--{name}={value}\n" for name, value in flag_values(*GROUPS).items() if value is not None
    ]
    write(logdir, SETTINGS, "".join(lines))


def check_data(logdir: str, names: dict[str, list[str]]) -> None:
    """Refuses data that is not the run's: else it could be measured on what it was trained with.

    Args:
        logdir: The run's folder.
        names: `Task.data_names`.

    Raises:
        BadInput: The run has other data, or the file that names it is damaged.
    """
    path = pathlib.Path(logdir, DATA_NAMES)
    if not names or not path.exists():
        return
    try:
        of_run = json.loads(path.read_text(encoding="utf-8"))
        for part, now in names.items():
            then = of_run[part]
            changes = _told("missing", set(then) - set(now)) + _told("new", set(now) - set(then))
            if changes:
                raise BadInput(
                    f"The run in {logdir} has other data for {part}, named in {path}:"
                    f" {', and '.join(changes)}. Give it its own, or begin another run."
                )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not what a run writes: {error!r}") from error


def _told(what: str, names: set[str]) -> list[str]:
    """A few of the names, and how many there are; nothing where there are none."""
    first = ", ".join(sorted(names)[:3])
    return [f"{len(names)} are {what} ({first}{', ..' if len(names) > 3 else ''})"] if names else []


def write_data_names(logdir: str, names: dict[str, list[str]]) -> None:
    """Writes `Task.data_names`, if there are any."""
    if names:
        write(logdir, DATA_NAMES, json.dumps(names, indent=1) + "\n")


def forget_events_after(logdir: str, step: int) -> None:
    """Takes out of the event files what a run wrote after the step from which it goes on.

    Raises:
        BadInput: The files cannot be written.
    """
    import tensorflow as tf

    for folder in (pathlib.Path(logdir, name) for name in ("train", "validation")):
        for unfinished in folder.glob("*.part"):  # Of a process that was killed while it did this.
            unfinished.unlink()
        for path in folder.glob("events.*"):
            try:
                _forget_after(path, step)
            except (OSError, tf.errors.OpError) as error:
                raise BadInput(f"{path} cannot be written: {error}") from error


def _forget_after(path: pathlib.Path, step: int) -> None:
    import tensorflow as tf
    from tensorboard.compat.proto.event_pb2 import Event

    records = []
    # A run that was killed leaves a record half written.
    with contextlib.suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            records.append(record)
    unfinished = f"{path}.part"
    with tf.io.TFRecordWriter(unfinished) as writer:
        for record in records:
            if Event.FromString(record).step <= step:
                writer.write(record)
    os.replace(unfinished, path)
