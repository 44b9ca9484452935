"""Measures a GPU in a few minutes; without one the CPU, in more.

  python benchmarks/gpu.py
  python benchmarks/gpu.py --backends=jax --batches=32 --nosolve

On TensorFlow, under XLA, and on JAX: whether a cell agrees with the recorded steps of snowkylin's,
how long a training step of copy takes with an NTM, its cell in keras.layers.RNN, and an LSTM, in
single and in mixed precision, and how long it takes to learn to copy. On PyTorch, with
--backends=torch: the same without learning. Every backend has processes of its own, which are
ended after five minutes.
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

flags.DEFINE_multi_enum(
    "backends", ["tensorflow", "jax"], ["tensorflow", "jax", "torch"], "On what."
)
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

# A process that takes longer is ended.
_SECONDS_AT_MOST = 300

# Recorded steps are compared to 1e-5; the products of a GPU's TF32 differ by more.
_WITHOUT_TF32 = {"NVIDIA_TF32_OVERRIDE": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


# The following runs in a process with the backend.


def make_layers(contestant: str) -> list[Any]:
    import ntm_keras
    from ntm_keras.keras_compat import keras

    if contestant == "LSTM":  # cuDNN's is not compiled by XLA, and knows no bfloat16 on JAX.
        lstm = keras.layers.LSTM(_UNITS, return_sequences=True, use_cudnn=False)
        return [lstm, keras.layers.Dense(_BITS)]
    if contestant == "NTM":
        return [ntm_keras.NTM(*_MACHINE, output_dim=_BITS, return_sequences=True)]
    cell = ntm_keras.NTMCell(*_MACHINE, output_dim=_BITS)
    return [keras.layers.RNN(cell, return_sequences=True)]


def step_ms(contestant: str, precision: str, batch_size: int, seconds: float) -> float:
    """Milliseconds of a training step, in a `model.fit` that takes at least so many seconds."""
    import ntm_keras
    from ntm_keras.keras_compat import keras
    from tasks.copy import Copy

    is_compiled = keras.backend.backend() != "torch"
    keras.mixed_precision.set_global_policy(precision)
    model = keras.Sequential([keras.Input([None, _BITS + 1]), *make_layers(contestant)])
    model.compile(
        keras.optimizers.Adam(1e-3, global_clipnorm=10),
        ntm_keras.BitCrossentropy(),
        jit_compile=is_compiled,
        steps_per_execution=_STEPS if is_compiled else 1,
    )
    batches = Copy().evaluation(_LENGTH, batch_size, batch_size, seed=0).cache().repeat()

    def fit(steps: int) -> float:
        start = time.perf_counter()
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
        return time.perf_counter() - start

    fit(_STEPS)  # It compiles.
    steps = _STEPS
    while (taken := fit(steps)) < seconds:
        steps *= 2
    return 1e3 * taken / steps


def print_times() -> None:
    """Prints a table with a row for each precision and batch size, each as soon as it is known."""
    from ntm_keras.keras_compat import keras
    from training.distribution import leave_gpus_to_keras

    backend = keras.backend.backend()
    leave_gpus_to_keras()
    print(f"{backend} on {device(backend)}: ms of a training step of copy\n")
    print(f"| precision | batch | {' | '.join(_CONTESTANTS)} |\n| --- | --- | --- | --- | --- |")
    for precision in _PRECISIONS:
        for size in map(int, FLAGS.batches):
            times = [time_or_reason(name, precision, size) for name in _CONTESTANTS]
            print(f"| {precision} | {size} | {' | '.join(times)} |", flush=True)


def time_or_reason(*program: Any) -> str:
    """The time of a program; of one that fails the beginning of its error."""
    try:
        return f"{step_ms(*program, FLAGS.seconds):.2f}"
    except Exception as error:
        return f"failed: {' '.join(str(error).split())[:80]}"


def device(backend: str) -> str:
    import tensorflow as tf

    if backend == "tensorflow":
        (*_, last) = tf.config.list_physical_devices()
        return tf.config.experimental.get_device_details(last).get("device_name", last.device_type)
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    import jax

    return jax.devices()[0].device_kind


# The following starts these processes, and reports.


def run(backend: str, *arguments: str, stdout: Any = subprocess.PIPE, **environment: str) -> Any:
    """The process on a backend, after its end."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "KERAS_BACKEND": backend, **environment}
    try:
        return subprocess.run(
            command,
            env=environment,
            cwd=ROOT,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_SECONDS_AT_MOST,
        )
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def last_lines(text: str, count: int) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def print_golden(backend: str) -> None:
    found = run(backend, "-m", "pytest", "-q", "tests/test_snowkylin.py", **_WITHOUT_TF32)
    said = last_lines(found.stdout, 1) or last_lines(found.stderr, 10)
    print(f"{backend}: recorded steps of snowkylin's cell: {said}\n", flush=True)


def print_steps(backend: str) -> None:
    arguments = [f"--batches={','.join(FLAGS.batches)}", f"--seconds={FLAGS.seconds}"]
    found = run(backend, __file__, "--in_process", *arguments, stdout=None)
    if found.returncode:
        print(f"{backend}: ended: {last_lines(found.stderr, 10)}")
    print(flush=True)


def print_solved(backend: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = run(backend, "train.py", "--task=copy", f"--logdir={folder}/run")
        if found.returncode:
            print(f"{backend}: copy ended: {last_lines(found.stderr, 10)}")
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
        print_golden(backend)
        print_steps(backend)
        if FLAGS.solve and backend != "torch":
            print_solved(backend)
        print()


if __name__ == "__main__":
    app.run(main)
