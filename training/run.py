"""Trains a machine on a task, or evaluates a trained one."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import signal
import tempfile
import time
import warnings
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ntm_keras.callbacks import Checkpoints, MachineImages
from ntm_keras.keras_compat import IS_KERAS_2, keras, training_step
from training import distribution, models, report, run_folder, tensorboard
from training.callbacks import (
    NonFiniteLossError,
    RunCallbacks,
    ScalarLog,
    SignalReceivedError,
    SizeLog,
    StopOnSignal,
)
from training.errors import BadInput, StoppedBySignalError
from training.progress import Progress, doing
from training.settings import EVAL_BATCH_SIZE, Settings

# Sequences of a validation, and of each size measured during training: enough to watch a run. At
# its end a run is measured on `eval_sequences`.
_VALIDATION_SEQUENCES = 256
_SIZE_SEQUENCES = 64


def train(
    settings: Settings,
    logdir: str | os.PathLike | None = None,
    overwrite: bool = False,
    started: float | None = None,
) -> dict[str, Any]:
    """Trains until the task is solved or all steps are done, and returns the results.

    If the folder holds a run, it continues from its last checkpoint. Ctrl-C and SIGTERM are caught
    during training. The seeds of Python, NumPy and TensorFlow are set.

    Args:
        settings: The run's settings.
        logdir: The run's folder. Default: a new one, `runs/TASK/DATE-TIME`.
        overwrite: Whether to start from the beginning if the folder holds a run.
        started: The run's start, by `time.perf_counter`. Default: now.

    Returns:
        The content of result.json: whether the task was `solved`, the `steps`, `sequences` and
        `seconds` of training, the task's measures on fresh sequences, and the `flags`.

    Raises:
        ValueError: `settings` is not a `Settings`; the run cannot start or continue in this folder;
            or the loss became NaN or infinite.
        StoppedBySignalError: A signal stopped training; a checkpoint was written.

    Example:

    >>> from training import Settings, train
    >>> result = train(Settings(task="copy", steps=1000), "runs/mine")  # doctest: +SKIP
    >>> result["solved"]  # doctest: +SKIP
    False
    """
    started = time.perf_counter() if started is None else started
    _check_can_run(settings)
    distribution.leave_gpus_to_keras()
    if logdir == "":
        raise BadInput("Argument `logdir` must be a path, or None. Received: logdir=''")
    folder = None if logdir is None else os.path.expanduser(logdir)
    strategy = distribution.make_strategy(settings, folder)
    if folder and distribution.worker_of(strategy):
        return _help_to_train(settings, folder, overwrite, strategy, started)
    _check_measures(settings)
    run_folder.check_init_from(folder or "", settings.init_from, overwrite)
    given = _given_weights(settings, folder, overwrite)
    folder = folder or run_folder.make_new(settings.task_name)
    run_folder.check_may_train(folder, overwrite)
    with run_folder.claim(folder), distribution.in_use(strategy):
        _prepare(settings, folder, overwrite)
        return _train(settings, folder, strategy, started, given)


def _check_can_run(settings: Settings) -> None:
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise BadInput(
            "a run needs Keras on TensorFlow or JAX: set KERAS_BACKEND=tensorflow or jax."
            f" Received: backend={backend!r}"
        )
    if not isinstance(settings, Settings):
        raise BadInput(f"Argument `settings` must be a Settings. Received: settings={settings!r}")


def _check_measures(settings: Settings) -> None:
    """Refuses a task of a user's whose measures a run could not report."""
    task = settings.made_task
    names = [measure.name for measure in task.measures()]
    for name in names:
        if name in report.NO_MEASURES:
            raise BadInput(
                "a task's measure must not have the name of another result. Received: a measure of"
                f" {settings.task_name} named {name!r}"
            )
    if task.solved_measure not in names:
        raise BadInput(
            f"{type(task).__name__}.solved_measure must be the name of one of its measures,"
            f" {names}. Received: {task.solved_measure!r}"
        )


def _given_weights(
    settings: Settings, logdir: str | None, overwrite: bool
) -> list[np.ndarray] | None:
    """The weights that a new run begins with; None if they are drawn, or the run continues."""
    if settings.init_from and run_folder.starts_anew(logdir or "", overwrite):
        return models.weights_to_begin_with(settings)
    return None


def _prepare(settings: Settings, logdir: str, overwrite: bool) -> None:
    """Checks that the folder holds this run or none, and writes the run's flags and data names."""
    if overwrite:
        run_folder.clear(logdir)
    if run_folder.is_run(logdir):
        run_folder.check_same_run(logdir, settings.as_flags(), "train")
    run_folder.check_steps(logdir, settings.steps)
    with doing("Reading the data"):
        names = settings.made_task.data_names()
    run_folder.check_data(logdir, names)
    run_folder.write_data_names(logdir, names)
    run_folder.write_settings(logdir, settings.as_flags())


