"""The benchmark that says how long training waits for data, run as a user runs it."""

import re
import subprocess
import sys

from test_train import ROOT

COMMAND = [sys.executable, str(ROOT / "benchmarks" / "waiting.py")]


def test_it_says_how_long_a_step_takes_and_which_share_of_it_is_waiting():
    small = ["--max_length=2", "--rnn_size=4", "--memory_size=8", "--batch_size=3"]
    finished = subprocess.run([*COMMAND, *small], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    line = r"copy, batches of 3: a step takes [\d.]+ ms, [\d.]+% of it waiting for data\n"
    assert re.fullmatch(line, finished.stdout)


def test_what_is_no_flag_is_refused_in_one_line():
    finished = subprocess.run([*COMMAND, "task=priority_sort"], capture_output=True, text=True)
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].startswith("waiting.py: unexpected argument")
