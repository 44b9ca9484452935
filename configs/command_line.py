"""The command line: its flags, the flagfiles underneath them, its manual.

Nothing here imports TensorFlow: a wrong flag is answered at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
from typing import Any

from absl import flags

from tasks import TASKS

FLAGS = flags.FLAGS
CONFIGS = os.path.dirname(os.path.abspath(__file__))

# The groups of flags, as the manual shows them.
GROUPS = RUN, TRAINING, MACHINE, TASK, EVALUATION = (
    "Run",
    "Training",
    "Machine",
    "Task",
    "Evaluation",
)

flags.DEFINE_enum("task", "copy", list(TASKS), "What to learn.", module_name=RUN)
flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.", module_name=RUN)
flags.DEFINE_string(
    "logdir", None, "The run's folder. (default: runs/TASK/DATE-TIME)", module_name=RUN
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
    "The most to train; a run ends when the task is solved.",
    1,
    module_name=TRAINING,
)
flags.DEFINE_integer("batch_size", 32, "Sequences of a training step.", 1, module_name=TRAINING)
flags.DEFINE_enum(
    "optimizer",
    "adam",
    ["adam", "rmsprop"],
    "adam; or rmsprop as Graves (2013) has it: centred, decay 0.95, momentum 0.9, epsilon 1e-4.",
    module_name=TRAINING,
)
flags.DEFINE_float("learning_rate", 1e-3, "The optimizer's.", module_name=TRAINING)
flags.DEFINE_float(
    "clip_norm", None, "Scale the gradient down to this global norm.", module_name=TRAINING
)
flags.DEFINE_float(
    "clip_value", None, "Clip every component of the gradient to +- this.", module_name=TRAINING
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
    "Training steps between two validations; the run is saved as often.",
    1,
    module_name=TRAINING,
)
flags.DEFINE_float(
    "solved_below",
    None,
    "End training at fewer wrong bits per validation sequence. (default: the task's)",
    module_name=TRAINING,
)
flags.DEFINE_boolean("xla", True, "Whether to compile the training step.", module_name=TRAINING)

flags.DEFINE_integer("rnn_size", 100, "Width of the controller.", 1, module_name=MACHINE)
flags.DEFINE_integer("memory_size", 128, "Number of memory locations.", 1, module_name=MACHINE)
flags.DEFINE_integer("memory_vector_dim", 20, "Width of a location.", 1, module_name=MACHINE)
flags.DEFINE_integer("read_head_num", 1, "Number of read heads.", 1, module_name=MACHINE)
flags.DEFINE_integer("write_head_num", 1, "Number of write heads.", 1, module_name=MACHINE)
flags.DEFINE_enum(
    "addressing_mode",
    "content_and_location",
    ["content_and_location", "content"],
    "How heads address the memory.",
    module_name=MACHINE,
)
flags.DEFINE_integer("shift_range", 1, "The largest shift of the focus.", 0, module_name=MACHINE)
flags.DEFINE_enum(
    "controller",
    "lstm",
    ["lstm", "feedforward", "rnn"],
    "The network at the machine's centre.",
    module_name=MACHINE,
)
flags.DEFINE_integer("controller_layers", 1, "Layers of the controller.", 1, module_name=MACHINE)
flags.DEFINE_enum(
    "memory_initializer",
    "learned",
    ["learned", "constant", "random"],
    "The memory before the first step: learned, 1e-6, or small fixed random numbers.",
    module_name=MACHINE,
)
flags.DEFINE_enum(
    "weighting_initializer",
    "spread",
    ["spread", "focused"],
    "Where the heads' learned initial weightings begin: anywhere, or on the first location.",
    module_name=MACHINE,
)
flags.DEFINE_enum(
    "output_source",
    "controller",
    ["controller", "controller_and_reads"],
    "What the output is computed from.",
    module_name=MACHINE,
)
flags.DEFINE_enum(
    "write_order",
    "sequential",
    ["sequential", "simultaneous"],
    "Whether write heads erase and add one after another, or all erase before all add.",
    module_name=MACHINE,
)

flags.DEFINE_string(
    "eval_sizes",
    None,
    "Sizes to measure at, with commas between, in the task's notation. (default: the task's)",
    module_name=EVALUATION,
)
flags.DEFINE_integer(
    "eval_sequences", 1000, "Sequences to measure on, at each size.", 1, module_name=EVALUATION
)

for _name in ("learning_rate", "clip_norm", "clip_value", "solved_below"):
    flags.register_validator(
        _name,
        lambda value: value is None or (math.isfinite(value) and value > 0),
        "must be a finite number above 0",
    )


@flags.multi_flags_validator(
    ["steps", "validate_every"],
    "--steps must be a multiple of --validate_every, or smaller than it",
)
def _whole_epochs(values):
    steps, validate_every = values["steps"], values["validate_every"]
    return steps < validate_every or steps % validate_every == 0


@flags.multi_flags_validator(
    ["shift_range", "memory_size"], "2 * --shift_range + 1 must be at most --memory_size"
)
def _shifts_fit(values):
    return 2 * values["shift_range"] + 1 <= values["memory_size"]


class BadInput(Exception):
    """A run cannot be made, or go on, with what the user gave; the message says why."""


def arguments(argv: list[str]) -> list[str]:
    """The command line with the flags of its flagfile, or of the task's config, put before it.

    Defines the flags of the task on the way.

    Raises:
        BadInput: A flagfile, or the run to evaluate, cannot be read.
    """
    flagfiles, own = _take(argv[1:], "flagfile")
    underneath = [flag for path in flagfiles for flag in _read_flagfile(path)]

    def value(name: str, default: Any) -> str:
        return ([default] + _take(underneath + own, name)[0])[-1]

    if value("mode", "train") == "eval":
        underneath = _run_flags(value("logdir", "")) + underneath
    task_name = value("task", FLAGS["task"].default)
    config = os.path.join(CONFIGS, f"{task_name}.cfg")
    if not flagfiles and value("mode", "train") == "train" and os.path.exists(config):
        underneath = _read_flagfile(config)
    if task_name in TASKS:
        _define_task_flags(task_name)
    return argv[:1] + underneath + own


def _take(args: list[str], name: str) -> tuple[list[str], list[str]]:
    """The values that a flag is given, and what is left of the arguments without it."""
    parser = argparse.ArgumentParser("train.py", "", add_help=False, allow_abbrev=False)
    parser.add_argument(f"--{name}", f"-{name}", action="append", default=[], dest="values")
    taken, left = parser.parse_known_args(args)
    return taken.values, left


def _read_flagfile(path: str) -> list[str]:
    try:
        return FLAGS.read_flags_from_files([f"--flagfile={path}"])
    except (flags.Error, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"--flagfile={path} cannot be read as a flagfile: {error}") from error


def _run_flags(logdir: str) -> list[str]:
    """The flags that the run in this folder was made with."""
    path = os.path.join(logdir, "flags.cfg")
    if not os.path.isfile(path):
        raise BadInput(f"--mode=eval needs the folder of a run. Received: --logdir={logdir}")
    return _read_flagfile(path)


def _define_task_flags(task_name: str) -> None:
    for field in dataclasses.fields(TASKS[task_name]):
        default: Any = field.default
        description, at_least = (field.metadata[key] for key in ("description", "at_least"))
        flags.DEFINE_integer(field.name, default, description, at_least, module_name=TASK)


def manual(introduction: str) -> str:
    """What --helpshort prints: the introduction, then the flags in their groups."""
    return "\n".join([introduction, *(FLAGS.module_help(group) for group in GROUPS)])


def flag_values(*groups: str) -> dict[str, Any]:
    """The flags of these groups by their names, without those that say where and what to run."""
    by_group = FLAGS.flags_by_module_dict()
    values = {flag.name: flag.value for group in groups for flag in by_group[group]}
    return {name: value for name, value in values.items() if name not in ("mode", "logdir")}


def refuse_contradictions(logdir: str) -> None:
    """Raises BadInput if flags of the command line differ from those of the run to evaluate."""
    recorded = set(_read_flagfile(os.path.join(logdir, "flags.cfg")))
    for name, value in flag_values(RUN, TRAINING, MACHINE, TASK).items():
        if value is not None and f"--{name}={value}" not in recorded:
            runs_own = [line for line in recorded if line.startswith(f"--{name}=")]
            raise BadInput(
                f"--{name}={value} contradicts the run in {logdir}, "
                f"which has {runs_own[0] if runs_own else f'no --{name}'}."
            )


def parse(argv: list[str]) -> list[str]:
    """Gives the flags their values; returns what is left. Raises BadInput."""
    try:
        return FLAGS(argv)
    except flags.Error as error:
        raise BadInput(" ".join(str(error).split())) from error
