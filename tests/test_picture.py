"""The benchmark that draws a trained machine at work."""

import shutil
import subprocess
import sys

import little_omniglot
import numpy as np
import pytest
import tensorflow as tf
from runs import ROOT, benchmark, tiny

from ntm_keras.keras_compat import IS_KERAS_2
from tasks.omniglot import Omniglot
from training import models, run_folder


def make_run(settings, logdir):
    """The folder of a run whose machine has learned nothing."""
    logdir.mkdir(exist_ok=True)
    model = models.make_models(settings).model
    model.save(logdir / "model.keras")
    run_folder.write_json(str(logdir), "result.json", {"flags": settings.as_flags()})


def draw(*arguments):
    return benchmark("picture").draw(*arguments)


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 does not read files of Keras 3")
def test_readme_s_picture_is_drawn_from_the_trained_machine(tmp_path):
    path = tmp_path / "copy.png"
    arguments = f"--logdir={ROOT / 'pretrained' / 'copy'}", "--size=20", f"--output={path}"
    command = [sys.executable, str(ROOT / "benchmarks" / "picture.py"), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    found, expected = (
        tf.io.decode_png(tf.io.read_file(str(each))) for each in (path, ROOT / "docs" / "copy.png")
    )
    assert found.shape == expected.shape
    differ = tf.abs(tf.cast(found, tf.int32) - tf.cast(expected, tf.int32)) > 8
    assert tf.reduce_mean(tf.cast(differ, tf.float32)) < 0.01


def test_the_picture_of_a_mann_is_drawn(tmp_path):
    make_run(tiny(model="mann", head_num=2), tmp_path)
    picture = draw(tmp_path)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3


def test_the_picture_of_an_episode_of_drawings_is_drawn(tmp_path):
    drawings = little_omniglot.write(tmp_path / "drawings")
    task = Omniglot(omniglot=str(drawings), classes=3, length=9)
    settings = tiny(task=task, model="mann", head_num=2, memory_size=16, eval_sizes=None)
    make_run(settings, tmp_path / "run")
    assert draw(tmp_path / "run").shape[1] == 9 * 20
    shutil.rmtree(drawings)
    with pytest.raises(ValueError, match="drawings does not exist"):
        draw(tmp_path / "run")


def test_a_folder_without_a_machine_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not the folder of a finished run"):
        draw(tmp_path)
    make_run(tiny(model="lstm", lstm_units=6), tmp_path)
    with pytest.raises(ValueError, match="no machine with a memory"):
        draw(tmp_path)
    with pytest.raises(ValueError, match="--size=x"):
        draw(tmp_path, "x")
