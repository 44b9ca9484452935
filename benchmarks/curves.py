"""Draws how the cost falls over training: a panel for each task, a line for each run.

  python benchmarks/curves.py --output=docs/curves.png NTM=runs/seeds LSTM=runs/lstm

Each name is followed by a folder in which seeds.py wrote FOLDER/TASK/seeds.jsonl.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from typing import Any

import matplotlib.pyplot as plt
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from tasks import TASKS, task_class

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "docs/curves.png", "Where to write the picture.")

_COST, _EXCESS = "cost_bits_per_sequence", "excess_cost_bits_per_sequence"


def lines_of(folder: str, task: str) -> list[dict[str, Any]]:
    """The lines with a cost that seeds.py wrote for a task, possibly none."""
    path = pathlib.Path(os.path.expanduser(folder), task, "seeds.jsonl")
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if measure_of(task) in line["validations"]]


def measure_of(task: str) -> str:
    """The cost; if the cost cannot be zero, its excess over the optimal cost."""
    return _EXCESS if task_class(task).solved_measure == _EXCESS else _COST


def draw(axes: plt.Axes, task: str, folders: dict[str, str]) -> None:
    """The panel of a task."""
    for index, (name, folder) in enumerate(folders.items()):
        lines = lines_of(folder, task)
        for number, line in enumerate(lines):
            label = f"{name}, seeds: {len(lines)}" if number == 0 else None
            steps, cost = (line["validations"][each] for each in ("steps", measure_of(task)))
            sequences = [step * line["flags"]["batch_size"] / 1000 for step in steps]
            axes.plot(sequences, cost, color=f"C{index}", alpha=0.7, linewidth=1, label=label)
    above = " above the optimum,\n" if measure_of(task) == _EXCESS else ", "
    axes.set_title(task.replace("_", " "))
    axes.set_xlabel("thousands of sequences")
    axes.set_ylabel(f"cost{above}bits per sequence")
    axes.set_yscale("log")
    axes.legend()


def main(argv: list[str]) -> None:
    named = [part.partition("=") for part in argv[1:]]
    if not named or not all(name and folder for name, _, folder in named):
        sys.exit("curves.py: give at least one NAME=FOLDER.")
    folders = {name: folder for name, _, folder in named}
    tasks = [task for task in TASKS if any(lines_of(each, task) for each in folders.values())]
    if not tasks:
        sys.exit(f"curves.py: no finished run in {', '.join(folders.values())}.")
    rows = -(-len(tasks) // 2)
    figure, panels = plt.subplots(
        rows, min(2, len(tasks)), figsize=(10, 3 * rows), layout="constrained", squeeze=False
    )
    for axes in panels.flat[len(tasks) :]:
        axes.remove()
    for axes, task in zip(panels.flat, tasks):
        draw(axes, task, folders)
    try:
        figure.savefig(os.path.expanduser(FLAGS.output), dpi=90)
    except ValueError as error:
        sys.exit(f"curves.py: --output={FLAGS.output}: {error}")


if __name__ == "__main__":
    try:
        app.run(main)
    except OSError as error:
        sys.exit(f"curves.py: {error}")
