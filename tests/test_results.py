"""The figures of docs/results.md are those of the measured lines."""

import json
import re

import pytest
from runs import ROOT, benchmark

MEASURED = ROOT / "benchmarks" / "measured"
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
TASKS = sorted({path.parent.name for path in MEASURED.glob("*/*/seeds.jsonl")})


def section(task):
    title = task.replace("_", " ").replace("ngrams", "N-grams").capitalize()
    return re.search(rf"^## {title}$(.*?)(^## |\Z)", PAGE, re.M | re.S | re.I).group(1)


@pytest.mark.parametrize("task", TASKS)
def test_every_row_is_what_the_benchmark_prints(task):
    models = [
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in MEASURED.glob(f"*/{task}/seeds.jsonl")
    ]
    printed = "\n".join(benchmark("seeds").table(lines) for lines in models)
    rows = [line for line in section(task).splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert [row for row in rows if row not in printed.splitlines()] == []
