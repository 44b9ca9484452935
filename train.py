"""Trains a Neural Turing Machine on a task, or evaluates one that was trained.

  python train.py                                  train on the copy task
  python train.py --task=copy --max_length=10      with other limits
  python train.py --flagfile=configs/paper/copy_ntm_lstm.cfg     with the paper's settings
  python train.py --mode=eval --logdir=runs/copy/..     measure a trained machine

--task=NAME alone takes its defaults from configs/NAME.cfg; --flagfile takes any other. Flags on
the command line win over both. A run's folder holds flags.cfg (a flagfile), result.json,
eval.json, model.keras, checkpoints and what TensorBoard shows. A run that was stopped goes on with
--logdir=RUN.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

from configs import command_line, run_folder
from configs.command_line import BadInput, flag_values
from tasks import task_class

_STARTED = time.perf_counter()

FLAGS = flags.FLAGS

# Sequences of a validation, and of each size measured while training: enough to see how a run goes.
# What a run reports of itself at its end is measured on --eval_sequences.
_VALIDATION_SEQUENCES = 256
_SIZE_SEQUENCES = 64
_EVAL_BATCH_SIZE = 64


def make_task():
    """The task that the flags describe."""
    try:
        return task_class(FLAGS.task)(**flag_values(command_line.TASK))
    except ValueError as error:
        raise BadInput(f"--task={FLAGS.task}: {error}") from error


def eval_sizes(task) -> list[tuple[str, Any]]:
    """The sizes to evaluate at, as they were written and as the task means them."""
    text = task.default_eval_sizes if FLAGS.eval_sizes is None else FLAGS.eval_sizes
    try:
        return task.sizes(text)
    except ValueError as error:
        raise BadInput(f"--eval_sizes={text}: {error}") from error


def warn_of_small_memory(task, sizes: list[tuple[str, Any]]) -> None:
    """Says which sequences hold more vectors than the memory has locations."""
    largest = "in training", task.largest_size
    for name, size in [largest, *((f"of size {written}", size) for written, size in sizes)]:
        vectors = task.vectors_to_remember(size)
        if FLAGS.model == "ntm" and vectors > FLAGS.memory_size:
            print(
                f"train.py: warning: sequences {name} have up to {vectors} vectors to remember,"
                f" more than the {FLAGS.memory_size} locations of --memory_size.",
                file=sys.stderr,
            )


def make_models(task) -> tuple[Any, Any]:
    """The model from the task's inputs to the logits of its targets, and the same for training.

    For training it is also told which steps matter (see `with_steps`), and is compiled.
    """
    import ntm_keras
    from ntm_keras import checkpoints
    from ntm_keras.keras_compat import keras

    network = make_network(task)
    inputs = keras.Input([None, task.input_width], name="inputs")
    steps = keras.Input([None], dtype="bool", name="steps")
    outputs = network(inputs, mask=steps)
    trainer = (
        ntm_keras.NoisyModel([inputs, steps], outputs, weight_noise(), FLAGS.seed)
        if FLAGS.weight_noise
        else keras.Model([inputs, steps], outputs)
    )
    # Several steps in one call: Keras takes milliseconds between two calls. Calls have to end where
    # an epoch does, from wherever the run goes on.
    begins = checkpoints.steps_in(checkpoint_folder())
    steps_per_call = math.gcd(10, FLAGS.steps, FLAGS.validate_every, *begins)
    _compile(
        trainer,
        task,
        optimizer=make_optimizer(),
        jit_compile=FLAGS.xla,
        steps_per_execution=steps_per_call,
    )
    return keras.Model(inputs, network(inputs)), trainer


def make_network(task) -> Callable:
    """What leads from inputs, and a mask of the steps that matter, to logits."""
    import ntm_keras
    from ntm_keras.keras_compat import keras

    if FLAGS.model == "ntm":
        return ntm_keras.NTM(
            **flag_values(command_line.MACHINE),
            output_dim=task.output_width,
            return_sequences=True,
            zero_output_for_mask=True,
            name="ntm",
        )
    layers = [
        keras.layers.LSTM(FLAGS.lstm_units, return_sequences=True, name=f"lstm_{index}")
        for index in range(FLAGS.lstm_layers)
    ]
    projection = keras.layers.Dense(task.output_width, name="projection")

    def network(inputs, mask=None):
        for layer in layers:
            inputs = layer(inputs, mask=mask)
        return projection(inputs)

    return network


def make_optimizer():
    """The optimizer that the flags describe."""
    from ntm_keras.keras_compat import keras

    learning_rate = FLAGS.learning_rate
    if FLAGS.learning_rate_half_life:
        learning_rate = keras.optimizers.schedules.ExponentialDecay(
            learning_rate, FLAGS.learning_rate_half_life, 0.5
        )
    options = {
        "global_clipnorm": FLAGS.clip_norm or None,
        "clipvalue": FLAGS.clip_value or None,
        "use_ema": FLAGS.ema_momentum > 0,
        "ema_momentum": FLAGS.ema_momentum,
    }
    if FLAGS.optimizer == "adam":
        return keras.optimizers.Adam(learning_rate, epsilon=FLAGS.adam_epsilon, **options)
    return keras.optimizers.RMSprop(
        learning_rate, rho=0.95, momentum=0.9, epsilon=1e-4, centered=True, **options
    )


def weight_noise():
    """The standard deviation of the noise on the weights, as a function of the step if it falls."""
    from ntm_keras.keras_compat import keras

    if not FLAGS.weight_noise_steps:
        return FLAGS.weight_noise
    return keras.optimizers.schedules.PolynomialDecay(
        FLAGS.weight_noise, FLAGS.weight_noise_steps, FLAGS.weight_noise_end
    )


def with_steps(dataset):
    """A task's batches with, beside the inputs, the steps up to a sequence's last answer.

    All sequences are padded to one length, for which the training step is compiled once. Under
    Keras 3 the NTM layer ends its loop with the last step that matters to a batch.
    """
    import tensorflow as tf

    def add_steps(inputs, targets, mask):
        return (inputs, tf.cumsum(mask, axis=1, reverse=True) > 0), targets, mask

    return dataset.map(add_steps).prefetch(tf.data.AUTOTUNE)


def _compile(model, task, **arguments) -> None:
    import ntm_keras

    model.compile(
        loss=ntm_keras.BitCrossentropy(),
        weighted_metrics=[
            ntm_keras.CostPerSequence(),
            ntm_keras.WrongBitsPerSequence(),
            *task.measures(),
            ntm_keras.ShareWithoutError(),
        ],
        **arguments,
    )


def make_evaluator(model, task):
    """The same model for data of many lengths: not under XLA, which compiles each length anew."""
    from ntm_keras.keras_compat import keras

    evaluator = keras.Model(model.inputs, model.outputs)
    _compile(evaluator, task, jit_compile=False)
    return evaluator


def evaluation_data(task, sequences: int) -> list[tuple[str, Any]]:
    """At least so many sequences of every size to evaluate at, drawn once: (size, dataset)."""
    batch_size = min(sequences, _EVAL_BATCH_SIZE)
    return [
        (written, task.evaluation(size, sequences, batch_size, FLAGS.seed).cache())
        for written, size in eval_sizes(task)
    ]


def measure(evaluator, data: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    """What a model costs and how often it errs, at every size: the records of eval.json."""
    records = []
    for written, dataset in data:
        found = evaluator.evaluate(dataset, verbose=0, return_dict=True)
        sequences = len(dataset) * dataset.element_spec[0].shape[0]
        share = found.pop("share_without_error")
        records.append(
            {
                "size": written,
                "sequences": sequences,
                **_per_sequence(found),
                "sequences_without_error": round(share * sequences),
            }
        )
    return records


def _per_sequence(measured: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in measured.items() if name.endswith("_per_sequence")}


def _at_size(record: dict[str, Any]) -> dict[str, float]:
    """A record's measures for TensorBoard: a chart for each, a line in it for each size."""
    share = record["sequences_without_error"] / record["sequences"]
    measures = {**_per_sequence(record), "share_without_error": share}
    return {f"{name}_at_size/{record['size']}": value for name, value in measures.items()}


