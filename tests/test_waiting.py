"""The benchmark that says how long training waits for data."""

import re

import pytest
from runs import benchmark

from training import BadInput


def test_it_says_how_long_a_step_takes_and_which_share_of_it_is_waiting(capsys):
    small = ["--max_length=2", "--rnn_size=4", "--memory_size=8", "--batch_size=3", "--noxla"]
    benchmark("waiting").main(["waiting.py", *small])
    line = r"copy, batches of 3: a step takes [\d.]+ ms, [\d.]+% of it waiting for data\n"
    assert re.fullmatch(line, capsys.readouterr().out)


def test_an_argument_that_is_not_a_flag_is_refused():
    with pytest.raises(BadInput, match="unexpected argument 'task=priority_sort'"):
        benchmark("waiting").main(["waiting.py", "task=priority_sort"])
