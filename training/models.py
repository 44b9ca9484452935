"""Makes models and their optimizer from settings."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import ntm_keras
from ntm_keras.keras_compat import IS_KERAS_2, IS_TENSORFLOW, build_optimizer, keras
from ntm_keras.side_by_side import can_wrap
from tasks.task import Task
from training import run_folder
from training.errors import BadInput
from training.settings import LSTM, MACHINE, MANN, NTM, Settings, names_of_groups

# The fewest sequences for which another core is worth its cost.
_SMALLEST_PART = 8


class Models(NamedTuple):
    """The models of a run.

    `trainer` and `tester` are compiled. Their second input says which steps matter, see
    `with_steps`.

    Attributes:
        model: From the task's inputs to logits; it is saved and measured.
        trainer: What is trained.
        tester: What validations and tests measure: the trainer or, where the machine has fewer
            locations in training, a model with the layers of `model`. Then `callbacks.GrowMemory`
            copies the weights.
    """

    model: Any
    trainer: Any
    tester: Any


def make_models(settings: Settings, ends: Sequence[int] = ()) -> Models:
    """The models of a run; call this in `distribution.making_models`.

    Args:
        settings: The run's settings.
        ends: Training steps at which a call of the training function must end, beside validations.
    """
    task = settings.made_task
    layers = make_layers(settings, settings.memory_size_in_training)
    inputs, outputs, jit_compile = _with_steps_input(settings, layers)
    trainer = (
        ntm_keras.NoisyModel(inputs, outputs, falling(settings, "weight_noise"), settings.seed)
        if settings.weight_noise
        else keras.Model(inputs, outputs)
    )
    is_shared = tf.distribute.has_strategy()
    # Several steps in one call, because Keras takes milliseconds between two calls. Keras 3 cannot
    # do this if devices share a batch.
    steps_per_call = math.gcd(10, settings.steps, settings.validate_every, *ends)
    _compile(
        trainer,
        task,
        optimizer=make_optimizer(settings),
        jit_compile=jit_compile,
        steps_per_execution=1 if is_shared and not IS_KERAS_2 else steps_per_call,
    )
    # Otherwise the first call makes the optimizer's variables, and the step is traced twice.
    build_optimizer(trainer)
    tester = trainer
    if settings.memory_size_in_training != settings.memory_size:
        layers = make_layers(settings)
        inputs, outputs, jit_compile = _with_steps_input(settings, layers)
        tester = keras.Model(inputs, outputs)
        _compile(tester, task, jit_compile=jit_compile)
    return Models(keras.Model(inputs[0], answers(layers, inputs[0])), trainer, tester)


def _with_steps_input(settings: Settings, layers: list[Any]) -> tuple[list[Any], Any, bool]:
    """The inputs and outputs of a model with these layers, and whether XLA compiles it whole."""
    inputs = keras.Input([None, settings.made_task.input_width], name="inputs")
    steps = keras.Input([None], name="steps")
    parts = parts_of_a_batch(settings, layers[0])
    if parts:
        layers = [ntm_keras.SideBySide(layers[0], parts), *layers[1:]]
    # Keras 2's LSTM takes only booleans.
    mask = tf.cast(steps, tf.bool) if IS_KERAS_2 else steps
    is_compiled_whole = settings.xla and not parts and not tf.distribute.has_strategy()
    # On JAX nothing else is fast.
    return [inputs, steps], answers(layers, inputs, mask), is_compiled_whole or not IS_TENSORFLOW


def parts_of_a_batch(settings: Settings, layer: Any) -> int:
    """How many parts `SideBySide` splits a batch into, to keep a CPU's cores busy.

    0: no `SideBySide` is used.
    """
    if not settings.xla or not can_wrap(layer):
        return 0
    if tf.distribute.has_strategy():  # XLA cannot compile communication between devices.
        return 1
    if tf.config.list_physical_devices("GPU"):
        return 0
    parts = min(cores(), settings.batch_size // _SMALLEST_PART)
    return parts if parts > 1 else 0


def cores() -> int:
    """How many of the CPU's cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # On Linux a process may be limited to some cores.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_layers(settings: Settings, memory_size: int | None = None) -> list[Any]:
    """The layers from inputs to logits: a machine or LSTMs, then a projection.

    The NTM has its own projection. `memory_size` is by default that of the settings.
    """
    machine = settings.of_groups(MACHINE)
    del machine["training_memory_size"]
    machine["memory_size"] = memory_size or settings.memory_size
    output_width = settings.made_task.output_width
    if settings.model == "ntm":
        return [
            ntm_keras.NTM(
                **machine,
                **settings.of_groups(NTM),
                output_dim=output_width,
                return_sequences=True,
                zero_output_for_mask=True,
                name="ntm",
            )
        ]
    projection = keras.layers.Dense(output_width, name="projection")
    if settings.model == "mann":
        mann = ntm_keras.MANN(
            **machine,
            **settings.of_groups(MANN),
            return_sequences=True,
            zero_output_for_mask=True,
            name="mann",
        )
        return [mann, projection]
    lstms = [
        keras.layers.LSTM(settings.lstm_units, return_sequences=True, name=f"lstm_{index}")
        for index in range(settings.lstm_layers)
    ]
    return [*lstms, projection]


