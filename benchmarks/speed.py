"""Measures how long the Neural Turing Machine takes, and how the time grows with its sizes.

  python benchmarks/speed.py                      everything: about half an hour
  python benchmarks/speed.py --axes=              only the default sizes
  python benchmarks/speed.py --axes=length --batch_size=8

Times a training step and a forward pass, as a plain graph and compiled by XLA, of

  SideBySide(NTM)   the layer, with a batch in two parts, each compiled separately
  NTM               the layer
  RNN(NTMCell)      its cell in keras.layers.RNN
  yardstick         a cell as in the paper, in keras.layers.RNN (yardstick.py)
  LSTM              Keras's, as wide as the controller, with a projection: the cost without memory

on the copy task. Then it varies one size after another, for the compiled training step. Programs
that are compared are timed in turn, in one process; each setting has its own process. Prints
tables, and writes FOLDER/speed.jsonl, a line for each figure, and FOLDER/growth.png.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

FLAGS = flags.FLAGS


class Setting(NamedTuple):
    """The sizes to time; `heads` is the number of read heads, and of write heads."""

    batch_size: int = 32
    length: int = 20
    memory_size: int = 128
    memory_vector_dim: int = 20
    heads: int = 1


AXES: dict[str, list[dict[str, int]]] = {
    "batch_size": [{"batch_size": n} for n in (1, 4, 16, 64, 128)],
    "length": [{"length": n} for n in (5, 10, 40, 80, 120)],
    "memory": [
        {"memory_size": locations, "memory_vector_dim": width}
        for locations, width in ((256, 20), (512, 32), (1024, 32), (2048, 64))
    ],
    "heads": [{"heads": n} for n in (2, 4, 8)],
}
IN_PARTS = "SideBySide(NTM)"
CONTESTANTS = (IN_PARTS, "NTM", "RNN(NTMCell)", "yardstick", "LSTM")

_BITS, _UNITS = 8, 100
_DESCRIPTIONS = {
    "batch_size": "Sequences in a step.",
    "length": "Length of the sequences to copy.",
    "memory_size": "Number of memory locations.",
    "memory_vector_dim": "Width of a location.",
    "heads": "Number of read heads, and of write heads.",
}

for _name, _default in Setting()._asdict().items():
    _least = 3 if _name == "memory_size" else 1  # A head shifts to either side.
    flags.DEFINE_integer(_name, _default, _DESCRIPTIONS[_name], _least, 100_000)
flags.DEFINE_multi_enum("contestants", list(CONTESTANTS), list(CONTESTANTS), "What to time.")
flags.DEFINE_list("axes", list(AXES), f"Which sizes to vary, of {', '.join(AXES)}.")
flags.DEFINE_integer("repeats", 30, "How often to time each program.", 1, 10**6)
flags.DEFINE_string("device", "CPU:0", "The device, as TensorFlow names it.")
flags.DEFINE_string("folder", "runs/speed", "Where to write.")
flags.register_validator(
    "axes", lambda axes: set(axes) <= set(AXES), f"must be some of {', '.join(AXES)}"
)


class Job(NamedTuple):
    """What one process times: for each contestant these programs, as (what, xla)."""

    setting: Setting
    contestants: list[str]
    programs: list[tuple[str, bool]]
    repeats: int
    device: str


ALL_PROGRAMS = [(what, xla) for what in ("training", "forward") for xla in (True, False)]


# The following runs in separate processes, which import TensorFlow.


def make_layer(contestant: str, setting: Setting) -> Any:
    from yardstick import PlainNTMCell

    import ntm_keras
    from ntm_keras.keras_compat import keras

    memory = (setting.memory_size, setting.memory_vector_dim)
    heads = (setting.heads, setting.heads)
    if contestant in ("NTM", IN_PARTS):
        ntm = ntm_keras.NTM(_UNITS, *memory, *heads, output_dim=_BITS, return_sequences=True)
        return ntm_keras.SideBySide(ntm) if contestant == IN_PARTS else ntm
    if contestant == "LSTM":
        lstm = keras.layers.LSTM(_UNITS, return_sequences=True)
        return keras.Sequential([lstm, keras.layers.Dense(_BITS)])
    if contestant == "yardstick":
        cell = PlainNTMCell(_UNITS, *memory, setting.heads, _BITS)
    else:
        cell = ntm_keras.NTMCell(_UNITS, *memory, *heads, output_dim=_BITS)
    return keras.layers.RNN(cell, return_sequences=True)


def make_program(contestant: str, setting: Setting, what: str, xla: bool) -> Callable:
    """A function that does one step on a batch, like `model.fit` or `model.predict`."""
    import tensorflow as tf

    import ntm_keras
    from ntm_keras.keras_compat import keras

    if contestant == IN_PARTS:
        xla = False  # SideBySide compiles its parts itself.
    keras.utils.set_random_seed(0)
    layer = make_layer(contestant, setting)
    model = keras.Sequential([keras.Input([None, _BITS + 1]), layer])
    if what == "forward":
        return tf.function(lambda inputs, targets, mask: model(inputs), jit_compile=xla)
    loss_of = ntm_keras.BitCrossentropy()
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=10)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=xla)
    def step(inputs, targets, mask):
        with tf.GradientTape() as tape:
            loss = loss_of(targets, model(inputs, training=True), mask)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    return step


def seconds(program: Callable, batch: tuple) -> float:
    start = time.perf_counter()
    program(*batch).numpy()
    return time.perf_counter() - start


def timed(job: Job) -> list[dict[str, Any]]:
    """A record for each program of each contestant: all are built, then timed in turn."""
    import numpy as np
    import tensorflow as tf

    from tasks.copy import Copy

    setting = job.setting
    data = Copy().evaluation(setting.length, setting.batch_size, setting.batch_size, seed=0)
    keys = [
        (name, what, xla)
        for name in job.contestants
        for what, xla in job.programs
        if xla or name != IN_PARTS
    ]
    with tf.device(job.device):
        batch = tuple(tf.identity(each) for each in next(iter(data)))
        programs = {key: make_program(key[0], setting, *key[1:]) for key in keys}
        first = {key: seconds(program, batch) for key, program in programs.items()}
        taken: dict[tuple, list[float]] = {key: [] for key in keys}
        for _ in range(job.repeats):
            for key, program in programs.items():
                taken[key].append(1e3 * seconds(program, batch))
    records = []
    for contestant, what, xla in keys:
        times = taken[contestant, what, xla]
        low, median, high = np.percentile(times, [25, 50, 75])
        figures = {
            "median_ms": round(median, 3),
            "quartiles_ms": [round(low, 3), round(high, 3)],
            "first_s": round(first[contestant, what, xla], 2),
        }
        if len(keys) == 1:
            # The process's peak, on Linux in KiB.
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            figures["peak_mib"] = round(peak / 1024)
        records.append(
            {"contestant": contestant, "what": what, "xla": xla, **setting._asdict(), **figures}
        )
    return records


def devices() -> list[str]:
    import tensorflow as tf

    return [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]


def is_keras_2() -> bool:
    from ntm_keras.keras_compat import IS_KERAS_2

    return IS_KERAS_2


def matrix_products_per_second(device: str) -> float:
    """Floating-point operations per second, in products of two large matrices."""
    import tensorflow as tf

    size = 2048
    with tf.device(device):
        matrix = tf.random.normal([size, size])
        product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
        best = min(seconds(product, ()) for _ in range(5))
    return 2 * size**3 / best


# The following starts these processes and reports.


def in_process(function: Callable, *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def operations(setting: Setting) -> int:
    """Floating-point operations of a training step, counting only products and the memory.

    The backward pass costs twice the forward pass.
    """
    locations, width, heads = setting.memory_size, setting.memory_vector_dim, 2 * setting.heads
    into_controller = _BITS + 1 + setting.heads * width + _UNITS
    into_heads = heads * (width + 6) + setting.heads * 2 * width
    for_weights = into_controller * 4 * _UNITS + _UNITS * (into_heads + _BITS)
    # Every head compares its key with all locations. Read heads read; write heads erase and add.
    for_memory = (heads + setting.heads + 2 * setting.heads) * locations * width
    times = setting.batch_size * (2 * setting.length + 1)
    return 3 * 2 * times * (for_weights + for_memory)


def table(records: list[dict[str, Any]]) -> str:
    heads = ("", "step", "program", "median ms", "quartiles", "first, s", "peak MiB")
    rows = [
        (
            record["contestant"],
            record["what"],
            "XLA" if record["xla"] else "plain",
            f"{record['median_ms']:.1f}",
            "{:.1f}-{:.1f}".format(*record["quartiles_ms"]),
            f"{record['first_s']:.1f}",
            str(record.get("peak_mib", "")),
        )
        for record in records
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in (heads, *rows)
    )


def growth_table(axis: str, records: list[dict[str, Any]]) -> str:
    """The compiled training step's median along an axis: a row for each value."""
    rows = [["", *FLAGS.contestants]]
    for value in dict.fromkeys(position(axis, record) for record in records):
        found = [record for record in records if position(axis, record) == value]
        rows.append([label(axis, value), *(f"{record['median_ms']:.1f}" for record in found)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    title = f"\n{axis.replace('_', ' ')}: median ms of a compiled training step"
    return "\n".join([title, *("  ".join(map(str.rjust, row, widths)) for row in rows)])


def position(axis: str, record: dict[str, Any]) -> tuple[int, ...]:
    names = ("memory_size", "memory_vector_dim") if axis == "memory" else (axis,)
    return tuple(record[name] for name in names)


def label(axis: str, value: tuple[int, ...]) -> str:
    return "x".join(map(str, value))


def plot(growth: dict[str, list[dict[str, Any]]], path: pathlib.Path) -> None:
    """A panel for each axis, a line for each contestant, both scales logarithmic."""
    figure, panels = plt.subplots(
        1, len(growth), figsize=(4 * len(growth), 3.5), layout="constrained", squeeze=False
    )
    for axes, (axis, records) in zip(panels.flat, growth.items()):
        for name in FLAGS.contestants:
            own = [record for record in records if record["contestant"] == name]
            sizes = [record["memory_size"] * record["memory_vector_dim"] for record in own]
            along = sizes if axis == "memory" else [record[axis] for record in own]
            axes.loglog(along, [record["median_ms"] for record in own], "o-", label=name)
        axes.set_xlabel("numbers in the memory" if axis == "memory" else axis.replace("_", " "))
        axes.set_ylabel("training step, ms")
        axes.grid(True, which="both", alpha=0.3)
    panels.flat[0].legend()
    figure.savefig(path, dpi=90)


def main(argv: list[str]) -> None:
    if argv[1:]:
        sys.exit(f"speed.py: unexpected argument {argv[1]!r}: flags begin with --.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    there = in_process(devices)
    if FLAGS.device not in there:
        sys.exit(f"speed.py: --device={FLAGS.device} does not exist; there are {', '.join(there)}.")
    if IN_PARTS in FLAGS.contestants and in_process(is_keras_2):
        FLAGS.contestants = [name for name in FLAGS.contestants if name != IN_PARTS]
        print(f"Without {IN_PARTS}, which is for Keras 3.")
    base = Setting(*(FLAGS[name].value for name in Setting._fields))
    folder = pathlib.Path(os.path.expanduser(FLAGS.folder))
    folder.mkdir(parents=True, exist_ok=True)
    lines = (folder / "speed.jsonl").open("w", encoding="utf-8")

    def run(setting: Setting, contestants: list[str], programs: list) -> list[dict[str, Any]]:
        job = Job(setting, contestants, programs, FLAGS.repeats, FLAGS.device)
        records = in_process(timed, job)
        for record in records:
            print(json.dumps(record), file=lines, flush=True)
        return records

    print(f"{base}\n", flush=True)
    at_base = run(base, FLAGS.contestants, ALL_PROGRAMS)
    print(table(at_base))
    compiled = [record for record in at_base if record["what"] == "training" and record["xla"]]
    speed = in_process(matrix_products_per_second, FLAGS.device)
    needed = 1e3 * operations(base) / speed
    print(
        f"\nA training step needs {operations(base) / 1e9:.2f} GFLOP: {needed:.1f} ms at the"
        f" {speed / 1e9:.0f} GFLOP/s of large matrix products."
    )
    print("\nEach in its own process:", flush=True)
    print(table([run(base, [name], [("training", True)])[0] for name in FLAGS.contestants]))
    growth = {}
    for axis in FLAGS.axes:
        records = list(compiled)
        for changed in AXES[axis]:
            records += run(base._replace(**changed), FLAGS.contestants, [("training", True)])
        growth[axis] = sorted(records, key=lambda record: position(axis, record))
        print(growth_table(axis, growth[axis]), flush=True)
    if growth:
        plot(growth, folder / "growth.png")
    print(f"\nThe figures are in {folder}.")


if __name__ == "__main__":
    try:
        app.run(main)
    except OSError as error:
        sys.exit(f"speed.py: {error}")
