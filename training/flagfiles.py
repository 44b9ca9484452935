"""Settings as absl flags, and files of such flags."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import io
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags

from tasks import TASKS, task_class
from tasks.task import check_is_complete
from training.errors import BadInput
from training.settings import OF_ONE_COMMAND, RUN, TASK, Settings, check_limits

_CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        if not argument:
            raise ValueError("must name a folder")
        return os.path.expanduser(argument)


def define(task_name: str | None) -> flags.FlagValues:
    """Flags, not yet parsed, for all settings, a task's limits, and `OF_ONE_COMMAND`."""
    values = flags.FlagValues()
    where: dict[str, Any] = {"flag_values": values, "module_name": RUN}
    flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.", **where)
    flags.DEFINE(
        _PathParser(),
        "logdir",
        None,
        "The run's folder. (default: runs/TASK/DATE-TIME)",
        **where,
    )
    define_overwrite(values)
    flags.DEFINE(
        _PathParser(),
        "output",
        None,
        "With --mode=eval: the folder for eval.json and what TensorBoard shows. (default: the "
        "run's, if it trained here and its last machine is measured as it was trained; else none)",
        **where,
    )
    flags.DEFINE_boolean(
        "best", False, "With --mode=eval: measure best.keras instead of model.keras.", **where
    )
    for field in dataclasses.fields(Settings):
        _define_field(field, field.metadata["group"], values)
    if task_name:
        _check_task(task_name)
        for field in limits_of(task_name):
            _define_field(field, TASK, values)
    return values


def define_overwrite(values: flags.FlagValues) -> None:
    flags.DEFINE_boolean(
        "overwrite",
        False,
        "Start again from the beginning if --logdir holds a run already.",
        flag_values=values,
        module_name=RUN,
    )


def _check_task(name: str) -> None:
    """Refuses a task of a user's that cannot have flags.

    Raises:
        BadInput: Its class is not complete, or a limit has the name of another flag.
    """
    try:
        check_is_complete(task_class(name))
    except TypeError as error:
        raise BadInput(f"--task={name}: {error}") from error
    check_limits(task_class(name))


def limits_of(task_name: str) -> tuple[dataclasses.Field, ...]:
    """The fields of a task; each is a flag."""
    return dataclasses.fields(task_class(task_name))


def _define_field(field: dataclasses.Field, group: str, values: flags.FlagValues) -> None:
    about = field.metadata
    define: Any = {
        "limit": flags.DEFINE_integer,
        "number": flags.DEFINE_float,
        "switch": flags.DEFINE_boolean,
        "choice": flags.DEFINE_enum,
        "text": flags.DEFINE_string,
    }[about["kind"]]
    allowed = [about["allowed"]] if about["kind"] == "choice" else []
    define(
        field.name,
        field.default,
        *allowed,
        about["description"],
        *about.get("bounds", ()),
        flag_values=values,
        module_name=group,
    )
    if about["kind"] == "number":
        flags.register_validator(
            field.name, about["fits"], f"must be {about['must_be']}", flag_values=values
        )


# What a flag is called elsewhere.
_OTHER_NAMES = {
    "lr": "learning_rate",
    "epochs": "steps",
    "iterations": "steps",
    "resume": "logdir",
    "output_dir": "logdir",
    "hidden_size": "rnn_size",
    "units": "rnn_size",
    "batch": "batch_size",
}


def _said(error: Exception, names: Iterable[str]) -> str:
    """An error's text, and the one of these flags, or the value, that is probably meant."""
    said = " ".join(str(error).split())
    if isinstance(error, flags.UnrecognizedFlagError):
        close = difflib.get_close_matches(error.flagname, names, n=1)
        meant = _OTHER_NAMES.get(error.flagname, "".join(close))
        said = said.split(" Did you mean")[0].rstrip(".")
        return f"{said}. Did you mean --{meant}?" if meant else said
    choices = re.match(r"flag --\w+=(.*): value should be one of <(.*)>", str(error))
    close = difflib.get_close_matches(choices[1], choices[2].split("|")) if choices else []
    return f"{said}. Did you mean {close[0]}?" if close else said