def answers(layers: list[Any], inputs: Any, mask: Any = None) -> Any:
    """The logits that layers compute from inputs, given a mask of the steps that matter."""
    for layer in layers:
        has_time = not isinstance(layer, keras.layers.Dense)
        inputs = layer(inputs, mask=mask) if has_time else layer(inputs)
    return inputs


def falling(settings: Settings, name: str) -> Any:
    """A setting: a number, or a schedule if it falls."""
    start, end, steps = (getattr(settings, each) for each in (name, f"{name}_end", f"{name}_steps"))
    return keras.optimizers.schedules.PolynomialDecay(start, steps, end) if steps else start


def make_optimizer(settings: Settings) -> Any:
    """The optimizer that the settings describe."""
    learning_rate = falling(settings, "learning_rate")
    options = {
        "global_clipnorm": settings.clip_norm or None,
        "clipvalue": settings.clip_value or None,
        "use_ema": settings.ema_momentum > 0,
        "ema_momentum": settings.ema_momentum,
    }
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(learning_rate, epsilon=settings.adam_epsilon, **options)
    return keras.optimizers.RMSprop(
        learning_rate, rho=0.95, momentum=0.9, epsilon=1e-4, centered=True, **options
    )


def weights_of_attempt(settings: Settings, attempt: int) -> list[np.ndarray]:
    """The trainer's weights at the beginning of a later attempt; sets all seeds.

    Args:
        settings: The run's settings.
        attempt: 1 for the second attempt.
    """
    (seed,) = np.random.SeedSequence([settings.seed, attempt]).generate_state(1)
    keras.utils.set_random_seed(int(seed))
    return _uncompiled_trainer(settings).get_weights()


def _uncompiled_trainer(settings: Settings) -> Any:
    layers = make_layers(settings, settings.memory_size_in_training)
    inputs, outputs, _ = _with_steps_input(settings, layers)
    return keras.Model(inputs, outputs)


