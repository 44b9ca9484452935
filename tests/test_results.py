"""The figures of the tasks' pages are those of the measured lines."""

import json

import pytest
from runs import ROOT, benchmark

MEASURED = ROOT / "benchmarks" / "measured"
TASKS = sorted({path.parent.name for path in MEASURED.glob("*/*/seeds.jsonl")})


@pytest.mark.parametrize("task", TASKS)
def test_every_row_is_what_the_benchmark_prints(task):
    models = [
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in MEASURED.glob(f"*/{task}/seeds.jsonl")
    ]
    printed = "\n".join(benchmark("seeds").table(lines) for lines in models)
    page = (ROOT / "docs" / "tasks" / f"{task}.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert [row for row in rows if row not in printed.splitlines()] == []
