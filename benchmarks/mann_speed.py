"""Times a training step of the memory-augmented network on episodes like Omniglot's.

  python benchmarks/mann_speed.py

It is timed as one program, and in `SideBySide` with two parts, as train.py trains it on two cores.
For comparison, in turn in the same process: the same maths with Python loops over heads and time as
a plain graph, as implementations are commonly written (yardstick.py); and an LSTM of the same
width, the cost of a controller alone.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

FLAGS = flags.FLAGS

for _name, _default, _help in (
    ("repeats", 20, "How often to time each program."),
    ("batch_size", 16, "Episodes in a step."),
    ("length", 50, "Drawings in an episode."),
    ("rnn_size", 200, "Width of the controller."),
    ("memory_size", 128, "Number of memory locations."),
    ("memory_vector_dim", 40, "Width of a location."),
    ("head_num", 4, "Number of heads."),
):
    flags.DEFINE_integer(_name, _default, _help, 1, 100_000)

flags.register_multi_flags_validator(
    ["memory_size", "head_num"],
    lambda sizes: sizes["memory_size"] >= sizes["head_num"],
    "memory_size must be at least head_num: each head has a least used location",
)

_PIXELS, _LABELS = 400, 5


def make_layers() -> dict[str, tuple[Any, bool]]:
    """A dict from name to a layer and whether it is compiled by XLA."""
    from yardstick import PlainMANN

    from ntm_keras import MANN, SideBySide
    from ntm_keras.keras_compat import IS_KERAS_2, keras

    sizes = FLAGS.rnn_size, FLAGS.memory_size, FLAGS.memory_vector_dim, FLAGS.head_num
    ours = {"learned_key_strength": True, "return_sequences": True}
    side_by_side = (
        {} if IS_KERAS_2 else {"SideBySide(MANN), XLA": (SideBySide(MANN(*sizes, **ours)), False)}
    )
    return {
        **side_by_side,
        "MANN, XLA": (MANN(*sizes, **ours), True),
        "MANN, plain graph": (MANN(*sizes, **ours), False),
        "Python loops, plain graph": (PlainMANN(*sizes), False),
        "LSTM, XLA": (keras.layers.LSTM(FLAGS.rnn_size, return_sequences=True), True),
    }


def make_step(layer: Any, xla: bool) -> Callable:
    """A training step with Adam, as in `model.fit`."""
    import tensorflow as tf

    from ntm_keras import LabelCrossentropy
    from ntm_keras.keras_compat import keras

    width = [FLAGS.length, _PIXELS + _LABELS]
    model = keras.Sequential([keras.Input(width), layer, keras.layers.Dense(_LABELS)])
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=10)
    optimizer.build(model.trainable_variables)
    loss_of = LabelCrossentropy()

    @tf.function(jit_compile=xla)
    def step(inputs, targets):
        with tf.GradientTape() as tape:
            loss = loss_of(targets, model(inputs, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    return step


def main(argv: list[str]) -> None:
    if argv[1:]:
        sys.exit(f"mann_speed.py: unexpected argument {argv[1]!r}: flags begin with --.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(0)
    shape = FLAGS.batch_size, FLAGS.length
    labels = np.eye(_LABELS, dtype="float32")[random.integers(0, _LABELS, shape)]
    images = random.uniform(size=[*shape, _PIXELS]).astype("float32")
    batch = tf.constant(np.concatenate([images, labels], axis=-1)), tf.constant(labels)

    def milliseconds(step):
        start = time.perf_counter()
        step(*batch).numpy()
        return 1e3 * (time.perf_counter() - start)

    steps = {name: make_step(*made) for name, made in make_layers().items()}
    first = {name: milliseconds(step) for name, step in steps.items()}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(FLAGS.repeats):
        for name, step in steps.items():
            taken[name].append(milliseconds(step))
    print("| | a training step, median (quartiles), ms | to the first step, s |")
    print("| --- | --- | --- |")
    for name, times in taken.items():
        low, median, high = np.percentile(times, [25, 50, 75])
        print(f"| {name} | {median:.1f} ({low:.1f}-{high:.1f}) | {first[name] / 1e3:.1f} |")


if __name__ == "__main__":
    app.run(main)
