"""The figures of docs/results.md are those of the measured lines."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
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
    command = (
        "import json, seeds, sys; [print(seeds.table(lines)) for lines in json.load(sys.stdin)]"
    )
    finished = subprocess.run(
        [sys.executable, "-c", command],
        input=json.dumps(models),
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    rows = [line for line in section(task).splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert [row for row in rows if row not in finished.stdout.splitlines()] == []
