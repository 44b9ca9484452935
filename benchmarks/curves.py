"""Draws how the cost falls over training, of several runs each of several models.

  python benchmarks/curves.py --output=docs/curves.png NTM=runs/seeds/copy LSTM=runs/lstm/copy

After the names stand folders whose folders are runs, as seeds.py makes them. Needs matplotlib:
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

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "docs/curves.png", "Where to write the picture.")
flags.DEFINE_string("measure", "cost_bits_per_sequence", "What to draw, of validation.")


def curve(run: pathlib.Path) -> tuple[list[int], list[float]]:
    """Sequences seen and the measure, at every validation of a run."""
    batch_size = json.loads((run / "result.json").read_text(encoding="utf-8"))["flags"][
        "batch_size"
    ]
    accumulator = EventAccumulator(str(run / "validation"), size_guidance={"tensors": 0})
    events = accumulator.Reload().Tensors(FLAGS.measure)
    values = [float(tf.make_ndarray(event.tensor_proto)) for event in events]
    return [event.step * batch_size for event in events], values


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # TensorBoard tells of every file that it opens.
    named = [part.partition("=") for part in argv[1:]]
    if not named or not all(name and folder for name, _, folder in named):
        sys.exit("curves.py: give at least one NAME=FOLDER.")
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for index, (name, _, folder) in enumerate(named):
        runs = sorted(path.parent for path in pathlib.Path(folder).glob("*/result.json"))
        if not runs:
            sys.exit(f"curves.py: {folder} holds no finished run.")
        for number, run in enumerate(runs):
            label = f"{name}, {len(runs)} seeds" if number == 0 else None
            axes.plot(*curve(run), color=f"C{index}", alpha=0.7, linewidth=1, label=label)
    axes.set_xlabel("training sequences")
    axes.set_ylabel(FLAGS.measure.replace("_", " "))
    axes.set_yscale("log")
    axes.legend()
    figure.savefig(FLAGS.output, dpi=100)


if __name__ == "__main__":
    app.run(main)
