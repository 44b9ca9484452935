"""Trains a Neural Turing Machine on a task, or evaluates one that was trained.

  python train.py                                  train on the copy task
  python train.py --task=copy --max_length=10      with other limits
  python train.py --flagfile=configs/paper_copy.cfg     with the paper's settings
  python train.py --mode=eval --logdir=runs/copy/..     measure a trained machine

--task=NAME alone takes its defaults from configs/NAME.cfg; --flagfile takes any other. Flags on
the command line win over both. A run's folder holds flags.cfg (a flagfile), result.json,
eval.json, model.keras and what TensorBoard shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import os
import shlex
import sys
import time
from typing import Any

from absl import app, flags

from tasks import TASKS

_STARTED = time.perf_counter()

FLAGS = flags.FLAGS
CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs")

# The groups of flags, as the manual shows them.
GROUPS = RUN, TRAINING, MACHINE, TASK, EVALUATION = (
    "Run",
    "Training",
    "Machine",
    "Task",
    "Evaluation",
)

# Sequences of a validation, and of each size measured while training: enough to see how a run goes.
# What a run reports of itself at its end is measured on --eval_sequences.
_VALIDATION_SEQUENCES = 256
_SIZE_SEQUENCES = 64
_EVAL_BATCH_SIZE = 64

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
    modes, logdirs = (_take(underneath + own, name)[0] for name in ("mode", "logdir"))
    if modes[-1:] == ["eval"]:
        underneath = _run_flags(logdirs[-1] if logdirs else "") + underneath
    task_name = ([FLAGS["task"].default] + _take(underneath + own, "task")[0])[-1]
    config = os.path.join(CONFIGS, f"{task_name}.cfg")
    if not underneath and os.path.exists(config):
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
        flags.DEFINE_integer(
            field.name,
            field.default,
            field.metadata["description"],
            field.metadata["at_least"],
            module_name=TASK,
        )


def manual() -> str:
    """What --helpshort prints."""
    return "\n".join([__doc__, *(FLAGS.module_help(group) for group in GROUPS)])


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


def make_task():
    """The task that the flags describe."""
    task_class = TASKS[FLAGS.task]
    limits = {field.name: FLAGS[field.name].value for field in dataclasses.fields(task_class)}
    try:
        return task_class(**limits)
    except ValueError as error:
        raise BadInput(f"--task={FLAGS.task}: {error}") from error


def eval_sizes(task) -> list[tuple[str, Any]]:
    """The sizes to evaluate at, as they were written and as the task means them."""
    text = task.default_eval_sizes if FLAGS.eval_sizes is None else FLAGS.eval_sizes
    try:
        return [(part.strip(), task.parse_size(part.strip())) for part in text.split(",")]
    except ValueError as error:
        raise BadInput(f"--eval_sizes={text}: {error}") from error


def make_folder(logdir: str) -> None:
    """Makes the folder of a new run, and writes the run's flags into it."""
    path = os.path.join(logdir, "flags.cfg")
    if os.path.exists(path):
        raise BadInput(f"--logdir={logdir} holds a run already: give another folder.")
    try:
        os.makedirs(logdir, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            for name, value in flag_values(*GROUPS).items():
                if value is not None:
                    print(f"--{name}={value}", file=file)
    except OSError as error:
        raise BadInput(f"--logdir={logdir} cannot be written: {error}") from error


def make_model(task):
    """The compiled model: the NTM layer from the task's inputs to the logits of its targets."""
    import ntm_keras
    from ntm_keras.keras_compat import keras

    layer = ntm_keras.NTM(
        **flag_values(MACHINE), output_dim=task.output_width, return_sequences=True, name="ntm"
    )
    inputs = keras.Input([None, task.input_width])
    model = keras.Model(inputs, layer(inputs))
    clipping = {"global_clipnorm": FLAGS.clip_norm, "clipvalue": FLAGS.clip_value}
    if FLAGS.optimizer == "adam":
        optimizer = keras.optimizers.Adam(FLAGS.learning_rate, **clipping)
    else:
        optimizer = keras.optimizers.RMSprop(
            FLAGS.learning_rate, rho=0.95, momentum=0.9, epsilon=1e-4, centered=True, **clipping
        )
    # Several steps in one call: Keras takes milliseconds between two calls.
    steps_per_call = math.gcd(10, min(FLAGS.steps, FLAGS.validate_every))
    _compile(model, optimizer=optimizer, jit_compile=FLAGS.xla, steps_per_execution=steps_per_call)
    return model


def _compile(model, **arguments) -> None:
    import ntm_keras

    model.compile(
        loss=ntm_keras.BitCrossentropy(),
        weighted_metrics=[
            ntm_keras.CostPerSequence(),
            ntm_keras.WrongBitsPerSequence(),
            ntm_keras.ShareWithoutError(),
        ],
        **arguments,
    )


def make_evaluator(model):
    """The same model for data of many lengths: not under XLA, which compiles each length anew."""
    from ntm_keras.keras_compat import keras

    evaluator = keras.Model(model.inputs, model.outputs)
    _compile(evaluator, jit_compile=False)
    return evaluator


def measure(evaluator, task, sizes, sequences: int) -> list[dict[str, Any]]:
    """What a model costs and how often it errs, at every size: the records of eval.json."""
    batch_size = min(sequences, _EVAL_BATCH_SIZE)
    records = []
    for written, size in sizes:
        dataset = task.evaluation(size, sequences, batch_size, FLAGS.seed)
        found = evaluator.evaluate(dataset, verbose=0, return_dict=True)
        count = len(dataset) * batch_size
        records.append(
            {
                "size": written,
                "sequences": count,
                "cost_bits_per_sequence": found["cost_bits_per_sequence"],
                "wrong_bits_per_sequence": found["wrong_bits_per_sequence"],
                "sequences_without_error": round(found["share_without_error"] * count),
            }
        )
    return records


def train(task) -> None:
    """Trains until the task is solved or the steps are used up, and says how it went.

    Raises:
        BadInput: The loss became NaN or infinite.
    """
    from ntm_keras import callbacks
    from ntm_keras.keras_compat import keras

    logdir = FLAGS.logdir
    keras.utils.set_random_seed(FLAGS.seed)
    model = make_model(task)
    evaluator = make_evaluator(model)
    sizes = eval_sizes(task)
    measured = {}

    def test(step: int) -> float:
        sequences = task.test(step, FLAGS.eval_sequences, _EVAL_BATCH_SIZE, FLAGS.seed)
        measured.update(evaluator.evaluate(sequences, verbose=0, return_dict=True))
        return measured["wrong_bits_per_sequence"]

    def at_sizes() -> dict[str, float]:
        records = measure(evaluator, task, sizes, _SIZE_SEQUENCES)
        return {
            f"{name}_at_size/{record['size']}": record[name]
            for record in records
            for name in ("cost_bits_per_sequence", "wrong_bits_per_sequence")
        }

    stop = callbacks.StopWhenSolved(FLAGS.solved_below or task.solved_below, test)
    example = task.evaluation(sizes[0][1], 1, 1, FLAGS.seed)
    steps_per_epoch = min(FLAGS.steps, FLAGS.validate_every)
    write_settings(logdir)
    try:
        model.fit(
            task.training(FLAGS.batch_size, FLAGS.seed, mix_lengths=FLAGS.mix_lengths),
            epochs=FLAGS.steps // steps_per_epoch,
            steps_per_epoch=steps_per_epoch,
            validation_data=task.validation(_VALIDATION_SEQUENCES, _EVAL_BATCH_SIZE, FLAGS.seed),
            callbacks=[
                callbacks.GradientNorm(),
                callbacks.ScalarLog(logdir, FLAGS.batch_size),
                callbacks.Measurements(os.path.join(logdir, "validation"), at_sizes, every=5),
                callbacks.MachineImages(
                    os.path.join(logdir, "train"), *next(iter(example)), every=2
                ),
                callbacks.SafeCheckpoint(os.path.join(logdir, "model.keras")),
                stop,
            ],
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except callbacks.NonFiniteLossError as error:
        raise BadInput(
            f"{error}; the model before is in {logdir}. "
            "Try a smaller --learning_rate or a --clip_norm."
        ) from error
    if not stop.solved:
        test(FLAGS.steps)
    steps = int(model.optimizer.iterations)
    result = {
        "solved": stop.solved,
        "steps": steps,
        "sequences": steps * FLAGS.batch_size,
        "seconds": round(time.perf_counter() - _STARTED, 1),
        "cost_bits_per_sequence": measured["cost_bits_per_sequence"],
        "wrong_bits_per_sequence": measured["wrong_bits_per_sequence"],
        "flags": flag_values(*GROUPS),
    }
    _write_json("result.json", result)
    print(
        f"""
{"Solved" if stop.solved else "Not solved"} after {steps} steps, {result["sequences"]} sequences,\
 {result["seconds"]:.0f} seconds.
Wrong bits per sequence: {result["wrong_bits_per_sequence"]:.4f}\
 (over {FLAGS.eval_sequences} fresh sequences; cost {result["cost_bits_per_sequence"]:.3f} bits).
The run is in {logdir}; watch it with
  tensorboard --samples_per_plugin=images=100 --logdir {shlex.quote(logdir)}"""
    )


def write_settings(logdir: str) -> None:
    """The flags and the command line for TensorBoard: as text, and as hparams to compare runs."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hparams

    settings = flag_values(*GROUPS)
    table = ["| flag | value |", "| --- | --- |"]
    table += [f"| {name} | {value} |" for name, value in settings.items()]
    command = shlex.join(["python", *sys.argv])
    with tf.summary.create_file_writer(logdir).as_default():
        tf.summary.text("command line", f"    {command}", step=0)
        tf.summary.text("flags", "\n".join(table), step=0)
        hparams.hparams(
            {name: "none" if value is None else value for name, value in settings.items()}
        )


def evaluate(task) -> None:
    """Measures a trained machine at every size, and shows one example."""
    import ntm_keras  # noqa: F401  registers what the saved model is made of
    from ntm_keras.keras_compat import keras

    path = os.path.join(FLAGS.logdir, "model.keras")
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be loaded: {error}") from error
    sizes = eval_sizes(task)
    records = measure(make_evaluator(model), task, sizes, FLAGS.eval_sequences)
    print(f"{'size':>8} {'sequences':>10} {'cost, bits':>12} {'wrong bits':>12} {'no error':>10}")
    for record in records:
        print(
            f"{record['size']:>8} {record['sequences']:>10}"
            f" {record['cost_bits_per_sequence']:>12.3f}"
            f" {record['wrong_bits_per_sequence']:>12.3f}"
            f" {record['sequences_without_error'] / record['sequences']:>10.1%}"
        )
    _write_json("eval.json", records)
    show_example(model, task, *sizes[0])


def show_example(model, task, written: str, size: Any) -> None:
    """Prints one sequence, its targets and the model's answers, bits down, time across."""
    inputs, targets, mask = next(iter(task.evaluation(size, 1, 1, FLAGS.seed)))
    answers = model(inputs)
    print(f"\nOne sequence of size {written}: bits down, time across, # for 1, . for 0")
    for title, values in (("input", inputs), ("target", targets), ("answer", answers)):
        print(f"\n{title}")
        for channel in zip(*values.numpy()[0].tolist()):
            shown = mask.numpy()[0] if title != "input" else [1] * len(channel)
            print(
                "".join(" .#"[1 + (value > 0)] if on else " " for value, on in zip(channel, shown))
            )


def _write_json(name: str, content: Any) -> None:
    with open(os.path.join(FLAGS.logdir, name), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def main(argv: list[str]) -> None:
    if argv[1:]:
        raise BadInput(f"unexpected argument {argv[1]!r}: flags begin with --.")
    task = make_task()
    eval_sizes(task)
    if FLAGS.mode == "eval":
        refuse_contradictions(FLAGS.logdir)
    elif FLAGS.logdir is None:
        now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        FLAGS.logdir = os.path.join("runs", FLAGS.task, now)
    if FLAGS.mode == "train":
        make_folder(FLAGS.logdir)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    {"train": train, "eval": evaluate}[FLAGS.mode](task)


def command_line(argv: list[str]) -> None:
    """Runs train.py as from a shell: what the user can mend ends it with one line, no traceback."""
    try:
        argv = arguments(argv)
        if any(flag.lstrip("-") in ("help", "helpshort", "h") for flag in argv[1:]):
            print(manual())
            return
        app.run(main, argv, flags_parser=_parse)
    except BadInput as error:
        sys.exit(f"train.py: {error}")


def _parse(argv: list[str]) -> list[str]:
    try:
        return FLAGS(argv)
    except flags.Error as error:
        raise BadInput(" ".join(str(error).split())) from error


if __name__ == "__main__":
    command_line(sys.argv)
