"""Draws how the cost falls over training: a panel for each task, a line for each run.

  python benchmarks/curves.py --output=docs/curves.png NTM=runs/seeds LSTM=runs/lstm

After the names stand folders that seeds.py made: runs lie in FOLDER/TASK/SEED. Needs matplotlib:
`pip install -e '.[benchmarks]'`.
"""

from __future__ import annotations

import json
import pathlib
import sys

import matplotlib.pyplot as plt
import tensorflow as tf
from absl import app, flags, logging
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from tasks import TASKS, task_class

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "docs/curves.png", "Where to write the picture.")

_COST, _EXCESS = "cost_bits_per_sequence", "excess_cost_bits_per_sequence"


def finished_runs(folder: str, task: str) -> list[pathlib.Path]:
    return sorted(path.parent for path in pathlib.Path(folder, task).glob("*/result.json"))


def measure_of(task: str) -> str:
    """The cost; where no machine can bring it to zero, how far it is above the least one."""
    return _EXCESS if task_class(task).solved_measure == _EXCESS else _COST


def curve(run: pathlib.Path, measure: str) -> tuple[list[float], list[float]]:
    """Thousands of sequences seen, and the measure, at every validation of a run."""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    accumulator = EventAccumulator(str(run / "validation"), size_guidance={"tensors": 0})
    events = accumulator.Reload().Tensors(measure)
    sequences = [event.step * result["flags"]["batch_size"] / 1000 for event in events]
    return sequences, [float(tf.make_ndarray(event.tensor_proto)) for event in events]


def draw(axes: plt.Axes, task: str, folders: dict[str, str]) -> None:
    """The panel of a task."""
    for index, (name, folder) in enumerate(folders.items()):
        runs = finished_runs(folder, task)
        for number, run in enumerate(runs):
            label = f"{name}, seeds: {len(runs)}" if number == 0 else None
            line = curve(run, measure_of(task))
            axes.plot(*line, color=f"C{index}", alpha=0.7, linewidth=1, label=label)
    above = " above the least" if measure_of(task) == _EXCESS else ""
    axes.set_title(task.replace("_", " "))
    axes.set_xlabel("thousands of sequences")
    axes.set_ylabel(f"cost{above}, bits a sequence")
    axes.set_yscale("log")
    axes.legend()


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # TensorBoard tells of every file that it opens.
    named = [part.partition("=") for part in argv[1:]]
    if not named or not all(name and folder for name, _, folder in named):
        sys.exit("curves.py: give at least one NAME=FOLDER.")
    folders = {name: folder for name, _, folder in named}
    tasks = [task for task in TASKS if any(finished_runs(each, task) for each in folders.values())]
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
    figure.savefig(FLAGS.output, dpi=90)


if __name__ == "__main__":
    app.run(main)