def train(task) -> None:
    """Trains until the task is solved or the steps are used up, and says how it went.

    A run that was there before goes on where its last checkpoint was written.

    Raises:
        BadInput: The loss became NaN or infinite, or no checkpoint can be read.
    """
    from ntm_keras import callbacks
    from ntm_keras.checkpoints import Checkpoints
    from ntm_keras.keras_compat import keras

    keras.utils.set_random_seed(FLAGS.seed)
    model, trainer = make_models(task)
    evaluator = make_evaluator(model, task)

    def test(step: int) -> dict[str, float]:
        sequences = task.test(step, FLAGS.eval_sequences, _EVAL_BATCH_SIZE, FLAGS.seed)
        return evaluator.evaluate(sequences, verbose=0, return_dict=True)

    measure, below = task.solved_measure, FLAGS.solved_below or task.solved_below
    averages = callbacks.ShowAveragedWeights() if FLAGS.ema_momentum else None
    guard = callbacks.GuardGradients()
    stop = callbacks.StopWhenSolved(
        below, lambda step: test(step)[measure], f"val_{measure}", FLAGS.solved_times
    )
    clock = callbacks.RunTime(_STARTED)
    for callback in (guard, averages):
        if callback:
            callback.set_model(trainer)
    variables = {**guard.variables, **stop.variables, **clock.variables}
    checkpoints = Checkpoints(
        checkpoint_folder(), variables, averages, seconds=FLAGS.checkpoint_seconds
    )
    step = restore(checkpoints, trainer)
    shown = averages.shown if averages else contextlib.nullcontext
    is_over = step >= FLAGS.steps
    if step and not is_over:
        with shown():
            is_over = stop.is_solved(step)
    if not is_over:
        say_what_comes(measure, below, step)
        in_order = [callbacks.StopAfter(FLAGS.steps), averages, guard]
        in_order += [*make_callbacks(task, model, evaluator), stop, clock, checkpoints]
        in_order += [callbacks.StopOnSignal(checkpoints.write)]
        fit(trainer, task, checkpoints, [each for each in in_order if each])
    with shown():
        steps = int(trainer.optimizer.iterations)
        tested = test(steps)
    # Training may go on to less than the task asks for; that is not what is asked of its end.
    solved = tested[measure] < max(below, task.solved_below)
    report(solved, steps, clock.seconds(), tested)


