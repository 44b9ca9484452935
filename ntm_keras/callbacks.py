"""Callbacks for `model.fit`: what a run writes for TensorBoard, and when it ends.

They work in anybody's `fit`, under Keras 2 and Keras 3. Their step axis is the number of training
steps (the optimizer's iterations), so that runs whose epochs differ can be compared.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ntm_keras import pictures
from ntm_keras.keras_compat import keras
from ntm_keras.trace import NTMTrace, trace_model


class GuardGradients(keras.callbacks.Callback):
    """Leaves out gradients that overflow, and tells in the logs how large they are.

    Back through many steps a gradient can grow beyond all numbers while the loss is still sound.
    Even clipped to a norm it would turn the weights into NaN; here zeros take its place.

    Adds to the logs `gradient_norm`, the last step's global norm before any clipping, and
    `gradients_left_out`, how many of the model's training steps were without one.

    It has to come before the callbacks that are to see its logs. A model that was fitted without
    it before has to be compiled again.
    """

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        if not hasattr(model.optimizer, "gradient_norm"):
            _guard(model.optimizer)

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """What a checkpoint has to keep, once there is a model."""
        names = "gradient_norm", "gradients_left_out", "first_left_out"
        return {name: getattr(self.model.optimizer, name) for name in names}

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["gradient_norm"] = float(self.model.optimizer.gradient_norm)
            logs["gradients_left_out"] = int(self.model.optimizer.gradients_left_out)


def _guard(optimizer: Any) -> None:
    """Makes an optimizer look at what it is given: no callback sees the gradients."""
    optimizer.gradient_norm = tf.Variable(0.0, trainable=False, name="gradient_norm")
    optimizer.gradients_left_out = tf.Variable(0, trainable=False, name="gradients_left_out")
    # In which step the first one was left out, and which of the gradients was the largest there.
    optimizer.first_left_out = tf.Variable([0, 0], trainable=False, name="first_left_out")
    apply_gradients = optimizer.apply_gradients

    def guarded(grads_and_vars, *args, **kwargs):
        gradients, variables = zip(*grads_and_vars)
        norm = tf.linalg.global_norm(gradients)
        is_finite = tf.math.is_finite(norm)
        optimizer.gradient_norm.assign(tf.cast(norm, tf.float32))
        is_first = ~is_finite & (optimizer.gradients_left_out == 0)
        step = tf.cast(optimizer.iterations, tf.int32) + 1
        optimizer.first_left_out.assign(
            tf.cond(
                is_first,
                lambda: tf.stack([step, _number_of_largest(gradients)]),
                lambda: tf.identity(optimizer.first_left_out),
            )
        )
        optimizer.gradients_left_out.assign_add(tf.cast(~is_finite, tf.int32))
        gradients = [
            None if each is None else tf.where(is_finite, each, tf.zeros_like(each))
            for each in gradients
        ]
        return apply_gradients(zip(gradients, variables), *args, **kwargs)

    optimizer.apply_gradients = guarded


def _number_of_largest(gradients: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """Which of the gradients has the largest number, or one that is NaN."""

    def largest(gradient):
        size = tf.cast(tf.abs(gradient), tf.float32)
        return tf.reduce_max(tf.where(tf.math.is_nan(size), math.inf, size))

    sizes = [tf.constant(0.0) if each is None else largest(each) for each in gradients]
    return tf.argmax(sizes, output_type=tf.int32)


class ScalarLog(keras.callbacks.Callback):
    """Writes the logs of every epoch for TensorBoard: training and validation in one chart.

    To these it adds the learning rate, the sequences seen, and the sequences trained on a second
    (validation and the other callbacks not counted).

    Args:
        log_dir: The run's folder; training is written under `train`, validation under
            `validation` in it.
        batch_size: Sequences of a batch.
    """

    def __init__(self, log_dir: str, batch_size: int):
        super().__init__()
        self.batch_size = batch_size
        self._log_dir = log_dir
        self._writers: dict[str, Any] = {}

    def on_train_begin(self, logs=None):
        for run in ("train", "validation"):
            self._writers[run] = tf.summary.create_file_writer(os.path.join(self._log_dir, run))

    def on_epoch_begin(self, epoch, logs=None):
        self._start_step, self._start = self._step(), time.perf_counter()
        self._stop = self._start

    def on_train_batch_end(self, batch, logs=None):
        self._stop = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        step, logs = self._step(), logs or {}
        trained = (step - self._start_step) * self.batch_size
        train = {tag: value for tag, value in logs.items() if not tag.startswith("val_")}
        train["learning_rate"] = float(tf.convert_to_tensor(self.model.optimizer.learning_rate))
        train["sequences_seen"] = step * self.batch_size
        if self._stop > self._start:
            train["sequences_per_second"] = trained / (self._stop - self._start)
        self._write("train", train, step)
        self._write(
            "validation",
            {tag[4:]: value for tag, value in logs.items() if tag.startswith("val_")},
            step,
        )

    def on_train_end(self, logs=None):
        for writer in self._writers.values():
            writer.close()

    def _step(self) -> int:
        return int(self.model.optimizer.iterations)

    def _write(self, run: str, scalars: dict[str, float], step: int) -> None:
        with self._writers[run].as_default():
            for tag, value in scalars.items():
                tf.summary.scalar(tag, value, step=step)
        self._writers[run].flush()


def _at_least_one(name: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least 1. Received: {name}={value!r}"
        )
    return value


class Measurements(keras.callbacks.Callback):
    """Writes for TensorBoard what a function measures, every now and then.

    Args:
        log_dir: Where to write.
        measure: Returns scalars by their tags.
        every: Measure after every so many epochs, and when training ends.
    """

    def __init__(self, log_dir: str, measure: Callable[[], dict[str, float]], every: int = 1):
        super().__init__()
        self._log_dir = log_dir
        self._measure = measure
        self._every = _at_least_one("every", every)
        self._measured_at = -1

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(self._log_dir)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0:
            self._write()

    def on_train_end(self, logs=None):
        self._write()
        self._writer.close()

    def _write(self) -> None:
        step = int(self.model.optimizer.iterations)
        if step != self._measured_at:
            self._measured_at = step
            with self._writer.as_default():
                for tag, value in self._measure().items():
                    tf.summary.scalar(tag, value, step=step)
            self._writer.flush()


class MachineImages(keras.callbacks.Callback):
    """Draws for TensorBoard what the machine does with one example, over training.

    For every layer of the model whose cell is an `NTMCell`: the read and the write weightings
    (locations down, time across, as in the paper's figure 6; several heads side by side), the
    read and the add vectors (time across), and the memory after the last step (locations down).
    With targets, also target, output and error, side by side (time across).

    Args:
        log_dir: Where to write.
        inputs: What the model is called with; of a batch, the first sequence is drawn.
        targets: `(batch, time, bits)`, 0 or 1.
        mask: `(batch, time)`, 1 where an answer counts; of target, output and error only these
            steps are drawn.
        from_logits: Whether the model's outputs still need the sigmoid.
        every: Draw after every so many epochs, and when training ends.

    Raises:
        ValueError: `every` is no positive integer. At the first drawing: the model has no layer
            whose cell is an `NTMCell`.
    """

    def __init__(
        self,
        log_dir: str,
        inputs: Any,
        targets: tf.Tensor | None = None,
        mask: tf.Tensor | None = None,
        from_logits: bool = True,
        every: int = 1,
    ):
        super().__init__()
        self._log_dir = log_dir
        self._inputs = tf.nest.map_structure(lambda batch: tf.convert_to_tensor(batch[:1]), inputs)
        self._targets = targets
        self._mask = mask
        self._from_logits = from_logits
        self._every = _at_least_one("every", every)
        self._trace: Any = None
        self._writer: Any = None
        self._drawn_at = -1

    def on_train_begin(self, logs=None):
        self._trace = tf.function(functools.partial(trace_model, self.model))
        self._writer = tf.summary.create_file_writer(self._log_dir)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0:
            self._draw()

    def on_train_end(self, logs=None):
        self._draw()
        self._writer.close()

    def _draw(self) -> None:
        step = int(self.model.optimizer.iterations)
        if step == self._drawn_at:
            return
        self._drawn_at = step
        traced = self._trace(self._inputs)
        with self._writer.as_default():
            write_machine_images(traced, self._targets, self._mask, self._from_logits, step)
        self._writer.flush()


def write_machine_images(
    traced: tuple[Any, dict[str, NTMTrace]],
    targets: tf.Tensor | None = None,
    mask: tf.Tensor | None = None,
    from_logits: bool = True,
    step: int = 0,
    suffix: str = "",
) -> None:
    """Writes what `MachineImages` draws with the default summary writer, once.

    Args:
        traced: What `trace_model` returned.
        targets: This and the arguments up to `from_logits`: as those of `MachineImages`.
        step: Of the summaries.
        suffix: What the summaries' tags end with.
    """
    outputs, traces = traced
    drawn = {
        f"{layer_name}/{name}": picture
        for layer_name, layer_trace in traces.items()
        for name, picture in pictures.draw_trace(layer_trace).items()
    }
    if targets is not None:
        answers = tf.sigmoid(outputs) if from_logits else outputs
        drawn["target_output_error"] = pictures.draw_answers(targets, answers, mask)
    for tag, picture in drawn.items():
        description = pictures.DESCRIPTIONS[tag.split("/")[-1]]
        tf.summary.image(tag + suffix, picture[np.newaxis], step=step, description=description)


class ShowAveragedWeights(keras.callbacks.Callback):
    """Between two epochs gives the model the averaged weights: to validate, to save, to draw.

    The model's optimizer must average them (`use_ema=True`). This callback has to come before
    those that are to see them. After training the model keeps them.

    Raises:
        ValueError: When training begins: the optimizer does not average.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own_weights: list[np.ndarray] = []

    def on_train_begin(self, logs=None):
        self._own_weights = []
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if not optimizer.use_ema:
            raise ValueError(
                "The model's optimizer must average the weights: use_ema=True. "
                f"Received: use_ema={optimizer.use_ema}"
            )

    def on_test_begin(self, logs=None):
        self._show()

    def on_epoch_end(self, epoch, logs=None):
        self._show()

    def on_epoch_begin(self, epoch, logs=None):
        self._hide()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """A context in which the model has the averages."""
        were_hidden = not self._own_weights
        self._show()
        yield
        if were_hidden:
            self._hide()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """A context in which the model has its own weights."""
        were_shown = bool(self._own_weights)
        self._hide()
        yield
        if were_shown:
            self._show()

    def _hide(self) -> None:
        for weight, value in zip(self.model.trainable_variables, self._own_weights):
            weight.assign(value)
        self._own_weights = []

    def _show(self) -> None:
        weights = self.model.trainable_variables
        if not self._own_weights:
            self._own_weights = [np.array(weight) for weight in weights]
            self.model.optimizer.finalize_variable_values(weights)


class NonFiniteLossError(Exception):
    """The loss became NaN or infinite."""


class SafeCheckpoint(keras.callbacks.Callback):
    """Saves the model after every epoch, unless its loss is no longer finite.

    The file is written beside and renamed, so that there is always a whole one.

    Args:
        path: Where to save, ending in `.keras`.
        saved: What to save; by default the model that is trained.

    Raises:
        NonFiniteLossError: In training, when loss or validation loss is NaN or infinite. What was
            saved last stays.
    """

    def __init__(self, path: str, saved: keras.Model | None = None):
        super().__init__()
        self._path = path
        self._saved = saved

    def on_train_batch_end(self, batch, logs=None):
        self._check("loss", logs)

    def on_epoch_end(self, epoch, logs=None):
        self._check("loss", logs)
        self._check("val_loss", logs)
        root, extension = os.path.splitext(self._path)
        (self._saved or self.model).save(f"{root}.part{extension}")
        os.replace(f"{root}.part{extension}", self._path)

    def _check(self, name: str, logs: Any) -> None:
        value = (logs or {}).get(name, 0.0)
        if not math.isfinite(value):
            step = int(self.model.optimizer.iterations)
            raise NonFiniteLossError(
                f"{name} became {value} by training step {step}, with {_not_finite(self.model)}"
            )


def _not_finite(model: keras.Model) -> str:
    """Which weights of a model are not finite, and which gradient was left out first."""
    weights = [
        _path(weight)
        for weight in model.trainable_variables
        if not np.isfinite(tf.convert_to_tensor(weight)).all()
    ]
    found = f"{', '.join(weights) or 'no weight'} not finite"
    first = getattr(model.optimizer, "first_left_out", None)
    if first is not None and first[0] > 0:
        step, index = first.numpy()
        weight = _path(model.trainable_variables[index])
        found += f"; the first gradient to overflow was that of {weight} in step {step}"
    return found


def _path(weight: Any) -> str:
    """A weight's name with those of its layers: Keras 2 has it in `name`, Keras 3 in `path`."""
    return getattr(weight, "path", weight.name)


class StopAfter(keras.callbacks.Callback):
    """Ends training after so many steps, in the middle of an epoch if need be.

    Args:
        steps: Training steps since the optimizer was made.
    """

    def __init__(self, steps: int):
        super().__init__()
        self._steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) >= self._steps:
            self.model.stop_training = True


