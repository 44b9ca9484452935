"""Draws what a trained machine does with one sequence, like the paper's figure 6.

  python benchmarks/picture.py --logdir=pretrained/copy --output=docs/copy.png
  python benchmarks/picture.py --logdir=runs/repeat_copy/.. --size=10x3 --output=repeat_copy.png

Left, from the top: inputs, what the first write head adds, where any head writes. Right: outputs,
what the first read head reads, where any head reads. For Omniglot, from the top: drawings, labels
and the machine's probability of each label; where any head writes; where any head reads. Time runs
across; the locations that the heads use run down. Dark is 0 and bright 1. For signed numbers blue
is -1, white 0 and red 1. For Omniglot's weightings bright is the largest weight.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from ntm_keras import pictures
from ntm_keras.keras_compat import keras
from ntm_keras.tracing import trace_model
from tasks import task_class
from tasks.task import Task

FLAGS = flags.FLAGS

flags.DEFINE_string("logdir", None, "The run's folder.", required=True)
flags.DEFINE_string("output", None, "Where to write the picture.", required=True)
flags.DEFINE_string(
    "size", None, "Size of the sequence, as in --eval_sizes. (default: the task's first)"
)
flags.DEFINE_integer("seed", 0, "Seed of the sequence.")

_WIDTH = 410


def task_of(run: pathlib.Path) -> Task:
    """The task of a run, with its limits."""
    settings = json.loads((run / "result.json").read_text(encoding="utf-8"))["flags"]
    task = task_class(settings["task"])
    return task(**{field.name: settings[field.name] for field in dataclasses.fields(task)})


def used_locations(*weightings: np.ndarray) -> np.ndarray:
    """The part of the ring of locations that the weightings, `(time, locations)`, use."""
    size = weightings[0].shape[1]
    (used,) = np.nonzero(np.concatenate(weightings).max(axis=0) > 0.5)
    if not len(used):
        return np.arange(size)
    gap = np.argmax(np.diff(used, append=used[0] + size))
    first, last = used[(gap + 1) % len(used)], used[gap]
    return (first + np.arange((last - first) % size + 1)) % size


def column(vectors, moved, weightings) -> list:
    """Three pictures, one below another, each of a matrix `(time, rows)`."""
    heights = {72: vectors, 100: moved, 280: weightings}
    return [drawn(np.transpose(rows), (height, _WIDTH)) for height, rows in heights.items()]


def of_bits(task: Task, inputs: tf.Tensor, answers: tf.Tensor, trace: Any) -> np.ndarray:
    """The picture of a sequence whose inputs are a few bits."""
    writing, reading = weightings_of(trace)
    # Padded to the height of the inputs, which also have delimiters.
    answers = np.pad(answers, [[0, 0], [0, task.input_width - task.output_width]])
    left = column(inputs[0], trace.add_vector[0, :, 0], writing)
    right = column(answers, trace.read_vectors[0, :, 0], reading)
    return pictures.stack([pictures.stack(each) for each in (left, right)], axis=1)


def of_an_episode(episode: np.ndarray, trace: Any) -> np.ndarray:
    """The picture of an episode, below the picture that the task has drawn."""
    size = 280, episode.shape[1]
    weightings = [
        pictures.heatmap(each.T, high=each.max(), size=size) for each in weightings_of(trace)
    ]
    return pictures.stack([episode, *weightings])


def weightings_of(trace: Any) -> list[np.ndarray]:
    """The largest weight of all write heads, and of all read heads, at the used locations."""
    weightings = [
        each.numpy()[0].max(axis=1) for each in (trace.write_weightings, trace.read_weightings)
    ]
    shown = used_locations(*weightings)
    return [each[:, shown] for each in weightings]


def drawn(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if np.min(values) < 0:
        return pictures.heatmap(values, -1, 1, pictures.DIVERGING, size)
    return pictures.heatmap(values, size=size)


def draw(run: pathlib.Path, size: str | None = None, seed: int = 0) -> np.ndarray:
    """The picture of one sequence processed by the machine in a run's folder.

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
        (_, meant), *_ = task.sizes(size or task.default_eval_sizes)
    except ValueError as error:
        raise ValueError(f"--size={size}: {error}") from error
    inputs, targets, mask = next(iter(task.evaluation(meant, 1, 1, seed)))
    outputs, traces = trace_model(model, inputs)
    if not traces:
        raise ValueError(f"--logdir={run} holds no machine with a memory.")
    (trace,) = traces.values()
    drawn_by_task = task.pictures(inputs, targets, outputs, mask)
    if "episode" in drawn_by_task:
        return of_an_episode(drawn_by_task["episode"][0], trace)
    answers = tf.sigmoid(outputs[0]) * mask[0][:, tf.newaxis]
    return of_bits(task, inputs, answers, trace)


def main(argv: list[str]) -> None:
    if argv[1:]:
        sys.exit(f"picture.py: unexpected argument {argv[1]!r}: flags begin with --.")
    try:
        picture = draw(pathlib.Path(os.path.expanduser(FLAGS.logdir)), FLAGS.size, FLAGS.seed)
    except ValueError as error:
        sys.exit(f"picture.py: {error}")
    pathlib.Path(os.path.expanduser(FLAGS.output)).write_bytes(tf.io.encode_png(picture).numpy())


if __name__ == "__main__":
    try:
        app.run(main)
    except OSError as error:
        sys.exit(f"picture.py: {error}")
