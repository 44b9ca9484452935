"""Kills a run at random moments, damages checkpoints at random places, and says what came of it.

  python benchmarks/faults.py                          about a quarter of an hour
  python benchmarks/faults.py --kills=5 --damages=10

A run is killed with SIGKILL, started again with its own folder, and killed again until it comes to
its end: all variables of its last checkpoint must be those of the same run without a kill. Then
another begins, until there were as many kills as asked for. The last checkpoint of a training is
cut short, or one of its bytes is flipped: that must be noticed and named, and training must go on
from the one before. Ends with status 1 where it was otherwise.
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
flags.DEFINE_integer("seed", 0, "Of the moments and places.")

# A small run that is seldom done with writing: it validates and keeps its state every 20 steps.
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


def seconds_to_first_state(logdir: pathlib.Path) -> float:
    """Lets a run end; returns after how many seconds it had kept its first state."""
    began, process = time.monotonic(), start(logdir)
    while not list(logdir.glob("checkpoints/*.sha256")):
        time.sleep(0.05)
        if process.poll() is not None:
            sys.exit("faults.py: train.py ended before it had kept a state.")
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
    """All variables of the last checkpoint, except the seconds that it took."""
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
    """Kills a run until it comes to its end in spite of it, or no more kills are wanted."""
    found: list[str] = []
    while len(found) < at_most:
        doing = kill_once(logdir, latest)
        if doing == "over":
            return found
        found.append(doing)
        steps = [path.stem for path in logdir.glob("checkpoints/*.sha256")]
        print(f"killed: {doing}, {max(steps, default='no state')}", flush=True)
    end(start(logdir))
    return found


def kill(folder: pathlib.Path) -> bool:
    """Whether runs that were killed again and again all ended like one that was not."""
    # Half of the moments are while a run starts or goes back to its last state.
    latest = 2 * seconds_to_first_state(folder / "whole")
    expected = last_state(folder / "whole")
    found: list[str] = []
    runs = equal = 0
    while len(found) < FLAGS.kills:
        killed = folder / f"killed-{runs}"
        found += kill_until_over(killed, latest, FLAGS.kills - len(found))
        runs += 1
        equal += are_equal(expected, last_state(killed))
        print(f"run {runs} over: {equal} of {runs} equal", flush=True)
    told = ", ".join(f"{found.count(each)} {each}" for each in ("at work", "writing"))
    print(f"\n{len(found)} kills ({told}): {equal} of {runs} runs equal in the end\n")
    return equal == runs


class Training:
    """A small machine in training, whose states are kept in a folder."""

    def __init__(self):
        import tensorflow as tf

        from ntm_keras import NTM
        from ntm_keras.keras_compat import keras

        keras.utils.set_random_seed(0)
        self.inputs = tf.random.normal([8, 5, 3])
        self.model = keras.Sequential([keras.Input([5, 3]), NTM(8, 8, 4, 1, 1)])
        self.model.compile("adam", "mse")

    def go_on(self, folder: pathlib.Path, until: int) -> tuple[list[np.ndarray], list[str]]:
        """Trains on from the last whole state; returns the weights, and the complaints."""
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
    """Cuts or flips a byte of one of a state's files; returns what was done."""
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
    """Whether every damage was named, and training went on from the state before."""
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
