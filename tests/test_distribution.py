"""A batch that two devices share: of one machine, or of two processes that work together."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from runs import ROOT, TRAIN, as_arguments, only_scalars, tiny

from ntm_keras import BitCrossentropy, LabelCrossentropy
from ntm_keras.keras_compat import IS_KERAS_2, IS_TENSORFLOW, keras
from training import BadInput, distribution, train

# Parts of different sizes, and gradients that are clipped: both are those of the whole batch.
SETTINGS = tiny(
    mix_lengths=True,
    clip_norm=0.05,
    ema_momentum=0.9,
    learning_rate=1e-2,
    steps=4,
)
HAS_WORKERS = IS_KERAS_2 or not IS_TENSORFLOW
ONLY_WORKERS = pytest.mark.skipif(not HAS_WORKERS, reason="Keras 3 on TensorFlow has no workers")
SLOW = pytest.mark.slow
ONLY_KERAS_2 = pytest.mark.skipif(not IS_KERAS_2, reason="about TensorFlow's workers")
ONLY_TENSORFLOW = pytest.mark.skipif(
    not IS_TENSORFLOW, reason="it is about TensorFlow's strategies"
)


@pytest.fixture(scope="module", autouse=True)
def without_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.run._logs", only_scalars)
        yield


def start(program, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, *program, *as_arguments(SETTINGS), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def start_workers(*arguments):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in (one, other)]
    flag = "--distribution_strategy=multi_worker_mirrored"
    return [
        start(["-c", TRAIN], flag, *arguments, **environment_of_worker(addresses, index))
        for index in range(2)
    ]


def environment_of_worker(addresses, index):
    """The environment variables by which a worker finds the others."""
    if not IS_TENSORFLOW:
        return {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": ",".join(addresses),
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(len(addresses)),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
        }
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}


def finish(processes):
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert "Your input ran out of data" not in errors


def train_mirrored(logdir, **others):
    """Trains on the two devices of this process: see conftest.py."""
    train(dataclasses.replace(SETTINGS, distribution_strategy="mirrored", **others), logdir)


def train_by_workers(logdir, **others):
    settings = [f"--{name}={value}" for name, value in others.items()]
    finish(start_workers(f"--logdir={logdir}", *settings))


def weights(logdir):
    return keras.models.load_model(logdir / "model.keras", compile=False).weights


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / "alone"
    train(SETTINGS, logdir)
    return weights(logdir)


def assert_same_weights(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=one.name)


@pytest.mark.parametrize(
    "train_shared",
    [
        *([] if IS_KERAS_2 else [train_mirrored]),
        pytest.param(train_by_workers, marks=[ONLY_WORKERS, *([] if IS_KERAS_2 else [SLOW])]),
    ],
)
def test_a_shared_run_ends_as_one_on_one_device(alone, tmp_path, train_shared):
    train_shared(tmp_path)
    assert_same_weights(weights(tmp_path), alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "train_shared", [train_mirrored, pytest.param(train_by_workers, marks=ONLY_WORKERS)]
)
def test_a_shared_run_that_was_stopped_ends_as_one_on_one_device(alone, tmp_path, train_shared):
    train_shared(tmp_path, steps=3)
    train_shared(tmp_path)
    assert_same_weights(weights(tmp_path), alone)


@pytest.mark.slow
@ONLY_TENSORFLOW
@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 runs every layer in its own loop")
def test_a_shared_run_under_xla_ends_as_one_on_one_device(alone, tmp_path):
    train_mirrored(tmp_path, xla=True)
    assert_same_weights(weights(tmp_path), alone)


@ONLY_TENSORFLOW
def test_the_runs_of_a_process_have_one_strategy_as_tensorflow_mixes_up_two():
    settings = dataclasses.replace(SETTINGS, distribution_strategy="mirrored")
    first, second = (distribution.make_strategy(settings, None) for _ in range(2))
    assert first is second


@ONLY_TENSORFLOW
@pytest.mark.parametrize("loss", [BitCrossentropy(), LabelCrossentropy()])
def test_the_loss_that_is_shown_is_that_of_one_device_where_parts_are_uneven(random, loss):
    inputs, mask = random.normal(size=(9, 6, 3)), random.integers(0, 2, size=(9, 6))
    targets = np.eye(3)[random.integers(0, 3, size=(9, 6))]
    data = tf.data.Dataset.from_tensor_slices((inputs, targets, mask)).batch(4)

    def shown(strategy):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = keras.Sequential([keras.Input([6, 3]), keras.layers.Dense(3)])
            model.compile(keras.optimizers.SGD(0.1), loss)
        history = model.fit(data, shuffle=False, verbose=0).history
        return [model.evaluate(data, verbose=0), *history["loss"]]

    settings = dataclasses.replace(SETTINGS, distribution_strategy="mirrored")
    shared = shown(distribution.make_strategy(settings, None))
    np.testing.assert_allclose(shared, shown(tf.distribute.get_strategy()), rtol=1e-5)


def refusal(process):
    _, errors = process.communicate()
    assert process.returncode == 1
    return errors.splitlines()[-1]


def test_a_batch_that_devices_cannot_share_equally_is_refused_before_anything_is_made(tmp_path):
    said = (
        "--batch_size=5 must be a multiple of the 2 devices that"
        r" --distribution_strategy=mirrored finds\.$"
    )
    with pytest.raises(BadInput, match=said):
        train_mirrored(tmp_path / "run", batch_size=5)
    assert not (tmp_path / "run").exists()


def test_workers_that_are_not_told_of_each_other_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "")
    settings = tiny(distribution_strategy="multi_worker_mirrored")
    for name in [name for name in os.environ if name.startswith("KERAS_DISTRIBUTION_")]:
        monkeypatch.delenv(name)
    of_tensorflow = "needs the environment variable TF_CONFIG" if IS_KERAS_2 else "Keras 2 can"
    of_jax = "needs the environment variables KERAS_DISTRIBUTION_JOB_ADDRESSES"
    said = of_tensorflow if IS_TENSORFLOW else of_jax
    with pytest.raises(BadInput, match=said):
        train(settings, tmp_path / "run")
    with pytest.raises(BadInput, match="all workers need the same --logdir"):
        train(settings)
    assert not (tmp_path / "run").exists()


@ONLY_KERAS_2
def test_a_worker_that_is_not_told_which_it_is_is_refused(tmp_path):
    arguments = "--distribution_strategy=multi_worker_mirrored", f"--logdir={tmp_path / 'run'}"
    config = '{"cluster": {"worker": ["x:1"]}}'
    said = refusal(start(["train.py"], *arguments, TF_CONFIG=config))
    assert "needs the environment variable TF_CONFIG" in said
    assert not (tmp_path / "run").exists()


@ONLY_KERAS_2
@pytest.mark.slow
def test_where_a_worker_dies_the_other_says_so_and_both_go_on_from_the_checkpoint(tmp_path):
    settings = f"--logdir={tmp_path}", "--checkpoint_seconds=0"
    first, second = start_workers(*settings, "--steps=100000")
    while not list(tmp_path.glob("checkpoints/*.sha256")):
        assert first.poll() is None
        time.sleep(0.1)
    second.kill()
    assert refusal(first) == (
        "train.py: a worker has stopped. To go on from the last checkpoint start all workers again."
    )
    kept = max(int(path.stem[len("step-") :]) for path in tmp_path.glob("checkpoints/*.sha256"))
    finish(start_workers(*settings, f"--steps={kept + 6}"))
    assert (tmp_path / "checkpoints" / f"step-{kept + 6:09d}.sha256").exists()
