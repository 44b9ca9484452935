"""train.py, run as a user runs it."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from runs import ROOT, as_arguments, events, run_train, tiny

from ntm_keras.keras_compat import IS_KERAS_2, keras
from training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a folder whose name is all that a file system takes: settings, folder, output."""
    # Compiled in two parts, where there are two cores. Keras 2 runs every layer in its own loop.
    settings = tiny(batch_size=16, xla=not IS_KERAS_2)
    folder = tmp_path_factory.mktemp("runs")
    logdir = " [1]\\%#*?ü"
    finished = run_train(*as_arguments(settings), f"--logdir={logdir}", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert [path.name for path in folder.iterdir()] == [logdir]
    return settings, folder / logdir, finished.stdout


def test_a_run_says_how_it_went_and_what_its_command_line_was(run):
    _, logdir, printed = run
    assert "Not solved after 5 steps" in printed
    settings = {tag: value for tag, _, value in events(logdir)}
    assert "train.py" in str(settings["command line"])


@pytest.mark.slow
def test_it_is_the_same_bit_for_bit_as_one_in_another_process(run, tmp_path):
    settings, logdir, _ = run
    result = train(settings, tmp_path)
    assert {**json.loads((logdir / "result.json").read_text()), "seconds": 0} == {
        **result,
        "seconds": 0,
    }
    first, twin = (
        keras.models.load_model(str(folder / "model.keras"), compile=False).get_weights()
        for folder in (logdir, tmp_path)
    )
    assert len(first) > 0
    for weight, other in zip(first, twin, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_it_is_evaluated(run):
    _, logdir, _ = run
    arguments = "--mode=eval", f"--logdir={logdir.name}", "--lstm_units=256"
    finished = run_train(*arguments, cwd=logdir.parent)
    assert finished.returncode == 0, finished.stderr
    assert "train.py: warning: --lstm_units is ignored with --model=ntm.\n" in finished.stderr
    assert "wrong bits per sequence" in finished.stdout
    assert json.loads((logdir / "eval.json").read_text())[0]["size"] == "2"
    assert {step for _, step, _ in events(logdir / "eval" / "size_2")} == {5}


def refusal(finished):
    """The one line that a refused command line prints."""
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    return finished.stderr.splitlines()[-1]


def test_the_manual_begins_with_what_the_program_does():
    finished = run_train("--help")
    assert finished.returncode == 0
    assert finished.stdout.startswith("Trains a Neural Turing Machine on a task")


def test_a_manual_that_is_not_read_to_its_end_is_no_error():
    command = [sys.executable, str(ROOT / "train.py"), "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait()


@pytest.mark.parametrize("flag", ["--memory_size=2", "--min_length=30", "--eval_sizes=ten"])
def test_bad_flags_are_refused_before_tensorflow_is_imported(flag, tmp_path):
    command = (
        "import runpy, sys\n"
        f"sys.argv = ['train.py', {flag!r}]\n"
        f"try: runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'tensorflow' in sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert finished.stdout.startswith("train.py: "), finished.stderr
    assert finished.stdout.split()[-1] == "False"
    assert not list(tmp_path.iterdir())


def test_a_refused_command_line_writes_one_line_and_nothing_else(tmp_path):
    finished = run_train("--rnn_size=-1", cwd=tmp_path)
    assert refusal(finished).startswith("train.py: flag --rnn_size=-1: ")
    assert len(finished.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(IS_KERAS_2, reason="its process chooses its Keras itself")
def test_another_backend_of_keras_is_refused_in_one_line(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "numpy", "TF_USE_LEGACY_KERAS": "0"}
    finished = run_train(f"--logdir={tmp_path / 'run'}", env=environment)
    said = refusal(finished)
    assert said.startswith("train.py: ntm_keras needs ") and "KERAS_BACKEND=tensorflow" in said


def test_the_program_is_short():
    assert len((ROOT / "train.py").read_text().splitlines()) <= 80


def test_ctrl_c_before_training_is_told_in_one_line():
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    _, errors = process.communicate()
    assert process.returncode == 130 and errors == "train.py: interrupted.\n"


# The signal comes while the command line is read.
INTERRUPTED = f"""
import runpy, signal, sys
from training import command_line

signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background job ignores it.
command_line.parse = lambda *arguments: signal.raise_signal({int(signal.SIGINT)})
sys.argv = ["train.py"]
runpy.run_path("train.py", run_name="__main__")
"""
