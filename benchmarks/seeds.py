"""Trains a task with several seeds, measures every machine, and prints a table.

  python benchmarks/seeds.py --task=copy
  python benchmarks/seeds.py --task=copy --seeds=3 --folder=runs/lstm -- --model=lstm --rnn_size=256

What stands after `--` goes to train.py. Seeds that are done are not trained again: a benchmark
that was stopped goes on with the seed that it was at. FOLDER/TASK/SEED holds each run, and
FOLDER/TASK/seeds.jsonl a line for each seed.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import statistics
import subprocess
import sys
from typing import Any

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from tasks import TASKS

ROOT = pathlib.Path(__file__).parent.parent
FLAGS = flags.FLAGS

flags.DEFINE_enum("task", "copy", list(TASKS), "What to learn.")
flags.DEFINE_integer("seeds", 5, "How many: seeds 0, 1, ..", lower_bound=1)
flags.DEFINE_string("folder", "runs/seeds", "Where the runs are.")


def run_train(*arguments: str) -> None:
    """Runs train.py; ends the benchmark where that fails."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    print(f"\n$ {' '.join(command)}", flush=True)
    if subprocess.run(command).returncode != 0:
        sys.exit("seeds.py: train.py failed.")


def measured(run: pathlib.Path, seed: int, settings: list[str]) -> dict[str, Any]:
    """Trains and measures one seed, as far as that is not done; returns its line."""
    if not (run / "result.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        run_train(f"--task={FLAGS.task}", f"--seed={seed}", f"--logdir={run}", *settings)
    if not (run / "eval.json").exists():
        run_train("--mode=eval", f"--logdir={run}")
    result, records = (
        json.loads((run / name).read_text(encoding="utf-8"))
        for name in ("result.json", "eval.json")
    )
    return {"seed": seed, **result, "sizes": records}


def table(lines: list[dict[str, Any]]) -> str:
    """The seeds in Markdown: how they were solved, and how they do at every size."""
    solved = [line for line in lines if line["solved"]]
    rows = [("solved", f"{len(solved)} of {len(lines)}", "")]
    for name in ("steps", "sequences", "seconds"):
        values = [line[name] for line in solved]
        if values:
            rows.append((f"{name} to solve", f"{statistics.median(values):,.0f}", max(values)))
    rows += [("trained sizes: " + name, *row) for name, row in measures(lines)]
    for index, record in enumerate(lines[0]["sizes"]):
        at_size = [line["sizes"][index] for line in lines]
        rows += [(f"size {record['size']}: {name}", *row) for name, row in measures(at_size)]
    text = ["| measure | median | worst |", "| --- | --- | --- |"]
    for name, median, worst in rows:
        text.append(f"| {name} | {median} | {worst if worst == '' else f'{worst:,.4g}'} |")
    return "\n".join(text)


def measures(records: list[dict[str, Any]]) -> list[tuple[str, tuple[str, float]]]:
    """Of every measure its name, and the records' median and largest value."""
    return [
        (
            name.removesuffix("_per_sequence").replace("_", " "),
            (
                f"{statistics.median(record[name] for record in records):.4f}",
                max(record[name] for record in records),
            ),
        )
        for name in records[0]
        if name.endswith("_per_sequence")
    ]


def main(argv: list[str]) -> None:
    folder = pathlib.Path(FLAGS.folder) / FLAGS.task
    lines = []
    for seed in range(FLAGS.seeds):
        lines.append(measured(folder / str(seed), seed, argv[1:]))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "seeds.jsonl").write_text(text, encoding="utf-8")
    print(f"\n{FLAGS.task}, {FLAGS.seeds} seeds {' '.join(argv[1:])}\n\n{table(lines)}")


if __name__ == "__main__":
    app.run(main)
