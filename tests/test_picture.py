"""The benchmark that draws a trained machine at work."""

import collections
import shutil
import subprocess
import sys

import little_omniglot
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from runs import ROOT, benchmark, tiny

from ntm_keras import pictures
from ntm_keras.callbacks.events import EventLog
from ntm_keras.callbacks.images import write_figures
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
    arguments = f"--logdir={ROOT / 'pretrained' / 'copy'}", f"--output={path}"
    command = [sys.executable, str(ROOT / "benchmarks" / "picture.py"), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    found, expected = (
        np.asarray(Image.open(each).convert("RGB"), int) for each in (path, ROOT / "docs/copy.png")
    )
    assert found.shape == expected.shape
    assert np.mean(np.abs(found - expected) > 8) < 0.02


def test_the_picture_moves_step_by_step(tmp_path):
    make_run(tiny(), tmp_path)
    for name in ("machine.gif", "machine.html"):
        benchmark("picture").write(tmp_path, tmp_path / name, size="2")
    assert Image.open(tmp_path / "machine.gif").n_frames == 5
    assert "<img" in (tmp_path / "machine.html").read_text()


def test_the_picture_moves_over_training(tmp_path):
    spread = np.full([1, 5, 1, 8], 1 / 8)
    trace = collections.namedtuple("Trace", ["read_weightings"])(spread)
    with EventLog(tmp_path / "run" / "train").writing():
        for step in (1, 2):
            tf.summary.scalar("learning/loss", 1.0, step=step)
            write_figures({"ntm": pictures.plot_trace(trace, title=f"Step {step}")}, step)
    benchmark("picture").write(tmp_path / "run", tmp_path / "run.gif", training=True)
    assert Image.open(tmp_path / "run.gif").n_frames == 2
    for run, name in (("run", "run.png"), ("none", "none.gif")):
        with pytest.raises(ValueError, match="must be a .gif|has no pictures of its training"):
            benchmark("picture").write(tmp_path / run, tmp_path / name, training=True)


def test_the_picture_of_a_mann_is_drawn(tmp_path):
    make_run(tiny(model="mann", head_num=2), tmp_path)
    assert pictures.as_image(draw(tmp_path)).shape[2] == 3


def test_the_picture_of_an_episode_of_drawings_is_drawn(tmp_path):
    drawings = little_omniglot.write(tmp_path / "drawings")
    task = Omniglot(omniglot=str(drawings), classes=3, length=9)
    settings = tiny(task=task, model="mann", head_num=2, memory_size=16, eval_sizes=None)
    make_run(settings, tmp_path / "run")
    titles = [axes.get_title(loc="left") for axes in draw(tmp_path / "run").figure.axes]
    assert titles[0] == "Drawings"
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
