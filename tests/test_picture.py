"""benchmarks/picture.py, run as a user runs it."""

import shutil
import subprocess
import sys

import little_omniglot
import pytest
import tensorflow as tf
from test_train import QUICK, ROOT, run_train

from ntm_keras.keras_compat import IS_KERAS_2


def draw(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "picture.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(IS_KERAS_2, reason="Keras 2 does not read files of Keras 3")
def test_readme_s_picture_is_drawn_from_the_trained_machine(tmp_path):
    path = tmp_path / "copy.png"
    finished = draw(f"--logdir={ROOT / 'pretrained' / 'copy'}", "--size=20", f"--output={path}")
    assert finished.returncode == 0, finished.stderr
    found, expected = (
        tf.io.decode_png(tf.io.read_file(str(each))) for each in (path, ROOT / "docs" / "copy.png")
    )
    assert found.shape == expected.shape
    differ = tf.abs(tf.cast(found, tf.int32) - tf.cast(expected, tf.int32)) > 8
    assert tf.reduce_mean(tf.cast(differ, tf.float32)) < 0.01


def test_the_picture_of_a_mann_is_drawn(tmp_path):
    machine = "--model=mann", "--memory_size=8", "--head_num=2", "--max_length=3", "--eval_sizes=2"
    assert run_train(*machine, *QUICK.split(), f"--logdir={tmp_path / 'run'}").returncode == 0
    path = tmp_path / "picture.png"
    finished = draw(f"--logdir={tmp_path / 'run'}", f"--output={path}")
    assert finished.returncode == 0, finished.stderr
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_picture_of_an_episode_of_drawings_is_drawn(tmp_path):
    drawings = little_omniglot.write(tmp_path / "drawings")
    episode = f"--omniglot={drawings}", "--task=omniglot", "--classes=3", "--length=9"
    machine = "--memory_size=16", "--head_num=2", f"--logdir={tmp_path / 'run'}"
    assert run_train(*episode, *machine, *QUICK.split()).returncode == 0
    path = tmp_path / "picture.png"
    finished = draw(f"--logdir={tmp_path / 'run'}", f"--output={path}")
    assert finished.returncode == 0, finished.stderr
    _, width, _ = tf.io.decode_png(path.read_bytes()).shape
    assert width == 9 * 20
    shutil.rmtree(drawings)
    finished = draw(f"--logdir={tmp_path / 'run'}", f"--output={path}")
    assert finished.returncode == 1 and "drawings does not exist" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_what_holds_no_machine_is_refused(tmp_path):
    logdir, output = tmp_path / "run", f"--output={tmp_path / 'picture.png'}"
    finished = draw(f"--logdir={logdir}", output)
    assert finished.returncode == 1 and "not the folder of a finished run" in finished.stderr
    network = "--model=lstm", "--lstm_units=6", "--max_length=3", "--eval_sizes=2"
    assert run_train(*network, *QUICK.split(), f"--logdir={logdir}").returncode == 0
    finished = draw(f"--logdir={logdir}", output)
    assert finished.returncode == 1 and "no machine with a memory" in finished.stderr
    assert "Traceback" not in finished.stderr
