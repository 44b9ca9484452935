"""The command line: its flags, the flagfiles below them, and its help.

Nothing here imports TensorFlow, so that a wrong flag is reported at once.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import runpy
import sys
import warnings
from typing import Any, NamedTuple

from absl import flags

from training import flagfiles, run_folder
from training.errors import BadInput
from training.flagfiles import latest, taken
from training.settings import GROUPS, RUN, Settings, flags_of_other_models

_VERSION = pathlib.Path(__file__).parent.parent / "ntm_keras" / "version.py"

_HELP = {"--help", "--helpshort", "--helpfull", "-h"}

# What is looked for before absl parses the flags, and its help.
_READ_BEFORE = {
    "flagfile": "A file of flags, one a line, such as those in configs/.",
    "version": "Print the version.",
}


class Command(NamedTuple):
    """A parsed command line; `mode` is "train" or "eval"."""

    mode: str
    logdir: str | None
    overwrite: bool
    output: str | None
    best: bool
    settings: Settings


def parse(argv: list[str], introduction: str = "") -> Command:
    """Parses a command line.

    Its flags override the flagfiles that it names, and these override the defaults. Without a
    flagfile the task's config is used. To evaluate or to continue a run, the run's own flags come
    first. A warning names flags that the model does not use.

    Args:
        argv: The program and its arguments. `--help` prints the help and ends the program.
        introduction: The beginning of the help.

    Raises:
        BadInput: A flag or a flagfile is wrong, or contradicts the run in --logdir.
    """
    values = read(argv, introduction)
    settings = Settings.from_flags(flagfiles.settings_of(values))
    for name in flags_of_other_models(settings.model):
        if taken(name, argv[1:])[0] or taken(f"no{name}", argv[1:])[0]:
            warnings.warn(f"--{name} is ignored with --model={settings.model}", stacklevel=2)
    if values.mode == "train":
        for name in ("output", "best"):
            if values[name].value:
                raise BadInput(f"--{name}={values[name].value} is for --mode=eval.")
        run_folder.check_init_from(values.logdir or "", settings.init_from, values.overwrite)
    return Command(
        values.mode, values.logdir, values.overwrite, values.output, values.best, settings
    )


def read(argv: list[str], introduction: str = "") -> flags.FlagValues:
    """The flags of a command line. Whether they fit each other is not checked yet."""
    files, own = taken("flagfile", argv[1:])
    below = [(path or "", flagfiles.read_tokens(path or "")) for path in files]
    everything = [token for _, tokens in below for token in tokens] + own
    if "--version" in own:
        print(f"ntm_keras {runpy.run_path(str(_VERSION))['__version__']}")
        sys.exit(0)
    wants_help = bool(_HELP & set(own))
    run = None if wants_help else _existing_run(everything)
    if run:
        # The run's task decides which flags exist, not a task on the command line.
        everything = flagfiles.read_tokens(run)
        below.insert(0, (run, everything))
    if not below:
        below = [flagfiles.tokens_of_config(latest("task", "copy", everything))]

    values = flagfiles.define(flagfiles.task_in(everything))
    for path, tokens in below:
        flagfiles.give_file(values, path, tokens)
    if wants_help:
        print(_manual(values, introduction, is_short="--helpshort" in own))
        sys.exit(0)
    left = flagfiles.give(values, own)
    if left:
        raise BadInput(f"unexpected argument {left[0]!r}: flags begin with --.")
    if run:
        now = flagfiles.settings_of(values)
        run_folder.check_same_run(os.path.dirname(run), now, values.mode)
    return values


def _existing_run(tokens: list[str]) -> str | None:
    """The flagfile of the run that a command line evaluates or continues, if there is one."""
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
    with contextlib.suppress(flags.Error, ValueError):  # Wrong flags are reported later.
        values(["", *tokens], known_only=True)
        return values.overwrite
    return False


def _manual(values: flags.FlagValues, introduction: str, is_short: bool) -> str:
    """The help: an introduction, then the flags by group, with the task config's defaults."""
    for name in values:
        if values[name].present:
            values.set_default(name, values[name].value)
    if is_short:
        return f"{introduction}\n{values.module_help(RUN)}\n\n--help shows all flags."
    for name, about in _READ_BEFORE.items():
        flags.DEFINE_string(name, None, about, flag_values=values, module_name=RUN)
    return "\n".join([introduction, *(values.module_help(group) for group in GROUPS)])


def flags_of(argv: list[str]) -> dict[str, Any]:
    """The settings and limits of a command line, by the names of their flags."""
    return flagfiles.settings_of(read(argv))
