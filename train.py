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
import io
import json
import math
import os
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import app, flags, logging

from configs import building, command_line, run_folder
from configs.command_line import BadInput, flag_values
from tasks.task import Task

if TYPE_CHECKING:  # A wrong flag is answered before TensorFlow is imported.
    import tensorflow as tf

    from ntm_keras import callbacks
    from ntm_keras.keras_compat import keras

_STARTED = time.perf_counter()

FLAGS = flags.FLAGS

# Sequences of a validation, and of each size measured while training: enough to see how a run goes.
# What a run reports of itself at its end is measured on --eval_sequences.
_VALIDATION_SEQUENCES = 256
_SIZE_SEQUENCES = 64
_EVAL_BATCH_SIZE = 64


def warn(message: str) -> None:
    print(f"train.py: warning: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Says in a line of our own each what code within warns of."""
    complaints: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            yield
    finally:
        for complaint in complaints:
            warn(f"{complaint.message}.")


def warn_of_small_memory(task: Task, sizes: list[tuple[str, Any]]) -> None:
    """Says which sequences hold more vectors than the memory has locations."""
    largest = "in training", task.largest_size
    for name, size in [largest, *((f"of size {written}", size) for written, size in sizes)]:
        vectors = task.vectors_to_remember(size)
        if FLAGS.model != "lstm" and vectors > FLAGS.memory_size:
            warn(
                f"sequences {name} have up to {vectors} vectors to remember, more than the"
                f" {FLAGS.memory_size} locations of --memory_size."
            )


def evaluation_data(task: Task, sequences: int) -> list[tuple[str, tf.data.Dataset]]:
    """At least so many sequences of every size to evaluate at: (size, dataset)."""
    batch_size = min(sequences, _EVAL_BATCH_SIZE)
    return [
        (written, task.evaluation(size, sequences, batch_size, FLAGS.seed))
        for written, size in building.eval_sizes(task)
    ]


def measure(
    evaluator: keras.Model, data: list[tuple[str, tf.data.Dataset]]
) -> list[dict[str, Any]]:
    """What a model costs and how often it errs, at every size: the records of eval.json."""
    records = []
    for written, dataset in data:
        found = evaluator.evaluate(dataset, verbose=0, return_dict=True)
        sequences = len(dataset) * dataset.element_spec[0].shape[0]
        record = {"size": written, "sequences": sequences, **_measures(found)}
        if "share_without_error" in found:
            record["sequences_without_error"] = round(found["share_without_error"] * sequences)
        records.append(record)
    return records


def _measures(found: dict[str, float]) -> dict[str, float]:
    """What of an evaluation, or of a record, is a measure to be shown as it is."""
    others = {"loss", "share_without_error", "size", "sequences", "sequences_without_error"}
    return {name: value for name, value in found.items() if name not in others}


def _share_without_error(record: dict[str, Any]) -> dict[str, float]:
    """The share of a record's sequences without an error, where the task counts them."""
    count = record.get("sequences_without_error")
    return {} if count is None else {"share_without_error": count / record["sequences"]}


def _at_size(record: dict[str, Any]) -> dict[str, float]:
    """A record's measures for TensorBoard: a chart for each, a line in it for each size."""
    measures = {**_measures(record), **_share_without_error(record)}
    return {f"{name}_at_size/{record['size']}": value for name, value in measures.items()}


class Keepers(NamedTuple):
    """The callbacks whose variables make up, beside the model's, the state of a run."""

    averages: callbacks.ShowAveragedWeights | None
    guard: callbacks.GuardGradients
    latest: callbacks.SaveLatest
    best: callbacks.SaveBest
    stop: callbacks.StopWhenSolved
    clock: callbacks.RunTime
    checkpoints: callbacks.Checkpoints

    def shown(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the model has the weights that are measured and saved."""
        return self.averages.shown() if self.averages else contextlib.nullcontext()

    def save(self) -> None:
        """Keeps the state and the model as they are now, or says why that cannot be."""
        try:
            self.checkpoints.write()
            with self.shown():
                self.latest.save()
        except OSError as error:
            warn(f"{error}.")


def train(task: Task, strategy: tf.distribute.Strategy | None) -> None:
    """Trains until the task is solved or the steps are used up, and says how it went.

    A run that was there before goes on where its last checkpoint was written. A strategy says which
    devices share a batch.

    Raises:
        BadInput: The loss became NaN or infinite, or no checkpoint can be read.
    """
    from ntm_keras.keras_compat import keras, training_step

    keras.utils.set_random_seed(FLAGS.seed)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model, trainer = building.make_models(task, run_folder.kept_steps(FLAGS.logdir))
    evaluator = building.make_evaluator(model, task)
    sizes = FLAGS.eval_sequences, _EVAL_BATCH_SIZE, FLAGS.seed

    def test(step: int) -> float:
        tested = evaluator.evaluate(task.test(step, *sizes), verbose=0, return_dict=True)
        return tested[task.solved_measure]

    below = FLAGS.solved_below or task.solved_below
    keepers = make_keepers(model, trainer, task.solved_measure, below, test)
    step = restore(keepers.checkpoints, trainer)
    is_over = step >= FLAGS.steps
    # Where an epoch was interrupted there was no validation, and it is brought to its end.
    if step and not is_over and step % FLAGS.validate_every == 0:
        with keepers.shown():
            is_over = keepers.stop.is_solved(step)
    if not is_over:
        say_what_comes(task, below, step)
        fit(trainer, task, keepers, logs_of(task, evaluator))
    with keepers.shown():
        found = evaluator.evaluate(task.report(*sizes), verbose=0, return_dict=True)
    # Training may go on to less than the task asks for; that is not what is asked of its end.
    solved = found[task.solved_measure] < max(below, task.solved_below)
    if not is_over:
        keepers.clock.count()
    report(solved, training_step(trainer), keepers.clock.seconds, found)


def help_to_train(task: Task, strategy: tf.distribute.Strategy) -> None:
    """What all workers do but the first: the same, in a folder that is then thrown away."""
    if not FLAGS.overwrite:
        run_folder.check_data(FLAGS.logdir, task.data_names())
    print(f"Worker {strategy.cluster_resolver.task_id} of the run in {FLAGS.logdir}.", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        if os.path.exists(checkpoint_folder()) and not FLAGS.overwrite:
            shutil.copytree(checkpoint_folder(), os.path.join(folder, "checkpoints"))
        FLAGS["logdir"].value = folder
        train(task, strategy)


def make_keepers(
    model: keras.Model,
    trainer: keras.Model,
    solved_measure: str,
    below: float,
    test: Callable[[int], float],
) -> Keepers:
    """The callbacks of a run, once they know the model that is trained."""
    from ntm_keras import callbacks

    model_file, best_file = (
        os.path.join(FLAGS.logdir, name) for name in ("model.keras", "best.keras")
    )
    averages = callbacks.ShowAveragedWeights() if FLAGS.ema_momentum else None
    guard = callbacks.GuardGradients()
    for callback in (guard, averages):
        if callback:
            callback.set_model(trainer)
    best = callbacks.SaveBest(best_file, f"val_{solved_measure}", model)
    stop = callbacks.StopWhenSolved(below, test, f"val_{solved_measure}", FLAGS.solved_times)
    clock = callbacks.RunTime(_STARTED)
    variables = {**guard.variables, **best.variables, **stop.variables, **clock.variables}
    seconds = FLAGS.checkpoint_seconds
    return Keepers(
        averages,
        guard,
        callbacks.SaveLatest(model_file, model, seconds),
        best,
        stop,
        clock,
        callbacks.Checkpoints(checkpoint_folder(), variables, averages, seconds=seconds),
    )


def in_order(
    keepers: Keepers, logs: list[keras.callbacks.Callback]
) -> list[keras.callbacks.Callback]:
    """All callbacks of a training: each after those whose work it needs."""
    from ntm_keras import callbacks

    def forgiving(*those_that_write: keras.callbacks.Callback) -> list:
        return [callbacks.forgiving(each, warn) for each in those_that_write]

    return [
        callbacks.StopAfter(FLAGS.steps),
        *([keepers.averages] if keepers.averages else []),
        keepers.guard,
        callbacks.StopWhenNotFinite(),
        *forgiving(*logs, keepers.latest, keepers.best),
        keepers.stop,
        keepers.clock,
        *forgiving(keepers.checkpoints),
        callbacks.StopOnSignal(keepers.save),
    ]


def checkpoint_folder() -> str:
    return os.path.join(FLAGS.logdir, "checkpoints")


def say_what_comes(task: Task, below: float, step: int) -> None:
    """What the data is, where the run is, from where it goes on, and when it ends."""
    times = f" in {FLAGS.solved_times} validations in a row" if FLAGS.solved_times > 1 else ""
    say_about(task)
    print(
        f"{where_to_look()}\n"
        f"It trains {f'on from step {step} ' if step else ''}until step"
        f" {FLAGS.steps}, or until {task.solved_measure} is below {below:g}{times}.\n"
        "The first epoch takes longer: the step is compiled.",
        flush=True,
    )


def say_about(task: Task) -> None:
    """What the user's data is, where a task is made of it."""
    if task.about():
        print(task.about())


def restore(checkpoints: callbacks.Checkpoints, trainer: keras.Model) -> int:
    """Goes back to the last checkpoint; returns its step, 0 where a run is new."""
    try:
        with warnings_in_a_line():
            step = checkpoints.restore(trainer)
    except OSError as error:
        raise BadInput(f"{error}.") from error
    except ValueError as error:
        raise BadInput(f"{error}; --overwrite starts anew.") from error
    run_folder.forget_events_after(FLAGS.logdir, step)
    if not step:
        log_settings(FLAGS.logdir)
    return step


def fit(
    trainer: keras.Model, task: Task, keepers: Keepers, logs: list[keras.callbacks.Callback]
) -> None:
    """Trains on; says what to do where training ends before its time."""
    import tensorflow as tf

    from ntm_keras.callbacks import NonFiniteLossError, StoppedBySignalError
    from ntm_keras.keras_compat import training_step

    validation = task.validation(_VALIDATION_SEQUENCES, _EVAL_BATCH_SIZE, FLAGS.seed).cache()
    used = in_order(keepers, logs)
    step = training_step(trainer)
    epochs = math.ceil(FLAGS.steps / FLAGS.validate_every)
    try:
        while True:
            # An epoch ends with a validation; one that was interrupted is brought to its end first.
            epoch, done = divmod(step, FLAGS.validate_every)
            trainer.fit(
                building.with_steps(
                    task.training(FLAGS.batch_size, FLAGS.seed, step, FLAGS.mix_lengths)
                ),
                initial_epoch=epoch,
                epochs=epoch + 1 if done else epochs,
                steps_per_epoch=min(FLAGS.steps - step, FLAGS.validate_every - done),
                validation_data=building.with_steps(validation),
                callbacks=used,
                shuffle=False,
                verbose=1 if sys.stdout.isatty() else 2,
            )
            if not done or trainer.stop_training:
                return
            if keepers.averages:
                keepers.averages.hide()
            step = training_step(trainer)
    except NonFiniteLossError as error:
        kept = os.path.exists(os.path.join(FLAGS.logdir, "model.keras"))
        before = f" The model before is in {FLAGS.logdir}." if kept else ""
        raise BadInput(
            f"{error}.{before} Try a smaller --learning_rate or a --clip_norm."
        ) from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
        if FLAGS.distribution_strategy != "multi_worker_mirrored":
            raise
        raise BadInput(
            "another worker has gone. To go on from the last checkpoint start all of them again."
        ) from error
    except StoppedBySignalError as error:
        again = shlex.join([sys.executable, sys.argv[0], f"--logdir={FLAGS.logdir}"])
        steps = run_folder.kept_steps(FLAGS.logdir)
        print(
            f"\nStopped by {error} after {training_step(trainer)} steps. "
            + (f"To go on from step {steps[-1]}:\n  {again}" if steps else "None could be kept.")
        )
        sys.exit(128 + error.number)


def logs_of(task: Task, evaluator: keras.Model) -> list[keras.callbacks.Callback]:
    """What writes for TensorBoard while a run trains: scalars and images."""
    from ntm_keras import callbacks

    train_log, validation_log = (
        os.path.join(FLAGS.logdir, name) for name in ("train", "validation")
    )
    data = [(written, each.cache()) for written, each in evaluation_data(task, _SIZE_SEQUENCES)]
    (inputs, steps), targets, mask = next(iter(building.with_steps(data[0][1])))

    def at_sizes() -> dict[str, float]:
        records = measure(evaluator, data)
        return {name: value for record in records for name, value in _at_size(record).items()}

    def draw(outputs: tf.Tensor) -> dict[str, Any]:
        return task.pictures(inputs, targets, outputs, mask)

    return [
        callbacks.ScalarLog(FLAGS.logdir, FLAGS.batch_size),
        callbacks.Measurements(validation_log, at_sizes, every=10),
        callbacks.MachineImages(train_log, (inputs, steps), draw=draw, every=2),
    ]


def report(solved: bool, steps: int, seconds: float, found: dict[str, float]) -> None:
    """Writes result.json, and says the same to the user."""
    result = {
        "solved": solved,
        "steps": steps,
        "sequences": steps * FLAGS.batch_size,
        "seconds": round(seconds, 1),
        **_measures(found),
        "flags": flag_values(*command_line.GROUPS),
    }
    measured = ", ".join(f"{_title(name)} {value:.4f}" for name, value in _measures(found).items())
    print(
        f"\n{'Solved' if solved else 'Not solved'} after {steps} steps,"
        f" {result['sequences']} sequences, {result['seconds']:.0f} seconds.\n"
        f"On fresh sequences: {measured}.\n"
        f"{where_to_look()}"
    )
    _write_json("result.json", result)


def where_to_look() -> str:
    """Where the run is, and the command that shows it, beside others where it has neighbours."""
    shown = "runs" if FLAGS.logdir.startswith(os.path.join("runs", "")) else FLAGS.logdir
    tensorboard = [sys.executable, "-m", "tensorboard.main", "--samples_per_plugin=images=100"]
    tensorboard += ["--logdir", shown]
    return f"The run is in {FLAGS.logdir}; watch it with\n  {shlex.join(tensorboard)}"


def log_settings(logdir: str) -> None:
    """The flags and the command line for TensorBoard: as text, and as hparams to compare runs."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hparams

    from ntm_keras.callbacks import EventLog

    settings = flag_values(*command_line.GROUPS)
    table = ["| flag | value |", "| --- | --- |"]
    table += [f"| {name} | {value} |" for name, value in settings.items()]
    command = shlex.join(["python", *sys.argv])
    with EventLog(logdir).writing():
        tf.summary.text("command line", f"    {command}", step=0)
        tf.summary.text("flags", "\n".join(table), step=0)
        hparams.hparams(
            {name: "none" if value is None else value for name, value in settings.items()}
        )


def evaluate(task: Task) -> None:
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
    records = measure(building.make_evaluator(model, task), data)
    say_about(task)
    print(table(records))
    size, dataset = data[0]
    inputs, targets, mask = next(iter(dataset))
    _write_json("eval.json", records)
    print(f"\nOne sequence of size {size}: {task.as_text(inputs, targets, model(inputs), mask)}")
    write_evaluation(task, model, step, records, data)


def table(records: list[dict[str, Any]]) -> str:
    """The records as lines of text: a row for each measure, a column for each size."""
    rows = [[name, *(str(record[name]) for record in records)] for name in ("size", "sequences")]
    for name in _measures(records[0]):
        rows.append([_title(name), *(f"{record[name]:.3f}" for record in records)])
    for name in _share_without_error(records[0]):
        shares = [_share_without_error(record)[name] for record in records]
        rows.append([_title(name), *(f"{share:.1%}" for share in shares)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def _title(measure: str) -> str:
    return measure.replace("_", " ")


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


def write_evaluation(
    task: Task,
    model: keras.Model,
    step: int,
    records: list[dict[str, Any]],
    data: list[tuple[str, tf.data.Dataset]],
) -> None:
    """The measures for TensorBoard, and an example of each size, at the run's last step."""
    import tensorflow as tf

    from ntm_keras import callbacks
    from ntm_keras.tracing import trace_model

    log = callbacks.EventLog(os.path.join(FLAGS.logdir, "eval"))
    for record, (written, dataset) in zip(records, data):
        with log.writing():
            for name, value in _at_size(record).items():
                tf.summary.scalar(name, value, step=step)
        inputs, targets, mask = next(iter(dataset))
        outputs, traces = trace_model(model, inputs[:1])
        drawn = task.pictures(inputs, targets, outputs, mask)
        with log.writing():
            callbacks.write_machine_images(traces, drawn, step, f"/size_{written}")


def _write_json(name: str, content: Any) -> None:
    run_folder.write(FLAGS.logdir, name, json.dumps(content, indent=2) + "\n")


def checked_task(argv: list[str]) -> Task:
    """The task that the flags describe.

    Raises:
        BadInput: Something is left of the command line, or limits or sizes make no sense.
    """
    if argv[1:]:
        raise BadInput(f"unexpected argument {argv[1]!r}: flags begin with --.")
    for name in command_line.flags_of_other_models(sys.argv[1:]):
        warn(f"--{name} means nothing to --model={FLAGS.model}.")
    with warnings_in_a_line():
        task = building.make_task()
    warn_of_small_memory(task, building.eval_sizes(task))
    return task


def main(argv: list[str]) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    task = checked_task(argv)
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells of every checkpoint.
    if FLAGS.mode == "eval":
        run_folder.check_data(FLAGS.logdir, task.data_names())
        evaluate(task)
        return
    strategy = building.make_strategy()
    if strategy and strategy.cluster_resolver and strategy.cluster_resolver.task_id:
        help_to_train(task, strategy)
    else:
        FLAGS["logdir"].value = FLAGS.logdir or run_folder.make_new(FLAGS.task)
        lock = run_folder.claim(FLAGS.logdir)  # noqa: F841  held until the process ends
        if FLAGS.overwrite:
            run_folder.clear(FLAGS.logdir)
        kept = run_folder.kept_steps(FLAGS.logdir)
        if kept and kept[-1] > FLAGS.steps:
            raise BadInput(f"--steps={FLAGS.steps}: the run in {FLAGS.logdir} has made {kept[-1]}.")
        run_folder.check_data(FLAGS.logdir, task.data_names())
        run_folder.write_data_names(FLAGS.logdir, task.data_names())
        run_folder.write_settings(FLAGS.logdir)
        train(task, strategy)


if __name__ == "__main__":
    try:
        app.run(main, flags_parser=command_line.parse)
    except (BadInput, ImportError, OSError) as error:
        sys.exit(f"train.py: {error}")
    except KeyboardInterrupt:
        sys.exit("train.py: interrupted.")