class StopWhenSolved(keras.callbacks.Callback):
    """Ends training when the validation, and then a test on fresh data, is below a threshold.

    A validation set that is looked at after every epoch is passed by luck sooner or later; the
    test, made only when it is passed, need not be small.

    Args:
        below: The threshold.
        test: Called with the number of training steps; returns what is compared with `below`.
        monitor: What of the logs is compared with `below`.
        times: How many validations in a row must be below it before the test is made.
    """

    def __init__(
        self,
        below: float,
        test: Callable[[int], float],
        monitor: str = "val_wrong_bits_per_sequence",
        times: int = 1,
    ):
        super().__init__()
        self._below = below
        self._test = test
        self._monitor = monitor
        self._times = times
        # What a checkpoint has to keep.
        self.variables = {"passed_in_a_row": tf.Variable(0, trainable=False)}

    def on_epoch_end(self, epoch, logs=None):
        passes = (logs or {}).get(self._monitor, math.inf) < self._below
        passed = self.variables["passed_in_a_row"]
        passed.assign(passed + 1 if passes else 0)
        if self.is_solved(int(self.model.optimizer.iterations)):
            self.model.stop_training = True

    def is_solved(self, step: int) -> bool:
        """Whether enough validations were passed, and the test at this step is passed too."""
        if self.variables["passed_in_a_row"] < self._times:
            return False
        return self._test(step) < self._below


