"""Runs that are stopped and go on, as a user sees them."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from test_callbacks import events
from test_train import ROOT, TINY, assert_refused, run_train

LONG = [*TINY, "--steps=56", "--checkpoint_seconds=0", "--ema_momentum=0.9"]
LONG += ["--weight_noise=0.01", "--validate_every=14"]


def run_until(line, number, *arguments):
    """Runs train.py, and sends it a signal when it prints this line; returns status and output."""
    command = [sys.executable, "-u", str(ROOT / "train.py"), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    printed = []
    for printed_line in process.stdout:
        printed.append(printed_line)
        if printed_line.startswith(line):
            process.send_signal(number)
    return process.wait(), "".join(printed)


def last_state(logdir):
    """All variables of the last checkpoint, by their names, but for the time it took."""
    path = max((logdir / "checkpoints").glob("*.index"))
    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    names = reader.get_variable_to_shape_map()
    variables = [name for name in names if name.endswith("VARIABLE_VALUE")]
    return {name: reader.get_tensor(name) for name in variables if "seconds" not in name}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    logdir = tmp_path_factory.mktemp("runs") / "whole"
    assert run_train(*LONG, f"--logdir={logdir}").returncode == 0
    return logdir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The same run, stopped in its second epoch, killed in its last, and brought to its end."""
    logdir = tmp_path_factory.mktemp("runs") / "stopped"
    status, printed = run_until("Epoch 2", signal.SIGTERM, *LONG, f"--logdir={logdir}")
    assert status == 128 + signal.SIGTERM
    assert "SIGTERM: stopping after the steps at hand; once more ends at once." in printed
    assert "Stopped by SIGTERM after" in printed and f"--logdir={logdir}" in printed
    status, _ = run_until("Epoch 4", signal.SIGKILL, f"--logdir={logdir}")
    assert status == -signal.SIGKILL
    finished = run_train(f"--logdir={logdir}")
    assert finished.returncode == 0, finished.stderr
    return logdir, finished.stdout


def test_a_run_that_was_stopped_ends_like_one_that_was_not(whole, stopped):
    logdir, _ = stopped
    expected, found = last_state(whole), last_state(logdir)
    assert expected.keys() == found.keys() and len(expected) > 40
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_its_validations_are_those_of_a_run_that_was_not(whole, stopped):
    logdir, _ = stopped
    # Sizes are also measured where a run goes on from: these are not compared.
    expected, found = (
        sorted(event for event in events(each / "validation") if "_at_size" not in event[0])
        for each in (whole, logdir)
    )
    assert [step for tag, step, _ in found if tag == "loss"] == [14, 28, 42, 56]
    assert found == expected


def test_its_result_counts_the_seconds_of_all_parts(whole, stopped):
    logdir, _ = stopped
    expected, found = (json.loads((each / "result.json").read_text()) for each in (whole, logdir))
    assert found["seconds"] > expected["seconds"]
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}


def test_a_finished_run_only_tells_its_result_again(stopped):
    logdir, printed = stopped
    again = run_train(*LONG, f"--logdir={logdir}")
    assert again.returncode == 0 and "Epoch" not in again.stdout
    told = "On fresh sequences:"
    assert again.stdout.split(told)[1] == printed.split(told)[1]


def test_flags_that_make_another_run_are_refused_by_name(whole):
    finished = run_train(*LONG, f"--logdir={whole}", "--seed=7", "--rnn_size=9")
    assert_refused(finished, "--seed=7 (the run has 0)", "--rnn_size=9 (the run has 6)", str(whole))


def test_fewer_steps_than_were_made_are_refused(whole):
    settings = (whole / "flags.cfg").read_text()
    assert_refused(run_train(f"--logdir={whole}", "--steps=20"), "--steps=20", "has made 56")
    assert (whole / "flags.cfg").read_text() == settings


def test_a_run_may_go_on_for_longer_and_be_started_anew(stopped):
    logdir, _ = stopped
    longer = run_train(f"--logdir={logdir}", "--steps=61", "--validate_every=5")
    assert longer.returncode == 0 and "on from step 56" in longer.stdout
    assert json.loads((logdir / "result.json").read_text())["steps"] == 61
    anew = run_train(*LONG, f"--logdir={logdir}", "--overwrite", "--steps=14", "--seed=7")
    assert anew.returncode == 0 and "on from step" not in anew.stdout
    assert json.loads((logdir / "result.json").read_text())["steps"] == 14
    assert len(list((logdir / "checkpoints").glob("*.sha256"))) == 1


def test_damaged_checkpoints_are_told_in_one_line(whole, tmp_path):
    logdir = tmp_path / "run"
    (logdir / "checkpoints").mkdir(parents=True)
    (logdir / "flags.cfg").write_bytes((whole / "flags.cfg").read_bytes())
    (logdir / "checkpoints" / "step-000000010.sha256").write_text("nonsense")
    finished = run_train(f"--logdir={logdir}")
    assert finished.returncode == 1 and "Traceback" not in finished.stderr
    assert "all checkpoints in" in finished.stderr and "--overwrite" in finished.stderr
