"""The command line: its flags, the flagfiles underneath them, its manual.

Nothing here imports TensorFlow: a wrong flag is answered at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import math
import os
import pathlib
import sys
from typing import Any

from absl import flags

from tasks import TASKS, task_class
from tasks.task import LARGEST

FLAGS = flags.FLAGS
CONFIGS = os.path.dirname(os.path.abspath(__file__))
PRETRAINED = pathlib.Path(os.path.realpath(CONFIGS)).parent / "pretrained"

# The groups of flags, as the manual shows them.
GROUPS = RUN, TRAINING, MACHINE, NTM, MANN, LSTM, TASK, EVALUATION = (
    "Run",
    "Training",
    "Machine, --model=ntm or mann",
    "Machine, --model=ntm",
    "Machine, --model=mann",
    "Network, --model=lstm",
    "Task",
    "Evaluation",
)
_OF_OTHER_MODELS = {"ntm": (MANN, LSTM), "mann": (NTM, LSTM), "lstm": (MACHINE, NTM, MANN)}

# The files of a run's flags and of the names of its data, in its folder, and what else lies there
# beside event files.
SETTINGS = "flags.cfg"
DATA_NAMES = "data_names.json"
OUTPUTS = ("model.keras", "best.keras", "result.json", "eval.json")

# What may change when a run goes on: how long, how often looked at, measured on what, and where its
# data lies.
MAY_CHANGE = {
    "steps",
    "solved_below",
    "solved_times",
    "validate_every",
    "checkpoint_seconds",
    "eval_sizes",
    "eval_sequences",
    "omniglot",
}

_OF_ONE_COMMAND = ("mode", "logdir", "overwrite")


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)


flags.DEFINE_enum("task", "copy", list(TASKS), "What to learn.", module_name=RUN)
flags.DEFINE_enum(
    "model",
    "ntm",
    ["ntm", "mann", "lstm"],
    "What learns: the Neural Turing Machine, the memory-augmented network of Santoro et al., or an "
    "LSTM network to compare them with.",
    module_name=RUN,
)
flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.", module_name=RUN)
flags.DEFINE(
    _PathParser(),
    "logdir",
    None,
    "The run's folder. (default: runs/TASK/DATE-TIME)",
    module_name=RUN,
)
flags.DEFINE_boolean(
    "overwrite", False, "Start anew where --logdir holds a run already.", module_name=RUN
)
flags.DEFINE_float(
    "checkpoint_seconds",
    30.0,
    "The least time between two checkpoints. One is written after a validation, and at the end.",
    module_name=RUN,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Where weights and sequences come from: runs of the same seed are the same.",
    lower_bound=0,
    upper_bound=2**31 - 1,
    module_name=RUN,
)

flags.DEFINE_integer(
    "steps",
    20000,
    "The most training steps; a solved task ends it sooner.",
    1,
    10**9,
    module_name=TRAINING,
)
flags.DEFINE_integer(
    "batch_size", 32, "Sequences of a training step.", 1, LARGEST, module_name=TRAINING
)
flags.DEFINE_enum(
    "optimizer",
    "adam",
    ["adam", "rmsprop"],
    "adam; or rmsprop as Graves (2013) has it: centred, decay 0.95, momentum 0.9, epsilon 1e-4.",
    module_name=TRAINING,
)
flags.DEFINE_float("learning_rate", 1e-3, "The optimizer's.", module_name=TRAINING)
flags.DEFINE_float(
    "adam_epsilon",
    1e-7,
    "Adam's epsilon: where gradients have become smaller than it, steps become smaller too.",
    module_name=TRAINING,
)
flags.DEFINE_float(
    "ema_momentum",
    0.0,
    "Average the weights over the steps with this momentum; the averages are what is validated, "
    "saved and measured. 0: do not.",
    module_name=TRAINING,
)
flags.DEFINE_float(
    "clip_norm",
    0.0,
    "Scale the gradient down to this global norm; 0: do not.",
    module_name=TRAINING,
)
flags.DEFINE_float(
    "clip_value",
    0.0,
    "Clip every component of the gradient to +- this; 0: do not.",
    module_name=TRAINING,
)
flags.DEFINE_float(
    "weight_noise",
    0.0,
    "Standard deviation of noise on the weights, drawn anew in every training step; 0: none.",
    module_name=TRAINING,
)
flags.DEFINE_float(
    "weight_noise_end", 0.0, "What --weight_noise falls to, evenly.", module_name=TRAINING
)
flags.DEFINE_integer(
    "weight_noise_steps",
    0,
    "The step by which the noise has fallen to --weight_noise_end; 0: it stays as it is.",
    0,
    10**9,
    module_name=TRAINING,
)
flags.DEFINE_boolean(
    "mix_lengths",
    False,
    "Whether the sequences of a batch have different lengths.",
    module_name=TRAINING,
)
flags.DEFINE_integer(
    "validate_every",
    100,
    "Training steps between two validations; the run is saved then, if it is time.",
    1,
    10**9,
    module_name=TRAINING,
)
flags.DEFINE_float(
    "solved_below",
    None,
    "End training when the task's measure (of copy wrong bits a sequence) is below this, in "
    "validation and on fresh sequences. (default: the task's)",
    module_name=TRAINING,
)
flags.DEFINE_integer(
    "solved_times",
    1,
    "How many validations in a row must be below --solved_below before training ends.",
    1,
    10**9,
    module_name=TRAINING,
)
flags.DEFINE_boolean("xla", True, "Whether to compile the training step.", module_name=TRAINING)
flags.DEFINE_enum(
    "distribution_strategy",
    "none",
    ["none", "mirrored", "multi_worker_mirrored"],
    "Which devices share a batch. none: one; mirrored: all GPUs of the machine, or, where it has "
    "none, its logical CPU devices; multi_worker_mirrored: those of the workers that the "
    "environment variable TF_CONFIG names, each with the same command and --logdir (Keras 2).",
    module_name=TRAINING,
)

flags.DEFINE_integer("rnn_size", 100, "Width of the controller.", 1, LARGEST, module_name=MACHINE)
flags.DEFINE_integer(
    "memory_size", 128, "Number of memory locations.", 1, LARGEST, module_name=MACHINE
)
flags.DEFINE_integer(
    "memory_vector_dim", 20, "Width of a location.", 1, LARGEST, module_name=MACHINE
)
flags.DEFINE_enum(
    "controller",
    "lstm",
    ["lstm", "counting_lstm", "feedforward", "rnn"],
    "The network at the machine's centre; counting_lstm: hard gates, and a carry that adds up what "
    "comes in as it is.",
    module_name=MACHINE,
)
flags.DEFINE_integer(
    "controller_layers", 1, "Layers of the controller.", 1, LARGEST, module_name=MACHINE
)

flags.DEFINE_integer("read_head_num", 1, "Number of read heads.", 1, LARGEST, module_name=NTM)
flags.DEFINE_integer("write_head_num", 1, "Number of write heads.", 1, LARGEST, module_name=NTM)
flags.DEFINE_enum(
    "addressing_mode",
    "content_and_location",
    ["content_and_location", "content"],
    "How heads address the memory.",
    module_name=NTM,
)
flags.DEFINE_integer("shift_range", 1, "The largest shift of the focus.", 0, module_name=NTM)
flags.DEFINE_enum(
    "memory_initializer",
    "learned",
    ["learned", "constant", "random"],
    "The memory before the first step: learned, 1e-6, or small fixed random numbers.",
    module_name=NTM,
)
flags.DEFINE_enum(
    "weighting_initializer",
    "spread",
    ["spread", "focused"],
    "Where the heads' learned initial weightings begin: anywhere, or on the first location.",
    module_name=NTM,
)
flags.DEFINE_enum(
    "output_source",
    "controller",
    ["controller", "controller_and_reads"],
    "What the output is computed from.",
    module_name=NTM,
)
flags.DEFINE_enum(
    "write_order",
    "sequential",
    ["sequential", "simultaneous"],
    "Whether write heads erase and add one after another, or all erase before all add.",
    module_name=NTM,
)

flags.DEFINE_integer(
    "head_num",
    4,
    "Number of heads, each of which reads and writes.",
    1,
    LARGEST,
    module_name=MANN,
)
flags.DEFINE_float(
    "gamma",
    0.95,
    "What is left of a location's usage after a step, from 0 to 1.",
    module_name=MANN,
)
flags.DEFINE_enum(
    "k_strategy",
    "separate",
    ["separate", "summary"],
    "Whether what is written is a vector of its own, or the key.",
    module_name=MANN,
)
flags.DEFINE_boolean(
    "learned_key_strength",
    False,
    "Whether the similarities are multiplied by a learned strength before the softmax.",
    module_name=MANN,
)

flags.DEFINE_integer("lstm_layers", 3, "Number of layers.", 1, 1000, module_name=LSTM)
flags.DEFINE_integer("lstm_units", 256, "Width of a layer.", 1, LARGEST, module_name=LSTM)

flags.DEFINE_string(
    "eval_sizes",
    None,
    "Sizes to measure at, with commas between, in the task's notation. (default: the task's)",
    module_name=EVALUATION,
)
flags.DEFINE_integer(
    "eval_sequences",
    1000,
    "Sequences to measure on, at each size, rounded up to whole batches.",
    1,
    10**9,
    module_name=EVALUATION,
)

flags.register_validator("logdir", lambda value: value != "", "must name a folder")
for _name in ("learning_rate", "adam_epsilon", "solved_below"):
    flags.register_validator(
        _name,
        lambda value: value is None or (math.isfinite(value) and value > 0),
        "must be a finite number above 0",
    )
flags.register_validator("gamma", lambda value: 0 <= value <= 1, "must be from 0 to 1")
flags.register_validator(
    "ema_momentum", lambda value: 0 <= value < 1, "must be at least 0 and less than 1"
)
for _name in ("clip_norm", "clip_value", "weight_noise", "weight_noise_end", "checkpoint_seconds"):
    flags.register_validator(
        _name,
        lambda value: math.isfinite(value) and value >= 0,
        "must be a finite number, 0 or above",
    )


@flags.multi_flags_validator(
    ["clip_norm", "clip_value"], "one of --clip_norm and --clip_value must be 0"
)
def _one_clipping(values):
    return 0 in (values["clip_norm"], values["clip_value"])


@flags.multi_flags_validator(
    ["model", "shift_range", "memory_size"], "2 * --shift_range + 1 must be at most --memory_size"
)
def _shifts_fit(values):
    return values["model"] != "ntm" or 2 * values["shift_range"] + 1 <= values["memory_size"]


@flags.multi_flags_validator(
    ["model", "head_num", "memory_size"], "--head_num must be at most --memory_size"
)
def _heads_fit(values):
    return values["model"] != "mann" or values["head_num"] <= values["memory_size"]


@flags.multi_flags_validator(
    ["weight_noise", "weight_noise_end", "weight_noise_steps"],
    "--weight_noise_end must be at most --weight_noise, and 0 without --weight_noise_steps",
)
def _noise_falls(values):
    end = values["weight_noise_end"]
    return end == 0 or (end <= values["weight_noise"] and values["weight_noise_steps"] > 0)


@flags.multi_flags_validator(
    ["distribution_strategy", "weight_noise"],
    "--weight_noise must be 0 where --distribution_strategy shares a batch between devices",
)
def _noise_is_not_shared(values):
    return values["distribution_strategy"] == "none" or values["weight_noise"] == 0


class BadInput(Exception):
    """A run cannot be made, or go on, with what the user gave; the message says why."""


def parse(argv: list[str]) -> list[str]:
    """Gives the flags their values: the flagfile's or the config's first, then the command line's.

    An evaluation, and a run that goes on, begin with the flags that the run has.

    Returns:
        What of the command line is no flag.

    Raises:
        BadInput: A flag or a flagfile is wrong, or contradicts the run in --logdir.
    """
    flagfiles, own = _take("flagfile", argv[1:])
    underneath = [(path or "", _read_flagfile(path or "")) for path in flagfiles]

    everything = [token for _, tokens in underneath for token in tokens] + own
    wants_help = bool({"--help", "--helpshort", "-h"} & set(own))
    run = None if wants_help else _run_to_go_on_with(everything)
    if run:
        everything = _read_flagfile(run)  # Of another task the command line knows no flag.
        underneath.insert(0, (run, everything))
    task_name = _latest("task", "copy", everything)
    config = os.path.join(CONFIGS, f"{task_name}.cfg")
    if not underneath and os.path.exists(config):
        underneath = [(config, _read_flagfile(config))]
    if task_name in TASKS:
        _define_task_flags(task_name)
    runs_own: dict[str, Any] = {}
    for path, tokens in underneath:
        left = _give_values([path, *tokens], f"{path}: ")
        if left:
            raise BadInput(f"{path}: {left[0]!r} is no flag: flags begin with --.")
        runs_own = runs_own or flag_values(*GROUPS)
    if wants_help:
        print(manual())
        sys.exit(0)
    left = _give_values([argv[0], *own], "")
    _refuse_logging_flags()
    if run:
        _refuse_contradictions(runs_own)
    return argv[:1] + left


def _take(name: str, tokens: list[str]) -> tuple[list[str | None], list[str]]:
    """The values that a flag is given in a command line, and the command line without it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        f"--{name}", f"-{name}", action="append", nargs="?", default=[], dest="values"
    )
    taken, left = parser.parse_known_args(tokens)
    return taken.values, left


