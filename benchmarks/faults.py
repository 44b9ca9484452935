"""Kills runs at random moments, damages checkpoints at random places, and prints the results.

  python benchmarks/faults.py                          about a quarter of an hour
  python benchmarks/faults.py --kills=5 --damages=10

A run is killed with SIGKILL, started again in its own folder, and killed again until it ends. All
variables of its last checkpoint must equal those of the same run without a kill. Then another run
begins, until there were enough kills. To damage a checkpoint, the last one of a training is cut
short, or one of its bits is flipped. The damage must be noticed and named, and training must go on
from the checkpoint before. If a test fails, the program ends with status 1.
"""

from __future__ import annotations

import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

import numpy as np
from absl import app, flags, logging

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

FLAGS = flags.FLAGS
flags.DEFINE_integer("kills", 50, "How often runs are killed.", lower_bound=0)
flags.DEFINE_integer("damages", 100, "How many checkpoints are damaged.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of the moments and places.")

# A small run that writes often: it validates and writes a checkpoint every 20 steps.
_RUN = (
    "--task=copy --steps=4000 --validate_every=20 --checkpoint_seconds=0 --max_length=3 --bits=3"
    " --rnn_size=16 --memory_size=16 --memory_vector_dim=8 --batch_size=16 --ema_momentum=0.9"
    " --weight_noise=0.01 --eval_sequences=64 --eval_sizes=3 --solved_below=1e-9"
).split()


def start(logdir: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "train.py"), *_RUN, f"--logdir={logdir}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end(process: subprocess.Popen) -> None:
    if process.wait() != 0:
        sys.exit(f"faults.py: train.py ended with status {process.returncode}.")


def seconds_to_first_checkpoint(logdir: pathlib.Path) -> float:
    """Lets a run end; returns the seconds until its first checkpoint."""
    began, process = time.monotonic(), start(logdir)
    while not list(logdir.glob("checkpoints/*.sha256")):
        time.sleep(0.05)
        if process.poll() is not None:
            sys.exit("faults.py: train.py ended before its first checkpoint.")
    kept = time.monotonic() - began
    end(process)
    return kept


def kill_once(logdir: pathlib.Path, latest: float) -> str:
    """Starts a run and kills it at a random moment; returns what it was doing, or "over"."""
    process = start(logdir)
    try:
        process.wait(random.uniform(0, latest))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    else:
        end(process)
        return "over"
    names = {path.name.split(".")[0] for path in logdir.glob("checkpoints/*")}
    whole = {path.stem for path in logdir.glob("checkpoints/*.sha256")}
    return "writing" if names - whole or list(logdir.glob("*.part*")) else "at work"


def last_state(logdir: pathlib.Path) -> dict[str, np.ndarray]:
    """All variables of the last checkpoint, except the seconds of training."""
    import tensorflow as tf

    path = max(logdir.glob("checkpoints/*.index"))
    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    return {name: reader.get_tensor(name) for name in names if "seconds" not in name}


def are_equal(state: dict[str, Any], other: dict[str, Any]) -> bool:
    return state.keys() == other.keys() and all(
        np.array_equal(value, other[name]) for name, value in state.items()
    )


def kill_until_over(logdir: pathlib.Path, latest: float, at_most: int) -> list[str]:
    """Kills a run again and again until it ends, at most `at_most` times."""
    found: list[str] = []
    while len(found) < at_most:
        doing = kill_once(logdir, latest)
        if doing == "over":
            return found
        found.append(doing)
        steps = [path.stem for path in logdir.glob("checkpoints/*.sha256")]
        print(f"killed: {doing}, {max(steps, default='no checkpoint')}", flush=True)
    end(start(logdir))
    return found


def kill(folder: pathlib.Path) -> bool:
    """Whether all runs that were killed ended like a run that was not."""
    # Half of the kills come while a run starts or restores its last checkpoint.
    latest = 2 * seconds_to_first_checkpoint(folder / "whole")
    expected = last_state(folder / "whole")
    found: list[str] = []
    runs = equal = 0
    while len(found) < FLAGS.kills:
        killed = folder / f"killed-{runs}"
        found += kill_until_over(killed, latest, FLAGS.kills - len(found))
        runs += 1
        equal += are_equal(expected, last_state(killed))
        print(f"run {runs} over: {equal} of {runs} equal", flush=True)
    counts = ", ".join(f"{found.count(each)} {each}" for each in ("at work", "writing"))
    print(f"\n{len(found)} kills ({counts}): {equal} of {runs} runs equal in the end\n")
    return equal == runs


class Training:
    """The training of a small machine, with checkpoints in a folder."""

    def __init__(self):
        import tensorflow as tf

        from ntm_keras import NTM
        from ntm_keras.keras_compat import keras

        keras.utils.set_random_seed(0)
        self.inputs = tf.random.normal([8, 5, 3])
        self.model = keras.Sequential([keras.Input([5, 3]), NTM(8, 8, 4, 1, 1)])
        self.model.compile("adam", "mse")

    def go_on(self, folder: pathlib.Path, until: int) -> tuple[list[np.ndarray], list[str]]:
        """Trains on from the last whole checkpoint; returns the weights and the warnings."""
        from ntm_keras.callbacks import Checkpoints

        checkpoints = Checkpoints(str(folder), seconds=0.0)
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            step = checkpoints.restore(self.model)
        self.model.fit(
            self.inputs,
            self.inputs[:, 0],
            batch_size=8,
            initial_epoch=step,
            epochs=until,
            callbacks=[checkpoints],
            verbose=0,
            shuffle=False,
        )
        return self.model.get_weights(), [str(each.message) for each in complaints]


def damage(folder: pathlib.Path, step: int) -> str:
    """Cuts a file of a checkpoint, or flips a bit in it; returns what was done."""
    path = random.choice(sorted(folder.glob(f"step-{step:09d}.*")))
    content = bytearray(path.read_bytes())
    place = random.randrange(len(content))
    if random.random() < 0.5:
        content, done = content[:place], f"{path.name} cut to {place} bytes"
    else:
        content[place] ^= 1 << random.randrange(8)
        done = f"byte {place} of {path.name} flipped"
    path.write_bytes(content)
    return done


def damage_checkpoints(folder: pathlib.Path) -> bool:
    """Whether all damages were named and training went on from the checkpoint before."""
    training, good = Training(), folder / "good"
    expected, _ = training.go_on(good, until=3)
    survived = 0
    for number in range(FLAGS.damages):
        damaged = folder / "damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(good, damaged)
        done = damage(damaged, step=3)
        weights, complaints = training.go_on(damaged, until=3)
        named = len(complaints) == 1 and "step-000000003 is damaged" in complaints[0]
        equal = all(np.array_equal(weight, other) for weight, other in zip(weights, expected))
        survived += named and equal
        if not (named and equal):
            print(f"damage {number + 1}, {done}: NOT SURVIVED, {complaints}")
    print(f"{survived} of {FLAGS.damages} damages noticed, named and survived")
    return survived == FLAGS.damages


def main(argv: list[str]) -> None:
    if argv[1:]:
        sys.exit(f"faults.py: unexpected argument {argv[1]!r}.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.WARNING)
    random.seed(FLAGS.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        survived = [damage_checkpoints(folder), kill(folder)]
    sys.exit(0 if all(survived) else 1)


if __name__ == "__main__":
    try:
        app.run(main)
    except OSError as error:
        sys.exit(f"faults.py: {error}")
