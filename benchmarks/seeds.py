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
        if (run / "flags.cfg").exists():
            shutil.rmtree(run)  # a run that was stopped
        run_train(f"--task={FLAGS.task}", f"--seed={seed}", f"--logdir={run}", *settings)
    if not (run / "eval.json").exists():
        run_train("--mode=eval", f"--logdir={run}")
    result, records = (
        json.loads((run / name).read_text(encoding="utf-8"))
        for name in ("result.json", "eval.json")
    )
    return {"seed": seed, **result, "sizes": records}


def check_settings(folder: pathlib.Path, settings: list[str]) -> None:
    """Ends the benchmark where the seeds that are done were trained with other settings."""
    path, text = folder / "settings.txt", " ".join(settings) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        sys.exit(f"seeds.py: {folder} holds runs of other settings (settings.txt): give --folder.")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def table(lines: list[dict[str, Any]]) -> str:
    """The seeds in Markdown: how they were solved, and how they do at every size."""
    solved = [line for line in lines if line["solved"]]
    rows = [f"| solved | {len(solved)} of {len(lines)} | |"]
    if solved:
        for name in ("steps", "sequences", "seconds"):
            rows.append(row(f"{name} to solve", [line[name] for line in solved], ",.0f"))
    rows += rows_of("trained sizes", lines)
    for index, record in enumerate(lines[0]["sizes"]):
        rows += rows_of(f"size {record['size']}", [line["sizes"][index] for line in lines])
    return "\n".join(["| measure | median | worst |", "| --- | --- | --- |", *rows])


def rows_of(sizes: str, records: list[dict[str, Any]]) -> list[str]:
    """A row for every measure of these sizes."""
    names = [name for name in records[0] if name.endswith("_per_sequence")]
    return [
        row(
            f"{sizes}: {name.removesuffix('_per_sequence').replace('_', ' ')}",
            [record[name] for record in records],
            ",.4f",
        )
        for name in names
    ]


def row(name: str, values: list[float], form: str) -> str:
    return f"| {name} | {statistics.median(values):{form}} | {max(values):{form}} |"


def main(argv: list[str]) -> None:
    folder = pathlib.Path(FLAGS.folder) / FLAGS.task
    check_settings(folder, argv[1:])
    lines = []
    for seed in range(FLAGS.seeds):
        lines.append(measured(folder / str(seed), seed, argv[1:]))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "seeds.jsonl").write_text(text, encoding="utf-8")
    print(f"\n{FLAGS.task}, {FLAGS.seeds} seeds {' '.join(argv[1:])}\n\n{table(lines)}")


if __name__ == "__main__":
    app.run(main)
