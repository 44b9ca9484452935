"""The command line: its flags, the flagfiles underneath them, its manual.

Nothing here imports TensorFlow: a wrong flag is answered at once.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import warnings
from typing import Any, NamedTuple

from absl import flags

from training import flagfiles, run_folder
from training.errors import BadInput
from training.flagfiles import latest, taken
from training.settings import GROUPS, LSTM, MACHINE, MANN, NTM, Settings, names_of_groups

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"

_OF_OTHER_MODELS = {"ntm": (MANN, LSTM), "mann": (NTM, LSTM), "lstm": (MACHINE, NTM, MANN)}


class Command(NamedTuple):
    """What a command line asks for: `mode` is "train" or "eval"."""

    mode: str
    logdir: str | None
    overwrite: bool
    settings: Settings


def parse(argv: list[str], introduction: str = "") -> Command:
    """What a command line asks for.

    Its flags win over the flagfiles that it names, and these over the defaults. Without a flagfile
    the defaults are those of the task's config. An evaluation, and a run that goes on, begin with
    the flags that the run has. A warning names flags that mean nothing to the model.

    Args:
        argv: The program and its arguments. With `--help` the manual is printed, and the program
            ends.
        introduction: What the manual begins with.

    Raises:
        BadInput: A flag or a flagfile is wrong, or contradicts the run in --logdir.
    """
    values = read(argv, introduction)
    settings = Settings.from_flags(flagfiles.settings_of(values))
    for name in names_of_groups(*_OF_OTHER_MODELS[settings.model]):
        if taken(name, argv[1:])[0]:
            warnings.warn(f"--{name} means nothing to --model={settings.model}", stacklevel=2)
    return Command(values.mode, values.logdir, values.overwrite, settings)


def read(argv: list[str], introduction: str = "") -> flags.FlagValues:
    """The flags that `parse` makes settings of. Each has a value that is allowed by itself."""
    files, own = taken("flagfile", argv[1:])
    underneath = [(path or "", flagfiles.read_tokens(path or "")) for path in files]
    everything = [token for _, tokens in underneath for token in tokens] + own
    wants_help = bool({"--help", "--helpshort", "--helpfull", "-h"} & set(own))
    run = None if wants_help else _run_to_go_on_with(everything)
    if run:
        # Of another task the command line's flags are not known: the run's task counts.
        everything = flagfiles.read_tokens(run)
        underneath.insert(0, (run, everything))
    config = CONFIGS / f"{latest('task', 'copy', everything)}.cfg"
    if not underneath and config.exists():
        underneath = [(str(config), flagfiles.read_tokens(str(config)))]

    values = flagfiles.define(flagfiles.task_in(everything))
    for path, tokens in underneath:
        flagfiles.give_file(values, path, tokens)
    if wants_help:
        print(_manual(values, introduction))
        sys.exit(0)
    left = flagfiles.give(values, own)
    if left:
        raise BadInput(f"unexpected argument {left[0]!r}: flags begin with --.")
    if run:
        now = flagfiles.settings_of(values)
        run_folder.check_same_run(os.path.dirname(run), now, values.mode)
    return values


def _run_to_go_on_with(tokens: list[str]) -> str | None:
    """The flagfile of the run that a command line evaluates, or goes on with, if it does."""
    logdir = os.path.expanduser(latest("logdir", "", tokens))
    if latest("mode", "train", tokens) == "eval":
        run_folder.check_has_model(logdir)
    else:
        overwrites = _overwrites(tokens)
        run_folder.check_may_train(logdir, overwrites)
        if overwrites or not run_folder.is_run(logdir):
            return None
    return os.path.join(logdir, run_folder.SETTINGS)


def _overwrites(tokens: list[str]) -> bool:
    """Whether a command line has --overwrite, as absl understands it."""
    values = flags.FlagValues()
    flagfiles.define_overwrite(values)
    with contextlib.suppress(flags.Error, ValueError):  # Which one is wrong is said later.
        values(["", *tokens], known_only=True)
        return values.overwrite
    return False


def _manual(values: flags.FlagValues, introduction: str) -> str:
    """An introduction, then the flags in their groups, with the defaults of the task's config."""
    for name in values:
        if values[name].present:
            values.set_default(name, values[name].value)
    return "\n".join([introduction, *(values.module_help(group) for group in GROUPS)])


def flags_of(argv: list[str]) -> dict[str, Any]:
    """The settings and limits that a command line gives, by the names of their flags."""
    return flagfiles.settings_of(read(argv))
