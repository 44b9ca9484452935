"""What a run prints."""

from __future__ import annotations

import os
import pathlib
import shlex
import sys
import textwrap
from typing import Any

from tasks.task import Task
from training.settings import Settings

# Columns of a terminal.
WIDTH = 80

# With more folders of events than this TensorBoard shows none of them at first.
_SHOWN_AT_FIRST = 40

# Environment variables: a run goes on with the Keras that began it.
_WHICH_KERAS = ("KERAS_BACKEND", "TF_USE_LEGACY_KERAS")

# Names in Keras's results, in a record, and in result.json that are not the task's measures.
NO_MEASURES = frozenset(
    [
        *("loss", "size", "sequences", "sequences_without_error"),
        *("solved", "steps", "seconds", "flags"),
    ]
)


def print_about(task: Task) -> None:
    """Prints what the user's data is, if the task needs any."""
    if task.about():
        print(task.about())


def print_beginning(settings: Settings, logdir: str, step: int) -> None:
    """Prints what the data is, where the run is, at which step it continues, and when it ends."""
    task = settings.made_task
    below = settings.solved_below or task.solved_below
    times = settings.solved_times
    validations = "a validation" if times == 1 else f"{times} validations in a row"
    print_about(task)
    ends = (
        f"It trains {f'on from step {step} ' if step else ''}until step {settings.steps}, or until"
        f" {title(task.solved_measure)} are below {below:g} in {validations} and in a test on at"
        f" least {settings.test_parts * settings.eval_sequences} other sequences."
    )
    if settings.may_begin_again:
        ends += (
            f" After every {settings.attempt_steps} steps it begins again with other weights,"
            " unless it is passing validations or fewer are left."
        )
    where = where_to_look(logdir, "The run" if step else "The new run")
    print(f"{where}\n{textwrap.fill(ends, WIDTH)}\n", flush=True)


def print_end(settings: Settings, result: dict[str, Any], sequences: int, logdir: str) -> None:
    """Prints the content of result.json; `sequences` were measured."""
    found = {title(name): f"{value:.4f}" for name, value in measures(result).items()}
    width = max(map(len, found))
    measure = title(settings.made_task.solved_measure)
    advice = ["All steps are made. It can go on with --logdir and more --steps."]
    if 0 < settings.attempt_steps <= result["steps"]:
        advice.append("It may then begin again with other weights; not with --attempt_steps=0.")
    lines = [f"  {name.ljust(width)}  {value}" for name, value in found.items()]
    print(
        f"\n{'Solved' if result['solved'] else 'Not solved'} after {result['steps']} steps,"
        f" {result['sequences']} sequences, {result['seconds']:.0f} seconds.\n"
        f"On {sequences} fresh sequences (solved: {measure} below {settings.solved_limit:g}):",
        *lines,
        *(advice if result["steps"] == settings.steps else []),
        where_to_look(logdir),
        sep="\n",
    )


def where_to_look(logdir: str, run: str = "The run") -> str:
    """Where the run is, and the TensorBoard command that shows it, with other runs if possible."""
    shown = logdir
    if logdir.startswith(os.path.join("runs", "")):
        files = (names for *_, names in os.walk("runs"))
        have_events = (any(name.startswith("events.") for name in names) for names in files)
        shown = "runs" if sum(have_events) <= _SHOWN_AT_FIRST else logdir
    program = os.path.join(os.path.dirname(sys.executable), "tensorboard")
    command = [_short(program), "--samples_per_plugin=images=100", "--logdir", shown]
    return f"{run} is in {logdir}; watch it with\n  {shlex.join(command)}"


def _short(path: str) -> str:
    """A path as it is, or from the current folder, whichever is shorter."""
    return min(path, os.path.relpath(path), key=len)


def how_to_go_on(signal: str, logdir: str, made: int, kept: list[int]) -> str:
    """The message after a signal has stopped a run, with the command that continues it.

    Args:
        signal: The signal's name.
        logdir: The run's folder.
        made: The number of training steps so far.
        kept: The steps of the run's checkpoints.
    """
    said = f"Stopped by {signal} after {made} steps."
    if not kept:
        return f"{said} None could be kept."
    program = os.path.relpath(pathlib.Path(__file__).parent.parent / "train.py")
    command = shlex.join([_short(sys.executable), program, f"--logdir={logdir}"])
    chosen = [f"{name}={os.environ[name]}" for name in _WHICH_KERAS if os.environ.get(name)]
    return f"{said} To go on from step {kept[-1]}:\n  {' '.join([*chosen, command])}"


def measures(record: dict[str, Any]) -> dict[str, float]:
    """The task's measures in Keras's results, in a record of eval.json, or in result.json."""
    others = NO_MEASURES | {"share_without_error"}
    return {name: value for name, value in record.items() if name not in others}


def share_without_error(record: dict[str, Any]) -> dict[str, float]:
    """The share of a record's sequences without an error, if the task counts them."""
    count = record.get("sequences_without_error")
    return {} if count is None else {"share_without_error": count / record["sequences"]}


def at_size(record: dict[str, Any]) -> dict[str, float]:
    """All measures of a record by their names."""
    return {**measures(record), **share_without_error(record)}


def table(records: list[dict[str, Any]]) -> str:
    """The records as lines of text: a row for each measure, a column for each size."""
    rows = [[name, *(str(record[name]) for record in records)] for name in ("size", "sequences")]
    for name in measures(records[0]):
        rows.append([title(name), *(f"{record[name]:.3f}" for record in records)])
    for name in share_without_error(records[0]):
        shares = [share_without_error(record)[name] for record in records]
        rows.append([title(name), *(f"{share:.1%}" for share in shares)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def example(text: str) -> str:
    """A task's text, its lines cut to the width of a terminal."""
    lines = text.splitlines()
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines)


def title(measure: str) -> str:
    """A measure's name as text."""
    return measure.replace("_", " ")
