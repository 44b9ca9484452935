"""Draws what a trained machine does with one sequence, after the paper's figure 6.

  python benchmarks/picture.py --logdir=runs/copy/.. --output=docs/copy.png

Left, from the top: inputs, what the write head adds, where it writes. Right: outputs, what the read
head reads, where it reads. Time runs across; locations run down, as many as twice the length.
"""

from __future__ import annotations

import pathlib
import sys

import tensorflow as tf
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import ntm_keras
from ntm_keras import pictures
from ntm_keras.keras_compat import keras
from tasks.copy import Copy

FLAGS = flags.FLAGS

flags.DEFINE_string("logdir", None, "The run's folder.", required=True)
flags.DEFINE_string("output", "docs/copy.png", "Where to write the picture.")
flags.DEFINE_integer("length", 20, "Length of the sequence to copy.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of the sequence.")

_WIDTH = 410


def column(vectors, moved, weightings) -> list:
    """Three pictures, one below the other: `(time, rows)` each, the last in the dark colours."""
    values = [tf.transpose(each).numpy() for each in (vectors, moved, weightings)]
    return [
        pictures.heatmap(values[0], size=(72, _WIDTH)),
        pictures.heatmap(values[1], -1, 1, pictures.DIVERGING, (100, _WIDTH)),
        pictures.heatmap(values[2], size=(280, _WIDTH)),
    ]


def main(_) -> None:
    path = str(pathlib.Path(FLAGS.logdir) / "model.keras")
    layer = keras.models.load_model(path, compile=False).get_layer("ntm")
    task = Copy()
    inputs, _, mask = next(iter(task.evaluation(FLAGS.length, 1, 1, FLAGS.seed)))
    trace = ntm_keras.trace(layer.cell, inputs)
    answers = tf.sigmoid(trace.outputs[0]) * mask[0][:, tf.newaxis]
    answers = tf.pad(answers, [[0, 0], [0, 1]])  # as high as the inputs, which have a delimiter
    shown = 2 * FLAGS.length
    write_weightings = trace.write_weightings[0, :, 0, :shown]
    read_weightings = trace.read_weightings[0, :, 0, :shown]
    left = column(inputs[0], trace.add_vector[0, :, 0], write_weightings)
    right = column(answers, trace.read_vectors[0, :, 0], read_weightings)
    columns = [pictures.stack(each) for each in (left, right)]
    tf.io.write_file(FLAGS.output, tf.io.encode_png(pictures.stack(columns, axis=1)))


if __name__ == "__main__":
    app.run(main)
