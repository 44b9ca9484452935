"""What a training shows of how it goes."""

import types

import numpy as np
import pytest
from rich.console import Console
from runs import tiny

from tasks import TASKS, task_class
from training import progress
from training.progress import Progress


@pytest.fixture(autouse=True)
def steps(monkeypatch):
    """Lets a test say how many steps were made."""
    monkeypatch.setattr(progress, "training_step", lambda step: step)


def make_progress(**settings):
    stop = types.SimpleNamespace(passed=2, is_testing=False, failed_test=None)
    return Progress(tiny(**settings), stop, types.SimpleNamespace(seconds=3723.4))


def at(shown, step):
    shown.set_model(step)
    shown.on_train_batch_end(0)


def drawn(shown):
    """The lines below the validations, in a terminal of 80 columns."""
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(shown._now())
    return captured.get().splitlines()


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"omniglot"}))
def test_nothing_is_wider_than_80_columns(name, capsys):
    shown = make_progress(task=task_class(name)(), steps=10**9, eval_sizes=None, solved_times=1000)
    with shown.shown():
        at(shown, 10**9 - 1)
        shown.on_epoch_end(0, {"loss": 123.45678, f"val_{shown._measure}": np.float64(12345.6789)})
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "step" and line.split()[:2] == ["999999999", "1:02:03"]
    assert len(head) <= 80 and len(line) <= 80
    assert len(drawn(shown)) == 2


def test_a_validation_is_told_in_one_line(capsys):
    shown = make_progress(solved_times=5)
    at(shown, 3)
    shown.on_epoch_end(0, {"loss": 0.5, "val_wrong_bits_per_sequence": 0.25})
    said = capsys.readouterr().out.split()
    assert said == ["3", "1:02:03", "0.5000", "0.2500", "2", "of", "5"]


def test_a_test_that_was_not_passed_is_told(capsys):
    shown = make_progress(solved_times=5)
    shown._stop.failed_test = 0.125
    at(shown, 3)
    shown.on_epoch_end(0, {"loss": 0.5, "val_wrong_bits_per_sequence": 0.0})
    assert capsys.readouterr().out.rstrip().endswith("0.0000  0.1250 in test".rjust(30))
    assert drawn(shown)[1] == "wrong bits per sequence: 0.0000, but 0.1250 in test"


def test_what_is_left_is_told_from_the_steps_since_the_first_call(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    shown = make_progress(steps=500, batch_size=4)
    assert "compiling" in drawn(shown)[0]
    at(shown, 10)
    now[0] += 30
    at(shown, 160)
    assert "160/500" in drawn(shown)[0]
    assert "20 sequences/s, at most 0:01:08 left" in drawn(shown)[0]


def test_a_test_on_fresh_sequences_is_told():
    shown = make_progress()
    shown._stop.is_testing = True
    assert "testing on fresh sequences" in drawn(shown)[0]
