"""A batch shared by two devices of one machine: `--distribution_strategy=mirrored`."""

import pathlib
import subprocess
import sys

import numpy as np
from test_train import TINY

from ntm_keras.keras_compat import IS_KERAS_2, keras

ROOT = pathlib.Path(__file__).parent.parent
ON_TWO_DEVICES = """
import runpy
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
runpy.run_path("train.py", run_name="__main__")
"""


# Parts of different sizes, and gradients that are clipped: both are those of the whole batch.
SETTINGS = [
    *TINY,
    *("--mix_lengths", "--clip_norm=0.05", "--ema_momentum=0.9", "--learning_rate=1e-2"),
    *([] if IS_KERAS_2 else ["--xla"]),
]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", ON_TWO_DEVICES, *SETTINGS, *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def finish(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def test_a_shared_run_that_was_stopped_ends_as_one_on_one_device(tmp_path):
    alone, shared = (f"--logdir={tmp_path / name}" for name in ("alone", "shared"))
    first_part = start(shared, "--distribution_strategy=mirrored", "--steps=3")
    finish(start(alone))
    finish(first_part)
    finish(start(shared, "--steps=5"))
    alone, shared = (
        keras.models.load_model(tmp_path / name / "model.keras", compile=False)
        for name in ("alone", "shared")
    )
    for one, other in zip(alone.weights, shared.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=one.name)


def test_a_batch_that_devices_cannot_share_equally_is_refused_before_anything_is_made(tmp_path):
    process = start(
        "--distribution_strategy=mirrored", "--batch_size=5", f"--logdir={tmp_path / 'run'}"
    )
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (
        "train.py: --batch_size=5 must be a multiple of the 2 devices that"
        " --distribution_strategy=mirrored finds."
    )
    assert not (tmp_path / "run").exists()
