"""The folder of a run: who writes into it, and what is in it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from training import flagfiles
from training.errors import BadInput

# The files of a run's flags and of the names of its data, in its folder, and what else lies there
# beside event files.
SETTINGS = "flags.cfg"
DATA_NAMES = "data_names.json"
OUTPUTS = ("model.keras", "best.keras", "result.json", "eval.json")

PRETRAINED = pathlib.Path(os.path.realpath(__file__)).parent.parent / "pretrained"

# What may change when a run goes on: how long, how often looked at, measured on what, and where its
# data lies.
_MAY_CHANGE = {
    "steps",
    "solved_below",
    "solved_times",
    "validate_every",
    "checkpoint_seconds",
    "eval_sizes",
    "eval_sequences",
    "omniglot",
}

_FOLDERS = ("checkpoints", "train", "validation", "eval")


def is_run(logdir: str) -> bool:
    """Whether the folder holds the flags of a run."""
    return logdir != "" and _holds(logdir, SETTINGS)


def check_may_train(logdir: str, overwrite: bool) -> None:
    """Refuses a folder that is not to be trained in.

    Raises:
        BadInput: It is one of the project's own, or holds files of a run that cannot go on.
    """
    if logdir and pathlib.Path(os.path.realpath(logdir)).is_relative_to(PRETRAINED):
        raise BadInput(
            f"--logdir={logdir} is a folder of machines that came with the project. "
            "Give another folder to train in, or --mode=eval to measure a machine."
        )
    found = [name for name in OUTPUTS if logdir and _holds(logdir, name)]
    if found and not overwrite and not (is_run(logdir) and _holds(logdir, "checkpoints")):
        raise BadInput(
            f"--logdir={logdir} holds {found[0]}, but no run to go on with. "
            "Give another folder, or --overwrite to start anew."
        )


def check_has_model(logdir: str) -> None:
    """Refuses a folder in which there is nothing to measure.

    Raises:
        BadInput: It does not hold a run, or the run has not saved a model yet.
    """
    if not is_run(logdir):
        raise BadInput(f"--mode=eval needs the folder of a run. Received: --logdir={logdir}")
    if not _holds(logdir, "model.keras"):
        raise BadInput(
            f"The run in {logdir} has not saved model.keras yet: there is nothing to measure."
        )


def check_same_run(logdir: str, now: Mapping[str, Any], mode: str) -> None:
    """Refuses flags that would make another run of the one in a folder.

    Args:
        logdir: The run's folder.
        now: The flags by their names, as `Settings.as_flags` gives them.
        mode: "train" or "eval": what is to be done with the run.

    Raises:
        BadInput: Flags differ from the run's that may not change.
    """
    then = flagfiles.read(os.path.join(logdir, SETTINGS))
    contradictions = [
        f"--{name}={value} (the run has {then[name]})"
        for name, value in now.items()
        if name in then and value != then[name] and name not in _MAY_CHANGE
    ]
    if contradictions:
        advice = (
            "It is measured with its own flags."
            if mode == "eval"
            else "Give another folder, or --overwrite to start anew."
        )
        raise BadInput(
            f"--logdir={logdir} holds another run: {', '.join(contradictions)}. {advice}"
        )


def check_steps(logdir: str, steps: int) -> None:
    """Refuses fewer steps than the run has made."""
    kept = kept_steps(logdir)
    if kept and kept[-1] > steps:
        raise BadInput(f"--steps={steps}: the run in {logdir} has made {kept[-1]}.")


def _holds(logdir: str, name: str) -> bool:
    return os.path.exists(os.path.join(logdir, name))


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


@contextlib.contextmanager
def claim(logdir: str) -> Iterator[None]:
    """Makes the folder if need be. Within, nobody else can train in it.

    Raises:
        BadInput: Another process does, or the folder cannot be written.
    """
    import fcntl  # Windows has none; there train.py can show its help, and evaluate.

    try:
        os.makedirs(logdir, exist_ok=True)
        lock = open(os.path.join(logdir, "lock"), "a+", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--logdir={logdir} cannot be written: {error}") from error
    with lock:  # The system gives the lock back when the process ends, however it ends.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
        except BlockingIOError:
            lock.seek(0)
            raise BadInput(
                f"--logdir={logdir} is being written by another run, process {lock.read().strip()}."
            ) from None
        except OSError as error:
            raise BadInput(f"--logdir={logdir} cannot be written: {error}") from error
        yield


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


def write_settings(logdir: str, flags: Mapping[str, Any]) -> None:
    """Writes the flags, as a flagfile that makes the same run."""
    write(logdir, SETTINGS, flagfiles.written(flags))


def write_json(logdir: str, name: str, content: Any) -> None:
    """Writes a file of the folder as JSON, whole or not at all."""
    write(logdir, name, json.dumps(content, indent=2) + "\n")


def last_step(logdir: str) -> int:
    """The step at which the run ended; 0 while it has not.

    Raises:
        BadInput: Its result.json is damaged.
    """
    path = pathlib.Path(logdir, "result.json")
    if not path.exists():
        return 0
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not what a run writes: {error}") from error


def check_data(logdir: str, names: dict[str, list[str]]) -> None:
    """Refuses other data than the run's: it might be measured on what it was trained with.

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
    """How many names there are and the first few of them; empty if there are none."""
    first = ", ".join(sorted(names)[:3])
    return [f"{len(names)} are {what} ({first}{', ..' if len(names) > 3 else ''})"] if names else []


def write_data_names(logdir: str, names: dict[str, list[str]]) -> None:
    """Writes `Task.data_names`, if there are any."""
    if names:
        write(logdir, DATA_NAMES, json.dumps(names, indent=1) + "\n")
