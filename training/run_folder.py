"""The folder of a run: its files, and who may write them."""

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
from training.settings import Settings

# The files in a run's folder, beside checkpoints and event files.
SETTINGS = "flags.cfg"
DATA_NAMES = "data_names.json"
OUTPUTS = ("model.keras", "best.keras", "result.json", "eval.json")

PRETRAINED = pathlib.Path(os.path.realpath(__file__)).parent.parent / "pretrained"

# The flags that may change when a run continues.
_MAY_CHANGE = {
    "steps",
    "solved_below",
    "solved_times",
    "validate_every",
    "attempt_steps",
    "checkpoint_seconds",
    "eval_sizes",
    "eval_sequences",
    "omniglot",
}

# The folders of what TensorBoard shows of a training, as patterns.
LOGS = ("train", "validation", "size_*")

_FOLDERS = ("checkpoints", *LOGS, "eval/size_*", "eval")


def is_run(logdir: str) -> bool:
    """Whether the folder holds the flags of a run."""
    return logdir != "" and _holds(logdir, SETTINGS)


def check_may_train(logdir: str, overwrite: bool) -> None:
    """Refuses a folder in which a run must not train.

    Raises:
        BadInput: The folder belongs to the project, or holds other runs or files of a run that
            cannot continue.
    """
    if logdir and pathlib.Path(os.path.realpath(logdir)).is_relative_to(PRETRAINED):
        raise BadInput(
            f"--logdir={logdir} is a folder of machines that came with the project. "
            "Give another folder to train in, or --mode=eval to measure a machine."
        )
    if not logdir:
        return
    folder = pathlib.Path(logdir)
    runs = _newest(folder, f"*/{SETTINGS}") or _newest(folder, f"*/*/{SETTINGS}")
    if runs and not is_run(logdir):
        raise BadInput(
            f"--logdir={logdir} holds other runs, the newest {runs}. Give one of them to go on with"
            " it, or another folder."
        )
    found = [name for name in OUTPUTS if _holds(logdir, name)]
    if found and not overwrite and not (is_run(logdir) and _holds(logdir, "checkpoints")):
        raise BadInput(
            f"--logdir={logdir} holds {found[0]}, but no run to go on with. "
            "Give another folder, or --overwrite to start from the beginning."
        )


def check_has_model(logdir: str, name: str = "model.keras") -> None:
    """Refuses a folder without a model to measure.

    Args:
        logdir: The run's folder.
        name: The model's file.

    Raises:
        BadInput: The folder does not hold a run, or not this file.
    """
    if not is_run(logdir):
        known = _newest(pathlib.Path("runs"), f"*/*/{name}")
        raise BadInput(
            "--mode=eval needs the folder of a run. Received: "
            + (f"--logdir={logdir}" if logdir else "no --logdir")
            + (f". The newest: {known}" if known else "")
        )
    if not _holds(logdir, name):
        raise BadInput(f"The run in {logdir} has no {name} (yet): there is nothing to measure.")


def _newest(folder: pathlib.Path, pattern: str) -> str:
    """The newest runs whose folders hold a file, as flags; empty if there are none."""
    newest = sorted(folder.glob(pattern), key=os.path.getmtime)[-3:]
    return ", ".join(f"--logdir={path.parent}" for path in reversed(newest))


def check_same_run(logdir: str, now: Mapping[str, Any], mode: str) -> None:
    """Refuses flags that contradict the run in a folder.

    Args:
        logdir: The run's folder.
        now: The flags by their names, as `Settings.as_flags` gives them.
        mode: "train" or "eval". A machine may be measured with another `memory_size`.

    Raises:
        BadInput: A flag that must not change differs from the run's.
    """
    then = settings_in(logdir)
    may_change = _MAY_CHANGE | ({"memory_size"} if mode == "eval" else set())
    contradictions = [
        f"--{name}={value} (the run has {then[name]})"
        for name, value in now.items()
        if name in then and value != then[name] and name not in may_change
    ]
    if contradictions:
        advice = (
            "It is measured with its own flags."
            if mode == "eval"
            else "Give another folder, or --overwrite to start from the beginning."
        )
        raise BadInput(
            f"--logdir={logdir} holds another run: {', '.join(contradictions)}. {advice}"
        )


def settings_in(logdir: str) -> dict[str, Any]:
    """The flags of the run in a folder, by their names."""
    return flagfiles.read(os.path.join(logdir, SETTINGS))


def settings_of_run(logdir: str | os.PathLike) -> Settings:
    """The settings of the run in a folder: `evaluate` measures its machine with them.

    Raises:
        ValueError: The folder does not hold a run, or its flags are not allowed.
    """
    folder = os.path.expanduser(logdir)
    check_has_model(folder)
    return Settings.from_flags(settings_in(folder))