def load(path: str) -> Any:
    """The model in a file, not compiled.

    Raises:
        BadInput: It cannot be loaded.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds for a damaged file.
        raise BadInput(f"{path} cannot be loaded: {' '.join(str(error).split())}") from error


def with_memory_size(model: Any, memory_size: int, flag: str = "--memory_size") -> Any:
    """`ntm_keras.with_memory_size`, for a flag.

    Raises:
        BadInput: The machine cannot have so many locations.
    """
    try:
        return ntm_keras.with_memory_size(model, memory_size)
    except ValueError as error:
        raise BadInput(f"{flag}={memory_size}: {error}") from error


def weights_to_begin_with(settings: Settings) -> list[np.ndarray]:
    """The trainer's weights from the file that `settings.init_from` names.

    Raises:
        BadInput: The file cannot be loaded, or holds another kind of model.
    """
    given = load(os.path.expanduser(settings.init_from or ""))
    sizes = {each.memory_size for each in given.layers if isinstance(each, ntm_keras.MemoryLayer)}
    if sizes - {settings.memory_size_in_training}:
        flag = f"--init_from={settings.init_from} with --{settings.flag_of_training_memory}"
        given = with_memory_size(given, settings.memory_size_in_training, flag)
    needed = _uncompiled_trainer(settings)
    shapes, others = ([tuple(each.shape) for each in m.weights] for m in (needed, given))
    if shapes != others:
        raise BadInput(
            f"--init_from={settings.init_from} holds another kind of model than these settings"
            f" make: {_other_flags_of(settings) or f'its weights are {others}, not {shapes}'}"
        )
    return given.get_weights()


def _other_flags_of(settings: Settings) -> str:
    """In which flags the run of `init_from` made another model, as text; empty if not known."""
    folder = os.path.dirname(os.path.expanduser(settings.init_from or ""))
    if not run_folder.is_run(folder):
        return ""
    now, then = settings.as_flags(), run_folder.settings_in(folder)
    names = ("task", "model", *names_of_groups(MACHINE, NTM, MANN, LSTM))
    others = [f"--{name}={then[name]}" for name in names if then[name] != now[name]]
    return f"it was trained with {' '.join(others)}" if others else ""


def with_steps(dataset: tf.data.Dataset, time: int | None = None) -> tf.data.Dataset:
    """A task's batches with a second input: 1 up to a sequence's last answer, then 0.

    Sequences padded to one length are compiled once. Under Keras 3 on TensorFlow the NTM layer ends
    its loop with the last step that matters in a batch. The second input holds numbers because
    Keras 3 cannot share booleans between devices.

    Args:
        dataset: The batches.
        time: Steps to pad sequences to. Default: they stay as they are.
    """

    def pad(tensor):
        paddings = [[0, 0], [0, time - tf.shape(tensor)[1]], [0, 0]]
        padded = tf.pad(tensor, paddings[: tensor.shape.rank])
        return tf.ensure_shape(padded, [tensor.shape[0], time, *tensor.shape[2:]])

    def add_steps(*batch):
        inputs, targets, mask = batch if time is None else map(pad, batch)
        matters = tf.cumsum(mask, axis=1, reverse=True) > 0
        return (inputs, tf.cast(matters, tf.float32)), targets, mask

    return dataset.map(add_steps).prefetch(1)


def with_noise(
    dataset: tf.data.Dataset, stddev: float, seed: int, first_step: int
) -> tf.data.Dataset:
    """A task's training batches with Gaussian noise on the inputs.

    Args:
        dataset: The batches from `first_step` on.
        stddev: The noise's standard deviation; 0: none.
        seed: The run's seed. The noise of a step depends on both alone.
        first_step: The number of the first batch.
    """
    if not stddev:
        return dataset

    def add_noise(step, batch):
        inputs, *others = batch
        noise = tf.random.stateless_normal(tf.shape(inputs), [seed, step])
        return (inputs + stddev * noise, *others)

    return dataset.enumerate(first_step).map(add_noise)


def _compile(model: Any, task: Task, **arguments: Any) -> None:
    model.compile(loss=task.loss(), weighted_metrics=task.measures(), **arguments)


def make_evaluator(settings: Settings, model: Any, xla: bool = False) -> Any:
    """The same model, compiled to measure batches of `with_steps`.

    Args:
        settings: The run's settings.
        model: A model of theirs.
        xla: Whether XLA compiles it. It compiles anew for every length.
    """
    layers = [each for each in model.layers if not isinstance(each, keras.layers.InputLayer)]
    inputs, outputs, jit_compile = _with_steps_input(dataclasses.replace(settings, xla=xla), layers)
    evaluator = keras.Model(inputs, outputs)
    _compile(evaluator, settings.made_task, jit_compile=jit_compile)
    return evaluator