def checkpoint_folder() -> str:
    return os.path.join(FLAGS.logdir, "checkpoints")


def say_what_comes(measure: str, below: float, step: int) -> None:
    """Where the run is, from where it goes on, and when it ends."""
    times = f" in {FLAGS.solved_times} validations in a row" if FLAGS.solved_times > 1 else ""
    print(
        f"{where_to_look()}\nIt trains {f'on from step {step}, ' if step else ''}for {FLAGS.steps}"
        f" steps, or until {measure} is below {below:g}{times}.\n"
        "The first epoch takes longer: the step is compiled.",
        flush=True,
    )


def restore(checkpoints, trainer) -> int:
    """Goes back to the last checkpoint; returns its step, 0 where a run is new."""
    try:
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            step = checkpoints.restore(trainer)
    except (OSError, ValueError) as error:
        raise BadInput(f"{error}; --overwrite starts anew.") from error
    for complaint in complaints:
        print(f"train.py: warning: {complaint.message}", file=sys.stderr)
    if step:
        run_folder.forget_events_after(FLAGS.logdir, step)
    else:
        write_settings(FLAGS.logdir)
    return step


def fit(trainer, task, checkpoints, callbacks: list) -> None:
    """Trains on; says what to do where training ends before its time."""
    from ntm_keras.callbacks import NonFiniteLossError, StoppedBySignalError

    validation = task.validation(_VALIDATION_SEQUENCES, _EVAL_BATCH_SIZE, FLAGS.seed).cache()
    step = int(trainer.optimizer.iterations)
    epochs = math.ceil(FLAGS.steps / FLAGS.validate_every)
    try:
        while True:
            # An epoch ends with a validation; one that was interrupted is brought to its end first.
            epoch, done = divmod(step, FLAGS.validate_every)
            trainer.fit(
                with_steps(task.training(FLAGS.batch_size, FLAGS.seed, step, FLAGS.mix_lengths)),
                initial_epoch=epoch,
                epochs=epoch + 1 if done else epochs,
                steps_per_epoch=min(FLAGS.steps - step, FLAGS.validate_every - done),
                validation_data=with_steps(validation),
                callbacks=callbacks,
                shuffle=False,
                verbose=1 if sys.stdout.isatty() else 2,
            )
            if not done or trainer.stop_training:
                return
            step = checkpoints.restore(trainer)
    except NonFiniteLossError as error:
        kept = os.path.exists(os.path.join(FLAGS.logdir, "model.keras"))
        raise BadInput(
            f"{error}. {f'The model before is in {FLAGS.logdir}.' if kept else ''} "
            "Try a smaller --learning_rate or a --clip_norm."
        ) from error
    except StoppedBySignalError as error:
        print(
            f"\nStopped by {error} after {int(trainer.optimizer.iterations)} steps. To go on:\n"
            f"  {shlex.join([sys.executable, sys.argv[0], f'--logdir={FLAGS.logdir}'])}"
        )
        sys.exit(128 + error.number)