def _latest(name: str, default: str, tokens: list[str]) -> str:
    """The value that a flag has after a command line."""
    values = [value for value in _take(name, tokens)[0] if value is not None]
    return [default, *values][-1]


def _give_values(tokens: list[str], where: str) -> list[str]:
    """Lets absl parse a command line; returns what of it is no flag."""
    try:
        return FLAGS(tokens)[1:]
    except (flags.Error, ValueError) as error:
        name = getattr(error, "flagname", None)
        tasks = [f"--task={task}" for task in TASKS if name in _limits_of(task)]
        said = where + " ".join(str(error).split())
        if tasks:
            end = "" if said.endswith("?") else "."
            said = f"{said.rstrip('.')}{end} It is one of {' and '.join(tasks)}."
        raise BadInput(said) from error


def _refuse_logging_flags() -> None:
    """Refuses the flags of absl's logging, which mean nothing here: --log_dir is not --logdir."""
    for flag in FLAGS.flags_by_module_dict().get("absl.logging", []):
        if flag.present:
            instead = " The run's folder is --logdir." if flag.name == "log_dir" else ""
            raise BadInput(
                f"--{flag.name} is a flag of absl's logging, which is not used here.{instead}"
            )


def _read_flagfile(path: str) -> list[str]:
    complaints = io.StringIO()
    expanded = os.path.expanduser(path)
    try:
        if not os.path.exists(expanded):
            raise OSError("there is no such file")
        with contextlib.redirect_stderr(complaints):  # Of a circle of files absl only complains.
            # absl takes spaces from the beginning of a path.
            tokens = FLAGS.read_flags_from_files([f"--flagfile={os.path.abspath(expanded)}"])
        if complaints.getvalue():
            raise OSError("it includes itself")
        return tokens
    except (flags.Error, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"--flagfile={path} cannot be read as a flagfile: {error}") from error


