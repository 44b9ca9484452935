"""Runs that are stopped and go on."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import unittest.mock

import numpy as np
import pytest
import tensorflow as tf
from runs import ROOT, TRAIN, as_arguments, events, only_scalars, tiny

from ntm_keras.keras_compat import keras
from training import StoppedBySignalError, train

# It keeps its state after every validation, and begins again after two.
LONG = tiny(
    steps=56,
    validate_every=14,
    attempt_steps=28,
    checkpoint_seconds=0,
    learning_rate_end=1e-4,
    learning_rate_steps=40,
    ema_momentum=0.9,
    weight_noise=0.01,
    input_noise=0.1,
    memory_initializer="constant",
    training_memory_size=5,
)


@pytest.fixture(scope="module", autouse=True)
def without_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.run._logs", only_scalars)
        yield


def trained(settings, logdir, **options):
    """What a training returns, and what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = train(settings, logdir, **options)
    return result, printed.getvalue()


def killed(step, number, logdir):
    """Runs train.py, and sends it a signal after a validation; returns status and output."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", TRAIN, *as_arguments(LONG), f"--logdir={logdir}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    printed = []
    for printed_line in process.stdout:
        printed.append(printed_line)
        if re.match(rf" +{step} +\d:\d\d", printed_line):
            process.send_signal(number)
    return process.wait(), "".join(printed)


def last_state(logdir):
    """All variables of the last checkpoint, by their names, and the seconds until then."""
    path = max((logdir / "checkpoints").glob("*.index"))
    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    names = reader.get_variable_to_shape_map()
    variables = [name for name in names if name.endswith("VARIABLE_VALUE")]
    state = {name: reader.get_tensor(name) for name in variables}
    (clock,) = (name for name in variables if "seconds" in name)
    return state, state.pop(clock)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    logdir = tmp_path_factory.mktemp("runs") / "whole"
    trained(LONG, logdir)
    return logdir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The same run, stopped where it begins again, killed later, and brought to its end."""
    logdir = tmp_path_factory.mktemp("runs") / "stopped"
    status, printed = killed(28, signal.SIGTERM, logdir)
    assert status == 128 + signal.SIGTERM
    assert "SIGTERM: stopping after the current steps. A second signal stops at once." in printed
    assert "Stopped by SIGTERM after" in printed and f"--logdir={logdir}" in printed
    status, _ = killed(42, signal.SIGKILL, logdir)
    assert status == -signal.SIGKILL
    _, seconds = last_state(logdir)
    return logdir, *trained(LONG, logdir), seconds


def test_a_run_that_was_stopped_ends_like_one_that_was_not(whole, stopped):
    logdir, *_ = stopped
    (expected, _), (found, _) = last_state(whole), last_state(logdir)
    assert expected.keys() == found.keys() and len(expected) > 40
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_its_validations_are_those_of_a_run_that_was_not(whole, stopped):
    logdir, *_ = stopped
    expected, found = (sorted(events(each / "validation")) for each in (whole, logdir))
    assert [step for tag, step, _ in found if tag == "learning/loss"] == [14, 28, 42, 56]
    assert found == expected


def test_its_result_counts_the_seconds_of_all_parts(whole, stopped):
    _, found, _, before = stopped
    expected = json.loads((whole / "result.json").read_text())
    assert found["seconds"] > before > 0
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.eager
def test_a_finished_run_only_tells_its_result_again(stopped):
    logdir, result, printed, _ = stopped
    again, said = trained(LONG, logdir)
    assert "passed" not in said
    told = "fresh sequences "
    assert said.split(told)[1] == printed.split(told)[1]
    assert "begin again with other weights; not with --attempt_steps=0." in said
    assert again == result


@pytest.mark.eager
def test_a_run_that_goes_on_has_no_result_until_its_end(stopped, tmp_path):
    logdir, *_ = stopped
    shutil.copytree(logdir, tmp_path / "run")
    interrupted = unittest.mock.patch("training.run._fit", side_effect=KeyboardInterrupt)
    with interrupted, pytest.raises(KeyboardInterrupt):
        trained(dataclasses.replace(LONG, steps=61), tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
@pytest.mark.eager
def test_a_run_may_go_on_for_longer_and_be_started_anew(stopped):
    logdir, *_ = stopped
    longer = dataclasses.replace(LONG, steps=84, validate_every=12, attempt_steps=0)
    result, printed = trained(longer, logdir)
    assert "on from step 56" in printed and result["steps"] == 84
    # The attempt that began at step 28 goes on.
    (before,) = (value for name, value in last_state(logdir)[0].items() if "steps_before" in name)
    assert before == 28 and "begins again" not in printed.split("passed")[1]
    anew = dataclasses.replace(LONG, steps=14, seed=7)
    result, printed = trained(anew, logdir, overwrite=True)
    assert "on from step" not in printed and result["steps"] == 14
    assert json.loads((logdir / "result.json").read_text()) == result
    assert len(list((logdir / "checkpoints").glob("*.sha256"))) == 1


class Interrupts(keras.callbacks.Callback):
    """Sends a signal after a step, as Ctrl-C in a notebook does."""

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 2:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.eager
def test_a_training_in_a_notebook_that_was_interrupted_can_go_on(tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    settings = tiny(steps=4, validate_every=3)
    with monkeypatch.context() as patch:
        patch.setattr("training.run._logs", lambda *arguments: [Interrupts()])
        with pytest.raises(StoppedBySignalError, match="(?s)SIGINT after 2 .*from step 2:"):
            train(settings, tmp_path)
        assert signal.getsignal(signal.SIGINT) is handler
        _, printed = trained(settings, tmp_path)
    assert "on from step 2" in printed