def make_callbacks(task, model, evaluator) -> list:
    """What a run writes while it trains: scalars, images, and the model."""
    from ntm_keras import callbacks

    train_log, validation_log, saved_model = (
        os.path.join(FLAGS.logdir, name) for name in ("train", "validation", "model.keras")
    )
    data = evaluation_data(task, _SIZE_SEQUENCES)
    inputs, targets, mask = list(with_steps(data[0][1]))[0]

    def at_sizes() -> dict[str, float]:
        records = measure(evaluator, data)
        return {name: value for record in records for name, value in _at_size(record).items()}

    pictures = [callbacks.MachineImages(train_log, inputs, targets, mask, every=2)]
    return [
        callbacks.ScalarLog(FLAGS.logdir, FLAGS.batch_size),
        callbacks.Measurements(validation_log, at_sizes, every=10),
        *(pictures if FLAGS.model == "ntm" else []),
        callbacks.SafeCheckpoint(saved_model, model),
    ]


def report(solved: bool, steps: int, seconds: float, tested: dict[str, float]) -> None:
    """Writes result.json, and says the same to the user."""
    result = {
        "solved": solved,
        "steps": steps,
        "sequences": steps * FLAGS.batch_size,
        "seconds": round(seconds, 1),
        **_per_sequence(tested),
        "flags": flag_values(*command_line.GROUPS),
    }
    _write_json("result.json", result)
    measured = ", ".join(f"{_title(name)} {tested[name]:.4f}" for name in _per_sequence(tested))
    print(
        f"\n{'Solved' if solved else 'Not solved'} after {steps} steps,"
        f" {result['sequences']} sequences, {result['seconds']:.0f} seconds.\n"
        f"On fresh sequences, per sequence: {measured}.\n"
        f"{where_to_look()}"
    )


def where_to_look() -> str:
    """Where the run is, and the command that shows it, beside others where it has neighbours."""
    shown = "runs" if FLAGS.logdir.startswith(os.path.join("runs", "")) else FLAGS.logdir
    tensorboard = [sys.executable, "-m", "tensorboard.main", "--samples_per_plugin=images=100"]
    tensorboard += ["--logdir", shown]
    return f"The run is in {FLAGS.logdir}; watch it with\n  {shlex.join(tensorboard)}"