def _run_to_go_on_with(tokens: list[str]) -> str | None:
    """The settings of the run that a command line evaluates, or goes on with; None: of none."""
    logdir = os.path.expanduser(_latest("logdir", "", tokens))
    settings = os.path.join(logdir, SETTINGS)
    is_run = logdir != "" and os.path.isfile(settings)
    mode = _latest("mode", "train", tokens)
    if mode != "eval":
        if logdir and pathlib.Path(os.path.realpath(logdir)).is_relative_to(PRETRAINED):
            raise BadInput(
                f"--logdir={logdir} is a folder of machines that came with the project. "
                "Give another folder to train in, or --mode=eval to measure a machine."
            )
        if not logdir or _overwrites(tokens):
            return None
        written = [name for name in OUTPUTS if _is_in(logdir, name)]
        if written and not (is_run and _is_in(logdir, "checkpoints")):
            raise BadInput(
                f"--logdir={logdir} holds {written[0]}, but no run to go on with. "
                "Give another folder, or --overwrite to start anew."
            )
        return settings if is_run else None
    if not is_run:
        raise BadInput(f"--mode=eval needs the folder of a run. Received: --logdir={logdir}")
    if not _is_in(logdir, "model.keras"):
        raise BadInput(
            f"The run in {logdir} has saved no model.keras yet: there is none to measure."
        )
    return settings


