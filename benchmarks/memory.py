"""Prints the memory that models and traces leave behind when they are dropped.

  python benchmarks/memory.py

For an NTM and a MANN it makes `count` small models, calls `predict` and drops them. It prints how
much the process grows between the tenth model and the last. It does the same for traces of one
layer with its gradient, each at another length. TensorFlow itself keeps a little of every graph,
and more of a larger one. So it does the same for an LSTM, and for five of them, whose graph is
about as large as an NTM's.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from ntm_keras import MANN, NTM
from ntm_keras.keras_compat import keras

FLAGS = flags.FLAGS

flags.DEFINE_integer("count", 60, "How many models, and how many traces.", lower_bound=11)

_WIDTH = 4
_LAYERS = {
    "LSTM": lambda: keras.layers.LSTM(5),
    "5 LSTMs": lambda: keras.Sequential(
        [keras.layers.LSTM(5, return_sequences=True) for _ in range(5)]
    ),
    "NTM": lambda: NTM(5, memory_size=8, memory_vector_dim=4, read_head_num=1, write_head_num=1),
    "MANN": lambda: MANN(5, memory_size=8, memory_vector_dim=4, head_num=1),
}


def models(make: Callable[[], keras.layers.Layer]) -> Iterator[None]:
    """Makes, uses and drops a model in each iteration."""
    inputs = np.ones([2, 3, _WIDTH], "float32")
    while True:
        model = keras.Sequential([keras.Input([None, _WIDTH]), make()])
        model.predict(inputs, verbose=0)
        del model
        keras.backend.clear_session()
        yield


def traces(make: Callable[[], keras.layers.Layer]) -> Iterator[None]:
    """Traces a layer with its gradient, at another length in each iteration."""
    layer = make()
    length = 1
    while True:
        inputs = tf.ones([2, length, _WIDTH])
        length += 1

        @tf.function
        def gradients(sequences):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(sequences))
            return tape.gradient(loss, layer.trainable_weights)

        gradients(inputs)
        del gradients
        yield


def growth(uses: Iterator[None]) -> float:
    """The mebibytes by which the process grows between the tenth use and the last."""
    for _ in range(10):
        next(uses)
    before = _resident()
    for _ in range(FLAGS.count - 10):
        next(uses)
    return _resident() - before


def _resident() -> float:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # Other C libraries than glibc.
        ctypes.CDLL(None).malloc_trim(0)  # Otherwise freed memory counts as well.
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(argv: list[str]) -> None:
    if argv[1:]:
        sys.exit(f"memory.py: unexpected argument {argv[1]!r}: flags begin with --.")
    tf.get_logger().setLevel("ERROR")  # It warns of many traces; they are intended.
    print(f"MiB by which the process grows between the 10th and the {FLAGS.count}th")
    print(f"{'':7}{'model':>8}{'trace':>8}")
    for name, make in _LAYERS.items():
        print(f"{name:7}{growth(models(make)):8.1f}{growth(traces(make)):8.1f}", flush=True)


if __name__ == "__main__":
    app.run(main)