def write_settings(logdir: str) -> None:
    """The flags and the command line for TensorBoard: as text, and as hparams to compare runs."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hparams

    settings = flag_values(*command_line.GROUPS)
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
    except Exception as error:  # Of a damaged file Keras raises whatever its parts raise.
        raise BadInput(f"{path} cannot be loaded: {' '.join(str(error).split())}") from error
    step = last_step()
    data = evaluation_data(task, FLAGS.eval_sequences)
    records = measure(make_evaluator(model, task), data)
    _write_json("eval.json", records)
    write_evaluation(model, step, records, data)
    print(table(records))
    show_example(model, *data[0])


def table(records: list[dict[str, Any]]) -> str:
    """The records as lines of text: a row for each size, a column for each measure."""
    columns = {"size": [record["size"] for record in records]}
    columns["sequences"] = [str(record["sequences"]) for record in records]
    for name in _per_sequence(records[0]):
        columns[_title(name)] = [f"{record[name]:.3f}" for record in records]
    columns["no error"] = [
        f"{record['sequences_without_error'] / record['sequences']:.1%}" for record in records
    ]
    rows = [list(columns), *zip(*columns.values())]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows
    )


def _title(measure: str) -> str:
    return measure.removesuffix("_per_sequence").replace("_", " ")


def last_step() -> int:
    """The step at which the run to evaluate ended; 0 while it has not."""
    path = os.path.join(FLAGS.logdir, "result.json")
    if not os.path.exists(path):
        return 0
    try:
        with open(path, encoding="utf-8") as file:
            return int(json.load(file)["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not what a run writes: {error}") from error


def write_evaluation(model, step: int, records: list[dict[str, Any]], data: list) -> None:
    """The measures for TensorBoard, and an example of each size, at the run's last step."""
    import tensorflow as tf

    from ntm_keras import callbacks
    from ntm_keras.trace import trace_model

    with tf.summary.create_file_writer(os.path.join(FLAGS.logdir, "eval")).as_default():
        for record, (written, dataset) in zip(records, data):
            inputs, targets, mask = next(iter(dataset))
            for name, value in _at_size(record).items():
                tf.summary.scalar(name, value, step=step)
            if FLAGS.model == "ntm":
                traced = trace_model(model, inputs[:1])
                callbacks.write_machine_images(
                    traced, targets, mask, step=step, suffix=f"/size_{written}"
                )


def show_example(model, written: str, dataset) -> None:
    """Prints the first sequence, its targets and the model's answers."""
    inputs, targets, mask = next(iter(dataset))
    answers = model(inputs)
    print(f"\nOne sequence of size {written}: channels down, time across, # above 0")
    for title, values in (("input", inputs), ("target", targets), ("answer", answers)):
        print(f"\n{title}")
        for channel in zip(*values.numpy()[0].tolist()):
            shown = mask.numpy()[0] if title != "input" else [1] * len(channel)
            print(
                "".join(" .#"[1 + (value > 0)] if on else " " for value, on in zip(channel, shown))
            )


def _write_json(name: str, content: Any) -> None:
    path = os.path.join(FLAGS.logdir, name)
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error


def main(argv: list[str]) -> None:
    if argv[1:]:
        raise BadInput(f"unexpected argument {argv[1]!r}: flags begin with --.")
    task = make_task()
    warn_of_small_memory(task, eval_sizes(task))
    if FLAGS.mode == "train":
        now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        FLAGS.logdir = FLAGS.logdir or os.path.join("runs", FLAGS.task, now)
        lock = run_folder.claim(FLAGS.logdir)  # noqa: F841  held until the process ends
        if FLAGS.overwrite:
            run_folder.clear(FLAGS.logdir)
        run_folder.write_settings(FLAGS.logdir)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells of every checkpoint.
    {"train": train, "eval": evaluate}[FLAGS.mode](task)


if __name__ == "__main__":
    try:
        app.run(main, flags_parser=command_line.parse)
    except BadInput as error:
        sys.exit(f"train.py: {error}")
    except KeyboardInterrupt:
        sys.exit("train.py: interrupted.")