def starts_anew(logdir: str, overwrite: bool) -> bool:
    """Whether training begins at the first step; `logdir` is empty if no folder is made yet."""
    return overwrite or not logdir or not kept_steps(logdir)


def check_init_from(logdir: str, path: str | None, overwrite: bool = False) -> None:
    """Refuses to begin a run with a model that is not there, or would be removed before.

    Args:
        logdir: The run's folder; empty if it is not made yet.
        path: The model's file, or None.
        overwrite: Whether what the folder holds is removed.
    """
    if path is None or not starts_anew(logdir, overwrite):
        return
    model = pathlib.Path(path).expanduser()
    if model.is_dir():
        raise BadInput(f"--init_from={path}: it is a folder. Give {model / 'model.keras'}.")
    if not model.is_file():
        raise BadInput(f"--init_from={path}: there is no such file.")
    if overwrite and model.resolve() in (each.resolve() for each in _written(logdir)):
        raise BadInput(f"--init_from={path}: --overwrite would remove it.")


def check_steps(logdir: str, steps: int) -> None:
    """Refuses fewer steps than the run has made already."""
    kept = kept_steps(logdir)
    if kept and kept[-1] > steps:
        raise BadInput(f"--steps={steps}: the run in {logdir} has made {kept[-1]}.")


def _holds(logdir: str, name: str) -> bool:
    return os.path.exists(os.path.join(logdir, name))


def make_new(task_name: str) -> str:
    """Makes a new folder for a run: runs/TASK/DATE-TIME.

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


def make(folder: str, flag: str) -> None:
    """Makes the folder that a flag names, unless it is there.

    Raises:
        BadInput: It cannot be made.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--{flag}={folder} cannot be written: {error}") from error


@contextlib.contextmanager
def claim(logdir: str) -> Iterator[None]:
    """A context in which no other process can train in the folder; makes it if necessary.

    Raises:
        BadInput: Another process trains in it, or the folder cannot be written.
    """
    import fcntl  # Windows lacks it: there train.py can only show its help and evaluate.

    try:
        os.makedirs(logdir, exist_ok=True)
        lock = open(os.path.join(logdir, "lock"), "a+", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--logdir={logdir} cannot be written: {error}") from error
    with lock:  # The system releases the lock when the process ends, however it ends.
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


def _written(logdir: str) -> list[pathlib.Path]:
    """What a run has written into its folder."""
    logs = (f"{name}/events.*" for name in _FOLDERS)
    patterns = (SETTINGS, DATA_NAMES, *OUTPUTS, "events.*", *logs, "checkpoints/step-*")
    return [path for pattern in patterns for path in pathlib.Path(logdir).glob(pattern)]


def clear(logdir: str) -> None:
    """Removes what a run has written, and nothing else."""
    for path in _written(logdir):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in (path for name in _FOLDERS for path in pathlib.Path(logdir).glob(name)):
        with contextlib.suppress(OSError):  # Something else is in it.
            path.rmdir()


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
    """Writes the flags as a flagfile, which repeats the run."""
    write(logdir, SETTINGS, flagfiles.written(flags))


def write_json(logdir: str, name: str, content: Any) -> None:
    """Writes a file of the folder as JSON, whole or not at all."""
    write(logdir, name, json.dumps(content, indent=2) + "\n")


def forget_result(logdir: str) -> None:
    """Removes the result of a run that goes on: it is no longer that of its machine."""
    pathlib.Path(logdir, "result.json").unlink(missing_ok=True)


def last_step(logdir: str) -> int:
    """The step at which the run ended; that of its last checkpoint if it has not ended.

    Raises:
        BadInput: The run's result.json is damaged.
    """
    path = pathlib.Path(logdir, "result.json")
    if not path.exists():
        return max(kept_steps(logdir), default=0)
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not what a run writes: {error}") from error


def check_data(logdir: str, names: dict[str, list[str]]) -> None:
    """Refuses data that the run was not trained with: a test might use its training data.

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
        read = json.loads(path.read_text(encoding="utf-8"))
        run_names = {part: set(read[part]) for part in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not what a run writes: {error!r}") from error
    for part, now in names.items():
        changes = _listed("missing", run_names[part] - set(now))
        changes += _listed("new", set(now) - run_names[part])
        if changes:
            raise BadInput(
                f"The run in {logdir} has other data for {part}, named in {path}:"
                f" {', and '.join(changes)}. Give the run its own data, or begin another run."
            )


def _listed(what: str, names: set[str]) -> list[str]:
    """The number of names and the first few; empty if there are no names."""
    first = ", ".join(sorted(names)[:3])
    return [f"{len(names)} are {what} ({first}{', ..' if len(names) > 3 else ''})"] if names else []


def write_data_names(logdir: str, names: dict[str, list[str]]) -> None:
    """Writes `Task.data_names`, if there are names."""
    if names:
        write(logdir, DATA_NAMES, json.dumps(names, indent=1) + "\n")