def _help_to_train(
    settings: Settings,
    logdir: str,
    overwrite: bool,
    strategy: Any,
    started: float,
) -> dict[str, Any]:
    """Trains as a worker other than the first: in a temporary folder, without output."""
    if not overwrite:
        run_folder.check_data(logdir, settings.made_task.data_names())
    given = _given_weights(settings, logdir, overwrite)
    print(f"Worker {distribution.worker_of(strategy)} of the run in {logdir}.", flush=True)
    checkpoints = os.path.join(logdir, "checkpoints")
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        distribution.in_use(strategy),
    ):
        if os.path.exists(checkpoints) and not overwrite:
            shutil.copytree(checkpoints, os.path.join(folder, "checkpoints"))
        try:
            return _train(settings, folder, strategy, started, given)
        except StoppedBySignalError as stopped:
            name = signal.Signals(stopped.number).name
            said = f"Stopped by {name}. The first worker says how to go on."
            raise StoppedBySignalError(stopped.number, said) from None


def _train(
    settings: Settings,
    logdir: str,
    strategy: Any,
    started: float,
    given: list[np.ndarray] | None,
) -> dict[str, Any]:
    """Trains in a claimed folder, from the given weights or drawn ones; returns the result."""
    task = settings.made_task
    _warn_of_small_memory(settings, in_training=True)
    keras.utils.set_random_seed(settings.seed)
    with distribution.making_models(strategy):
        made = models.make_models(settings, run_folder.kept_steps(logdir))
    model, trainer, tester = made
    evaluator = models.make_evaluator(settings, model)

    def test(first: int, parts: int) -> float:
        # `first` is a multiple of `parts`, and a part is whole batches: one draw of all of them
        # holds the same sequences as one draw of each.
        batches = math.ceil(settings.eval_sequences / EVAL_BATCH_SIZE)
        sequences = parts * batches * EVAL_BATCH_SIZE
        data = task.test(first // parts, sequences, EVAL_BATCH_SIZE, settings.seed)
        found = tester.evaluate(models.with_steps(data), verbose=0, return_dict=True)
        return found[task.solved_measure]

    used = RunCallbacks.make(settings, logdir, made, _validation(settings), test, started)
    step = _restore(settings, logdir, used.checkpoints, trainer)
    if given and not step:
        trainer.set_weights(given)
    is_over = step >= settings.steps
    # After a whole epoch the task may be solved already. An interrupted epoch is finished first.
    if step and not is_over and step % settings.validate_every == 0:
        with used.averaged(), doing("Testing on fresh sequences"):
            is_over = used.stop.is_solved(step)
    if not is_over:
        report.print_beginning(settings, logdir, step)
        run_folder.forget_result(logdir)
        _fit(settings, logdir, trainer, used, _logs(settings, logdir, trainer, evaluator))
    fresh = task.report(settings.eval_sequences, EVAL_BATCH_SIZE, settings.seed)
    with used.averaged(), doing("Measuring on fresh sequences"):
        found = tester.evaluate(models.with_steps(fresh), verbose=0, return_dict=True)
    result = _result(settings, training_step(trainer), used.clock.seconds, found)
    report.print_end(settings, result, len(fresh) * EVAL_BATCH_SIZE, logdir)
    run_folder.write_json(logdir, "result.json", result)
    return result


def _warn_of_small_memory(settings: Settings, in_training: bool) -> None:
    """Warns if sequences hold more vectors than the memory has locations."""
    if settings.model == "lstm":
        return
    vectors_of, largest = settings.made_task.vectors_to_remember, settings.made_task.largest_size
    locations = settings.memory_size_in_training
    if in_training and vectors_of(largest) > locations:
        warnings.warn(
            f"sequences in training have up to {vectors_of(largest)} vectors to remember, more than"
            f" the {locations} locations of --{settings.flag_of_training_memory}",
            stacklevel=2,
        )
    locations = settings.memory_size
    if too_large := [written for written, size in settings.sizes() if vectors_of(size) > locations]:
        warnings.warn(
            f"sequences of size {', '.join(too_large)} have more vectors to remember than the"
            f" {locations} locations of --memory_size",
            stacklevel=2,
        )


def _restore(
    settings: Settings, logdir: str, checkpoints: Checkpoints, trainer: keras.Model
) -> int:
    """Restores the last checkpoint and returns its step; 0 for a new run."""
    try:
        step = checkpoints.restore(trainer)
    except OSError as error:
        raise BadInput(f"{error}.") from error
    except ValueError as error:
        raise BadInput(f"{error}; --overwrite starts from the beginning.") from error
    tensorboard.forget_events_after(logdir, step)
    if not step:
        tensorboard.write_settings(logdir, settings)
    return step


def _fit(
    settings: Settings,
    logdir: str,
    trainer: keras.Model,
    used: RunCallbacks,
    logs: list[keras.callbacks.Callback],
) -> None:
    """Trains; if training ends early, the exception says what to do."""
    on_signal = StopOnSignal(used.save)
    progress = Progress(settings, used.stop, used.clock)
    try:
        with progress.shown():
            in_order = used.in_order(settings.steps, logs, progress, on_signal)
            _fit_epochs(settings, trainer, used, in_order)
    except NonFiniteLossError as error:
        kept = os.path.exists(os.path.join(logdir, "model.keras"))
        before = f" The last saved model is in {logdir}." if kept else ""
        raise BadInput(
            f"{error}.{before} Try a smaller --learning_rate or a --clip_norm."
        ) from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
        if settings.distribution_strategy != "multi_worker_mirrored":
            raise
        raise BadInput(
            "a worker has stopped. To go on from the last checkpoint start all workers again."
        ) from error
    except SignalReceivedError as error:
        made, kept_steps = training_step(trainer), run_folder.kept_steps(logdir)
        said = report.how_to_go_on(str(error), logdir, made, kept_steps)
        raise StoppedBySignalError(error.number, said) from None
    finally:
        on_signal.on_train_end()


def _validation(settings: Settings) -> tf.data.Dataset:
    task = settings.made_task
    sequences = task.validation(_VALIDATION_SEQUENCES, EVAL_BATCH_SIZE, settings.seed)
    return models.with_steps(sequences.cache())


def _fit_epochs(
    settings: Settings,
    trainer: keras.Model,
    used: RunCallbacks,
    in_order: list[keras.callbacks.Callback],
) -> None:
    task, seed = settings.made_task, settings.seed
    validation = None if used.grow else _validation(settings)
    epochs = math.ceil(settings.steps / settings.validate_every)
    step = training_step(trainer)
    while True:
        # An epoch ends with a validation. An interrupted epoch is finished first.
        epoch, done = divmod(step, settings.validate_every)
        batches = task.training(settings.batch_size, seed, step, settings.mix_lengths)
        batches = models.with_noise(batches, settings.input_noise, seed, step)
        trainer.fit(
            models.with_steps(batches),
            initial_epoch=epoch,
            epochs=epoch + 1 if done else epochs,
            steps_per_epoch=min(settings.steps - step, settings.validate_every - done),
            validation_data=validation,
            callbacks=in_order,
            shuffle=False,
            verbose=0,
        )
        if not done or trainer.stop_training:
            return
        if used.averages:
            used.averages.hide()
        step = training_step(trainer)


def _logs(
    settings: Settings, logdir: str, trainer: keras.Model, evaluator: keras.Model
) -> list[keras.callbacks.Callback]:
    """The callbacks that write scalars and images for TensorBoard during training."""
    task = settings.made_task
    data = [
        (size, models.with_steps(each.cache()))
        for size, each in _evaluation_data(settings, _SIZE_SEQUENCES)
    ]
    example = task.evaluation(task.largest_size, 1, 1, settings.seed)
    (inputs, steps), targets, mask = next(iter(models.with_steps(example)))

    def at_sizes() -> dict[str, dict[str, float]]:
        return {size: report.at_size(_measure(evaluator, size, each)) for size, each in data}

    def plot(outputs: tf.Tensor, trace: Any) -> Figure:
        title = f"{settings.task_name}, after {training_step(trainer)} training steps"
        return task.plot(inputs, targets, outputs, mask, trace, title)

    descriptions = tensorboard.descriptions(task)
    return [
        ScalarLog(logdir, settings.batch_size, descriptions),
        SizeLog(logdir, at_sizes, descriptions, every=2),
        MachineImages(os.path.join(logdir, "train"), (inputs, steps), plot),
    ]


def _result(
    settings: Settings, steps: int, seconds: float, found: dict[str, float]
) -> dict[str, Any]:
    """The content of result.json."""
    return {
        "solved": found[settings.made_task.solved_measure] < settings.solved_limit,
        "steps": steps,
        "sequences": steps * settings.batch_size,
        "seconds": round(seconds, 1),
        **report.measures(found),
        "flags": settings.as_flags(),
    }


def evaluate(
    settings: Settings,
    logdir: str | os.PathLike,
    output: str | os.PathLike | None = None,
    best: bool = False,
) -> list[dict[str, Any]]:
    """Measures a trained machine at every size, and prints one example.

    Args:
        settings: The run's settings; `eval_sizes`, `eval_sequences` and `memory_size` may differ.
            The machine gets `memory_size` locations, see `ntm_keras.with_memory_size`.
        logdir: The run's folder.
        output: The folder in which to write eval.json and what TensorBoard shows. Default: the
            run's folder, if the run has its checkpoints and this is its last machine as it was
            trained; else nothing is written.
        best: Whether to measure best.keras, the machine of the best validation, instead of the
            last one.

    Returns:
        The content of eval.json: for every size a record with the `size`, the number of `sequences`
        measured, the task's measures, and the number of `sequences_without_error`.

    Raises:
        ValueError: `settings` is not a `Settings`; the folder does not hold a trained machine of
            this run; a file is damaged or cannot be written; or the machine cannot have so many
            locations.
    """
    _check_can_run(settings)
    distribution.leave_gpus_to_keras()
    folder = os.path.expanduser(logdir)
    name = "best.keras" if best else "model.keras"
    run_folder.check_has_model(folder, name)
    run_folder.check_same_run(folder, settings.as_flags(), "eval")
    task = settings.made_task
    with doing("Reading the data"):
        names = task.data_names()
    run_folder.check_data(folder, names)
    _warn_of_small_memory(settings, in_training=False)
    model, is_as_trained = _machine_to_measure(settings, folder, name)
    step = run_folder.last_step(folder)
    if output is None and is_as_trained and not best and run_folder.kept_steps(folder):
        output = folder
    if output is not None:
        output = os.path.expanduser(output)
        run_folder.make(output, "output")  # Before anything takes long.
    data = _evaluation_data(settings, settings.eval_sequences)
    # XLA compiles the model once, for all sizes. Keras 2 would run through all of the padding.
    xla = settings.xla and not IS_KERAS_2
    time = max(task.steps_of(size) for _, size in settings.sizes()) if xla else None
    evaluator, records = models.make_evaluator(settings, model, xla), []
    for index, (size, dataset) in enumerate(data, start=1):
        with doing(f"Measuring sequences of size {size} ({index} of {len(data)})"):
            records.append(_measure(evaluator, size, models.with_steps(dataset, time)))
    report.print_about(task)
    print(report.table(records))
    if output is not None:
        run_folder.write_json(output, "eval.json", records)
    _print_answer(settings, model, *data[0])
    if output is None:
        print("\nNothing is written: --output names a folder for that.")
    else:
        with doing("Drawing for TensorBoard"):
            tensorboard.write_evaluation(output, task, model, step, records, data)
        print(f"\nWritten to {output}.")
    return records


def _machine_to_measure(settings: Settings, folder: str, name: str) -> tuple[keras.Model, bool]:
    """The machine in a file, and whether it has as many memory locations as the run gave it."""
    model = models.load(os.path.join(folder, name))
    trained_size = run_folder.settings_in(folder)["memory_size"]
    if settings.model == "lstm" or settings.memory_size == trained_size:
        return model, True
    return models.with_memory_size(model, settings.memory_size), False


def _print_answer(
    settings: Settings, model: keras.Model, size: str, dataset: tf.data.Dataset
) -> None:
    """Prints the first sequence of a dataset, and the model's answer."""
    with doing("Asking for one answer"):
        inputs, targets, mask = next(iter(dataset.unbatch().batch(1)))
        answer = model.predict(inputs, verbose=0)
    said = report.example(settings.made_task.as_text(inputs, targets, answer, mask))
    print(f"\nOne sequence of size {size}: {said}")


def _evaluation_data(settings: Settings, sequences: int) -> list[tuple[str, tf.data.Dataset]]:
    """For every size to evaluate at, (size, dataset) with at least this many sequences."""
    batch_size = min(sequences, EVAL_BATCH_SIZE)
    return [
        (written, settings.made_task.evaluation(size, sequences, batch_size, settings.seed))
        for written, size in settings.sizes()
    ]


def _measure(evaluator: keras.Model, size: str, batches: tf.data.Dataset) -> dict[str, Any]:
    """A model's measures at a size: a record of eval.json."""
    found = evaluator.evaluate(batches, verbose=0, return_dict=True)
    _, _, mask = batches.element_spec
    sequences = len(batches) * mask.shape[0]
    record = {"size": size, "sequences": sequences, **report.measures(found)}
    if "share_without_error" in found:
        record["sequences_without_error"] = round(found["share_without_error"] * sequences)
    return record