class RunTime(keras.callbacks.Callback):
    """Counts the seconds of a training, whatever number of processes it took.

    Args:
        started: When this process started, by `time.perf_counter`.
    """

    def __init__(self, started: float):
        super().__init__()
        self._since = started
        # What a checkpoint has to keep.
        self.variables = {"seconds": tf.Variable(0.0, trainable=False, dtype=tf.float64)}

    def on_train_batch_end(self, batch, logs=None):
        self.seconds()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds()

    def seconds(self) -> float:
        """The seconds until now."""
        now = time.perf_counter()
        self.variables["seconds"].assign_add(now - self._since)
        self._since = now
        return float(self.variables["seconds"])


class StoppedBySignalError(Exception):
    """Training was asked to end; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopOnSignal(keras.callbacks.Callback):
    """Ends training on Ctrl-C or SIGTERM, once the step is done. A second signal ends it at once.

    After the last step of an epoch its validation is waited for. It has to come after the
    callbacks whose work is to be done by then.

    Args:
        save: Called before training ends.

    Raises:
        StoppedBySignalError: In training, after a signal.
    """

    def __init__(self, save: Callable[[], None]):
        super().__init__()
        self._save = save
        self._received: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_begin(self, logs=None):
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._receive)

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 < self.params["steps"]:
            self._end_if_asked_to()

    def on_epoch_end(self, epoch, logs=None):
        self._end_if_asked_to()

    def _end_if_asked_to(self) -> None:
        if self._received is not None:
            self._save()
            raise StoppedBySignalError(self._received)

    def on_train_end(self, logs=None):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        self._received = number
        for each in self._handlers:
            signal.signal(each, signal.SIG_DFL)