def give(values: flags.FlagValues, tokens: list[str], where: str = "") -> list[str]:
    """Lets absl parse a command line, given without the program's name.

    Returns:
        The arguments that are not flags.

    Raises:
        BadInput: A flag is wrong; the message begins with `where`.
    """
    try:
        return values(["", *tokens])[1:]
    except (flags.Error, ValueError) as error:
        name = getattr(error, "flagname", None)
        tasks = [
            f"--task={task}" for task in TASKS if name in {each.name for each in limits_of(task)}
        ]
        said = _said(error, () if tasks else values)
        if tasks:
            said = f"{said}. It is one of {' and '.join(tasks)}."
        raise BadInput(where + said) from error


def give_file(values: flags.FlagValues, path: str, tokens: list[str]) -> None:
    """Lets absl parse the tokens of a flagfile, which must all be flags."""
    left = give(values, tokens, f"{path}: ")
    if left:
        raise BadInput(f"{path}: {left[0]!r} is not a flag: flags begin with --.")


def settings_of(values: flags.FlagValues) -> dict[str, Any]:
    """The flags by their names, without `OF_ONE_COMMAND`."""
    everything = values.flag_values_dict()
    return {name: value for name, value in everything.items() if name not in OF_ONE_COMMAND}


def read_tokens(path: str) -> list[str]:
    """The flags in a file and in the files that it includes, as they are written.

    Raises:
        BadInput: A file cannot be read.
    """
    complaints = io.StringIO()
    expanded = os.path.expanduser(path)
    try:
        if not os.path.exists(expanded):
            raise OSError("there is no such file")
        with contextlib.redirect_stderr(complaints):  # absl only prints if a file includes itself.
            # absl removes spaces at the beginning of a path.
            arguments = [f"--flagfile={os.path.abspath(expanded)}"]
            tokens = flags.FlagValues().read_flags_from_files(arguments)
        if complaints.getvalue():
            raise OSError("it includes itself")
        return tokens
    except (flags.Error, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"--flagfile={path} cannot be read as a flagfile: {error}") from error


def read(path: str) -> dict[str, Any]:
    """All flags, with the values of a flagfile or else their defaults.

    Raises:
        BadInput: It cannot be read, or holds a flag that does not exist.
    """
    tokens = read_tokens(path)
    values = define(task_in(tokens))
    give_file(values, path, tokens)
    return settings_of(values)


def tokens_of_config(task_name: str) -> tuple[str, list[str]]:
    """The path of a task's config, and the flags in it; none where a task has no config."""
    path = _CONFIGS / f"{task_name}.cfg"
    return str(path), read_tokens(str(path)) if path.exists() else []


def usual(task_name: str) -> dict[str, Any]:
    """All flags, as a command line gives them that names nothing but the task."""
    path, tokens = tokens_of_config(task_name)
    values = define(task_name)
    give_file(values, path, [f"--task={task_name}", *tokens])
    return settings_of(values)


def task_in(tokens: list[str]) -> str | None:
    """The task that a command line names, by default copy; None if there is no such task."""
    name = latest("task", "copy", tokens)
    return name if name in TASKS else None


def written(values: Mapping[str, Any]) -> str:
    """The text of a flagfile that gives flags these values."""
    return "".join(f"--{name}={value}\n" for name, value in values.items() if value is not None)


def taken(name: str, tokens: list[str]) -> tuple[list[str | None], list[str]]:
    """The values of a flag on a command line, and the command line without that flag."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        f"--{name}", f"-{name}", action="append", nargs="?", default=[], dest="values"
    )
    given, left = parser.parse_known_args(tokens)
    return given.values, left


def latest(name: str, default: str, tokens: list[str]) -> str:
    """The last value of a flag on a command line, or the default."""
    values = [value for value in taken(name, tokens)[0] if value is not None]
    return [default, *values][-1]
