"""Devices and processes that share each batch."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from ntm_keras.keras_compat import IS_KERAS_2, IS_TENSORFLOW, keras
from training.errors import BadInput
from training.settings import EVAL_BATCH_SIZE, Settings

_WORKERS = "--distribution_strategy=multi_worker_mirrored"


def make_strategy(settings: Settings, logdir: str | None) -> Any:
    """A strategy of `tf.distribute` or, on JAX, a `keras.distribution.DataParallel`; or None.

    Raises:
        BadInput: The strategy does not work here, or a batch cannot be split into equal parts.
    """
    name = settings.distribution_strategy
    if name == "none":
        return None
    if name == "multi_worker_mirrored" and logdir is None:
        raise BadInput(f"{_WORKERS}: all workers need the same --logdir.")
    make = _strategy_of_tensorflow if IS_TENSORFLOW else _distribution_of_jax
    strategy, devices = make(name)
    if settings.batch_size % devices:
        raise BadInput(
            f"--batch_size={settings.batch_size} must be a multiple of the {devices} devices that"
            f" --distribution_strategy={name} finds."
        )
    if not IS_TENSORFLOW and EVAL_BATCH_SIZE % devices:
        raise BadInput(
            f"--distribution_strategy={name} needs, on JAX, a number of devices that divides"
            f" {EVAL_BATCH_SIZE}, the batches of a validation. Received: {devices} devices"
        )
    return strategy


def leave_gpus_to_keras() -> None:
    """Keeps TensorFlow, which only feeds a run on JAX, from taking a GPU's memory."""
    if not IS_TENSORFLOW:
        with contextlib.suppress(RuntimeError):  # TensorFlow has run already.
            tf.config.set_visible_devices([], "GPU")


def _strategy_of_tensorflow(name: str) -> tuple[tf.distribute.Strategy, int]:
    """The strategy, and its number of devices."""
    if name == "multi_worker_mirrored":
        strategy = _workers_of_tensorflow()
    else:
        strategy = _mirrored()
    return strategy, strategy.num_replicas_in_sync


@functools.cache
def _mirrored() -> tf.distribute.Strategy:
    """One for all runs of a process: where there are two, TensorFlow confuses their gradients."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _workers_of_tensorflow() -> tf.distribute.Strategy:
    if not IS_KERAS_2:
        raise BadInput(
            f"{_WORKERS}: Keras 3 cannot on TensorFlow; Keras 2 can (TF_USE_LEGACY_KERAS=1), and"
            " Keras 3 on JAX (KERAS_BACKEND=jax)."
        )
    try:
        json.loads(os.environ.get("TF_CONFIG", ""))["cluster"]["worker"]
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        raise BadInput(
            f"{_WORKERS} needs the environment variable TF_CONFIG, with the addresses of all"
            f" workers and the index of this one: {' '.join(str(error).split())}"
        ) from error


def _distribution_of_jax(name: str) -> tuple[Any, int]:
    """The distribution, and its number of devices."""
    import jax

    if name == "multi_worker_mirrored" and not jax.distributed.is_initialized():
        try:
            for variable in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID"):
                os.environ[f"KERAS_DISTRIBUTION_{variable}"]
            keras.distribution.initialize()
        except RuntimeError as error:
            raise BadInput(f"{_WORKERS}: {' '.join(str(error).split())}") from error
        except (KeyError, ValueError) as error:
            raise BadInput(
                f"{_WORKERS} needs the environment variables KERAS_DISTRIBUTION_JOB_ADDRESSES,"
                " _NUM_PROCESSES and _PROCESS_ID, as keras.distribution.initialize documents them:"
                f" {' '.join(str(error).split())}"
            ) from error
    distribution = keras.distribution.DataParallel()
    return distribution, distribution.device_mesh.devices.size


def worker_of(strategy: Any) -> int:
    """Which worker this process is; 0 is the first, or the only one."""
    if strategy is None:
        return 0
    if IS_TENSORFLOW:
        resolver = strategy.cluster_resolver
        return (resolver.task_id or 0) if resolver else 0
    import jax

    return jax.process_index()


@contextlib.contextmanager
def in_use(strategy: Any) -> Iterator[None]:
    """The context of a run. JAX's distribution is in use in all of it, not only to make models."""
    if not strategy or IS_TENSORFLOW:
        yield
        return
    with strategy.scope(), warnings.catch_warnings():
        # Keras does not know how many batches there are of what processes share.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        yield


def making_models(strategy: Any) -> contextlib.AbstractContextManager:
    """The context in which a run's models are made."""
    return strategy.scope() if strategy else contextlib.nullcontext()
