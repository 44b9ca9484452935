"""Draws what a trained machine does with one sequence, as a figure or as a moving picture.

  python benchmarks/picture.py --logdir=pretrained/copy --output=copy.png
  python benchmarks/picture.py --logdir=pretrained/copy --output=copy.gif
  python benchmarks/picture.py --logdir=runs/copy/.. --output=training.gif --training

A file .png, .svg or .pdf is a figure. A file .gif or .html shows the memory step by step or, with
--training, one figure after another that the run has drawn for TensorBoard (.gif only).
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import sys

import tensorflow as tf
from absl import app, flags
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from ntm_keras.animation import animate_trace
from ntm_keras.keras_compat import keras
from ntm_keras.tracing import trace_model
from tasks import task_class
from tasks.task import Task

FLAGS = flags.FLAGS

flags.DEFINE_string("logdir", None, "The run's folder.", required=True)
flags.DEFINE_string("output", None, "Where to write the picture.", required=True)
flags.DEFINE_string(
    "size", None, "Size of the sequence, as in --eval_sizes. (default: the largest in training)"
)
flags.DEFINE_integer("seed", 0, "Seed of the sequence.")
flags.DEFINE_boolean("training", False, "Show the training of the run.")

_MOVING = (".gif", ".html")

# Milliseconds of a figure of the training.
_INTERVAL = 1000


def task_of(run: pathlib.Path) -> Task:
    """The task of a run, with its limits."""
    settings = json.loads((run / "result.json").read_text(encoding="utf-8"))["flags"]
    task = task_class(settings["task"])
    return task(**{field.name: settings[field.name] for field in dataclasses.fields(task)})


def draw(
    run: pathlib.Path, size: str | None = None, seed: int = 0, moves: bool = False
) -> Figure | FuncAnimation:
    """The figure of one sequence processed by the machine in a run's folder, or the animation.

    Raises:
        ValueError: The folder has no machine with a memory, or the size is not allowed.
    """
    if not (run / "model.keras").exists() or not (run / "result.json").exists():
        raise ValueError(f"--logdir={run} is not the folder of a finished run.")
    model = keras.models.load_model(str(run / "model.keras"), compile=False)
    try:
        task = task_of(run)
    except ValueError as error:
        raise ValueError(f"--logdir={run}: {error}") from error
    try:
        meant = task.largest_size if size is None else task.parse_size(size)
    except ValueError as error:
        raise ValueError(f"--size={size}: {error}") from error
    inputs, targets, mask = next(iter(task.evaluation(meant, 1, 1, seed)))
    logits, traces = trace_model(model, inputs)
    if not traces:
        raise ValueError(f"--logdir={run} holds no machine with a memory.")
    (trace,) = traces.values()
    if moves and type(task).plot is not Task.plot:
        raise ValueError(f"--logdir={run}: only tasks with bits have a moving picture.")
    if moves:
        return animate_trace(trace, inputs, tf.sigmoid(logits), mask)
    return task.plot(inputs, targets, logits, mask, trace)


def over_training(run: pathlib.Path) -> list[Image.Image]:
    """The figures that a run has drawn for TensorBoard.

    Raises:
        ValueError: It has drawn none.
    """
    if (run / "train").is_dir():
        events = EventAccumulator(str(run / "train"), size_guidance={"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            if events.SummaryMetadata(tag).plugin_data.plugin_name == "images":
                drawn = [event.tensor_proto.string_val[2] for event in events.Tensors(tag)]
                return [Image.open(io.BytesIO(png)) for png in drawn]
    raise ValueError(f"--logdir={run} has no pictures of its training.")


def write(
    run: pathlib.Path,
    output: pathlib.Path,
    size: str | None = None,
    seed: int = 0,
    training: bool = False,
) -> None:
    """Writes the picture that the flags of the same names describe.

    Raises:
        ValueError: As `draw` and `over_training` do, or for `output`.
    """
    kind = output.suffix.lower()
    if training:
        if kind != ".gif":
            raise ValueError(f"--output={output} must be a .gif, as --training is given.")
        first, *others = over_training(run)
        first.save(output, save_all=True, append_images=others, duration=_INTERVAL, loop=0)
        return
    drawn = draw(run, size, seed, moves=kind in _MOVING)
    if isinstance(drawn, Figure):
        drawn.savefig(output)
    elif kind == ".gif":
        drawn.save(output, writer="pillow")
    else:
        output.write_text(drawn.to_jshtml(), encoding="utf-8")


def main(argv: list[str]) -> None:
    if argv[1:]:
        sys.exit(f"picture.py: unexpected argument {argv[1]!r}: flags begin with --.")
    try:
        run, output = (
            pathlib.Path(os.path.expanduser(each)) for each in (FLAGS.logdir, FLAGS.output)
        )
        write(run, output, FLAGS.size, FLAGS.seed, FLAGS.training)
    except ValueError as error:
        sys.exit(f"picture.py: {error}")


if __name__ == "__main__":
    try:
        app.run(main)
    except OSError as error:
        sys.exit(f"picture.py: {error}")
