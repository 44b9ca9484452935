"""Measures what there is to know of a GPU, in a few minutes; without one of the CPU, in more.

  python benchmarks/gpu.py
  python benchmarks/gpu.py --backends=jax --batches=32 --nosolve

On TensorFlow, under XLA, and on JAX: whether a cell agrees with the recorded steps of snowkylin's,
how long a training step of copy takes with an NTM, its cell in keras.layers.RNN, and an LSTM, in
single and in mixed precision, and how long it takes to learn to copy. Every backend has processes
of its own.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

FLAGS = flags.FLAGS

flags.DEFINE_multi_enum("backends", ["tensorflow", "jax"], ["tensorflow", "jax"], "On what.")
flags.DEFINE_list("batches", ["32", "512"], "Sequences in a training step.")
flags.DEFINE_float("seconds", 2.0, "How long to time each program.", lower_bound=0.1)
flags.DEFINE_bool("solve", True, "Whether to learn to copy.")
flags.DEFINE_bool("in_process", False, "Time the training steps on this process's backend.")

_LENGTH, _BITS, _UNITS = 20, 8, 100
_MACHINE = (_UNITS, 128, 20, 1, 1)
_PRECISIONS = ("float32", "mixed_bfloat16")
_CONTESTANTS = ("NTM", "RNN(NTMCell)", "LSTM")

# Steps in one call of the compiled training function, as in a run of train.py.
_STEPS = 10


# The following runs in a process with the backend.


def make_layers(contestant: str) -> list[Any]:
    import ntm_keras
    from ntm_keras.keras_compat import keras

    if contestant == "LSTM":
        lstm = keras.layers.LSTM(_UNITS, return_sequences=True)
        return [lstm, keras.layers.Dense(_BITS)]
    if contestant == "NTM":
        return [ntm_keras.NTM(*_MACHINE, output_dim=_BITS, return_sequences=True)]
    cell = ntm_keras.NTMCell(*_MACHINE, output_dim=_BITS)
    return [keras.layers.RNN(cell, return_sequences=True)]


def step_ms(contestant: str, precision: str, batch_size: int, seconds: float) -> float:
    """Milliseconds of a training step, in `model.fit`."""
    import ntm_keras
    from ntm_keras.keras_compat import keras
    from tasks.copy import Copy

    keras.mixed_precision.set_global_policy(precision)
    model = keras.Sequential([keras.Input([None, _BITS + 1]), *make_layers(contestant)])
    model.compile(
        keras.optimizers.Adam(1e-3, global_clipnorm=10),
        ntm_keras.BitCrossentropy(),
        jit_compile=True,
        steps_per_execution=_STEPS,
    )
    batches = Copy().evaluation(_LENGTH, batch_size, batch_size, seed=0).cache().repeat()

    def fit(steps: int) -> float:
        start = time.perf_counter()
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
        return time.perf_counter() - start

    fit(_STEPS)  # It compiles.
    calls = max(1, round(seconds / fit(_STEPS)))
    return 1e3 * fit(calls * _STEPS) / (calls * _STEPS)


def print_times() -> None:
    """Prints the device, then a line of JSON for each precision and batch size."""
    print(json.dumps({"device": device()}), flush=True)
    for precision in _PRECISIONS:
        for size in map(int, FLAGS.batches):
            times = {name: step_ms(name, precision, size, FLAGS.seconds) for name in _CONTESTANTS}
            print(json.dumps({"precision": precision, "batch": size, **times}), flush=True)


def device() -> str:
    from ntm_keras.keras_compat import IS_TENSORFLOW

    if IS_TENSORFLOW:
        import tensorflow as tf

        (*_, last) = tf.config.list_physical_devices()
        return tf.config.experimental.get_device_details(last).get("device_name", last.device_type)
    import jax

    return jax.devices()[0].device_kind


# The following starts these processes, and reports.


def run(backend: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True
    )


def last_line(finished: subprocess.CompletedProcess) -> str:
    said = finished.stdout if finished.returncode == 0 else finished.stderr or finished.stdout
    return said.strip().splitlines()[-1] if said.strip() else f"status {finished.returncode}"


def print_steps(backend: str) -> None:
    arguments = [f"--batches={','.join(FLAGS.batches)}", f"--seconds={FLAGS.seconds}"]
    finished = run(backend, __file__, "--in_process", *arguments)
    if finished.returncode:
        print(f"{backend}: no times: {last_line(finished)}")
        return
    first, *rows = map(json.loads, finished.stdout.splitlines())
    print(f"{backend} on {first['device']}: ms of a training step of copy\n")
    print(f"| precision | batch | {' | '.join(_CONTESTANTS)} |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        times = " | ".join(f"{row[name]:.2f}" for name in _CONTESTANTS)
        print(f"| {row['precision']} | {row['batch']} | {times} |")
    print(flush=True)


def print_solved(backend: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        finished = run(backend, "train.py", "--task=copy", f"--logdir={folder}/run")
        if finished.returncode:
            print(f"{backend}: copy ended: {last_line(finished)}")
            return
        result = json.loads((pathlib.Path(folder) / "run" / "result.json").read_text())
    solved = "solved" if result["solved"] else "not solved"
    steps, seconds = result["steps"], result["seconds"]
    print(f"{backend}: copy {solved} after {steps} steps, {seconds:.0f} seconds", flush=True)


def main(argv: list[str]) -> None:
    if argv[1:]:
        sys.exit(f"gpu.py: unexpected argument {argv[1]!r}: flags begin with --.")
    if not all(each.isdigit() and int(each) > 0 for each in FLAGS.batches):
        sys.exit(f"gpu.py: --batches={','.join(FLAGS.batches)} must be whole numbers above 0.")
    if FLAGS.in_process:
        print_times()
        return
    for backend in FLAGS.backends:
        golden = run(backend, "-m", "pytest", "-q", "tests/test_snowkylin.py")
        print(f"{backend}: recorded steps of snowkylin's cell: {last_line(golden)}\n", flush=True)
        print_steps(backend)
        if FLAGS.solve:
            print_solved(backend)
        print()


if __name__ == "__main__":
    app.run(main)
