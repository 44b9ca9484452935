"""How long one training step takes: of the NTM layer and of others, plain and compiled by XLA.

  python benchmarks/speed.py
  python benchmarks/speed.py --batch_size=16 --length=10

The default is copy of length 20 in batches of 32: 41 time steps of a machine with 100 LSTM units
and a memory of 128 x 20. Beside the layer: its cell in keras.layers.RNN, and an LSTM of the same
width, to see what the memory costs. All are timed in turn, after a warm-up.
"""

from __future__ import annotations

import pathlib
import sys
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import ntm_keras
from ntm_keras.keras_compat import keras
from tasks.copy import Copy

FLAGS = flags.FLAGS

flags.DEFINE_integer("batch_size", 32, "Sequences of a step.", lower_bound=1)
flags.DEFINE_integer("length", 20, "Length of the sequences to copy.", lower_bound=1)
flags.DEFINE_integer("repeats", 30, "How often to time each.", lower_bound=1)


def layers(bits: int) -> dict:
    """Functions that make the layers to time, by name, and whether XLA compiles the step."""
    sizes = {"memory_size": 128, "memory_vector_dim": 20, "read_head_num": 1, "write_head_num": 1}

    def ntm():
        return ntm_keras.NTM(100, **sizes, output_dim=bits, return_sequences=True)

    def rnn():
        cell = ntm_keras.NTMCell(100, **sizes, output_dim=bits)
        return keras.layers.RNN(cell, return_sequences=True)

    def lstm():
        layer = keras.layers.LSTM(100, return_sequences=True)
        return keras.Sequential([layer, keras.layers.Dense(bits)])

    return {
        "NTM, plain graph": (ntm, False),
        "NTM, XLA": (ntm, True),
        "RNN(NTMCell), plain graph": (rnn, False),
        "RNN(NTMCell), XLA": (rnn, True),
        "LSTM, XLA": (lstm, True),
    }


def make_step(task: Copy, make_layer, jit_compile: bool):
    """A function that does one training step on a batch, as `model.fit` does it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([None, task.input_width]), make_layer()])
    loss_of = ntm_keras.BitCrossentropy()
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=10)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step(inputs, targets, mask):
        with tf.GradientTape() as tape:
            loss = loss_of(targets, model(inputs, training=True), mask)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    return step


def milliseconds(step, batch) -> float:
    start = time.perf_counter()
    step(*batch).numpy()
    return 1e3 * (time.perf_counter() - start)


def main(_) -> None:
    task = Copy()
    batch = next(iter(task.evaluation(FLAGS.length, FLAGS.batch_size, FLAGS.batch_size, seed=0)))
    steps = {name: make_step(task, *kind) for name, kind in layers(task.bits).items()}
    first = {name: milliseconds(step, batch) for name, step in steps.items()}
    times = {name: [] for name in steps}
    for _ in range(FLAGS.repeats):
        for name, step in steps.items():
            times[name].append(milliseconds(step, batch))
    print(f"{'':26} {'median ms':>10} {'fastest':>10} {'slowest':>10} {'first':>10}")
    for name, taken in times.items():
        median, fastest, slowest = np.median(taken), min(taken), max(taken)
        print(f"{name:26} {median:10.1f} {fastest:10.1f} {slowest:10.1f} {first[name]:10.0f}")
    share = np.median(np.divide(times["NTM, XLA"], times["NTM, plain graph"]))
    print(f"The NTM's step takes {share:.0%} of the plain one under XLA (median of the pairs).")


if __name__ == "__main__":
    app.run(main)