def _is_in(logdir: str, name: str) -> bool:
    return os.path.exists(os.path.join(logdir, name))


def _overwrites(tokens: list[str]) -> bool:
    """Whether a command line has --overwrite, as absl understands it."""
    values = flags.FlagValues()
    flags.DEFINE_boolean("overwrite", False, "", flag_values=values)
    with contextlib.suppress(flags.Error, ValueError):  # Which one is wrong is said later.
        values(["", *tokens], known_only=True)
        return values.overwrite
    return False


def _limits_of(task_name: str) -> dict[str, dataclasses.Field]:
    """The fields of a task, each of which is a flag, by their names."""
    return {field.name: field for field in dataclasses.fields(task_class(task_name))}


def _define_task_flags(task_name: str) -> None:
    for field in _limits_of(task_name).values():
        default: Any = field.default
        description, *bounds = field.metadata.values()
        if isinstance(default, int):
            flags.DEFINE_integer(field.name, default, description, *bounds, module_name=TASK)
        elif bounds:
            flags.DEFINE_enum(field.name, default, bounds[0], description, module_name=TASK)
        else:
            flags.DEFINE_string(field.name, default, description, module_name=TASK)


def _refuse_contradictions(runs_own: dict[str, Any]) -> None:
    """Refuses flags that would make another run of the one in --logdir."""
    contradictions = [
        f"--{name}={value} (the run has {runs_own[name]})"
        for name, value in flag_values(*GROUPS).items()
        if value != runs_own[name] and name not in MAY_CHANGE
    ]
    if contradictions:
        advice = (
            "It is measured with its own flags."
            if FLAGS.mode == "eval"
            else "Give another folder, or --overwrite to start anew."
        )
        raise BadInput(
            f"--logdir={FLAGS.logdir} holds another run: {', '.join(contradictions)}. {advice}"
        )


def flags_of_other_models(tokens: list[str]) -> list[str]:
    """The flags in a command line that mean nothing to the model it asks for."""
    return [name for name in flag_values(*_OF_OTHER_MODELS[FLAGS.model]) if _take(name, tokens)[0]]


def manual() -> str:
    """What --helpshort prints: what train.py is for, then its flags in their groups."""
    introduction = sys.modules["__main__"].__doc__ or ""
    for name, value in flag_values(*GROUPS).items():
        if FLAGS[name].present:
            FLAGS.set_default(name, value)  # what the task's config says, not absl's default
    return "\n".join([introduction, *(FLAGS.module_help(group) for group in GROUPS)])


def flag_values(*groups: str) -> dict[str, Any]:
    """The flags of these groups by their names, without those that say where and what to run."""
    by_group = FLAGS.flags_by_module_dict()
    values = {flag.name: flag.value for group in groups for flag in by_group[group]}
    return {name: value for name, value in values.items() if name not in _OF_ONE_COMMAND}
