"""Runs for tests: small settings, command lines that are read here, and processes of train.py."""

import functools
import importlib.util
import pathlib
import re
import subprocess
import sys

import tensorflow as tf

from tasks.copy import Copy
from training import BadInput, Settings, command_line
from training.callbacks import ScalarLog

ROOT = pathlib.Path(__file__).parent.parent

# A run that takes a few seconds and is not solved. Its task is smaller than its memory.
TINY = {
    "task": Copy(bits=2, max_length=3),
    "steps": 5,
    "validate_every": 3,
    "batch_size": 4,
    "rnn_size": 8,
    "memory_size": 8,
    "memory_vector_dim": 4,
    "eval_sizes": "2",
    "eval_sequences": 8,
    "xla": False,
    "solved_below": 1e-9,
    "solved_times": 1,
}


def tiny(**others):
    """Settings of a small run, some of them others."""
    return Settings(**{**TINY, **others})


def as_arguments(settings):
    """The command line that gives these settings, where the task's config gives others."""
    values = settings.as_flags()
    of_config = flags_of(f"--task={settings.task_name}")
    changed = {name for name in values if values[name] not in (None, of_config[name])}
    return [f"--{name}={values[name]}" for name in values if name in {"task", *changed}]


def parse(*arguments):
    """What train.py understands of a command line."""
    return command_line.parse(["train.py", *map(str, arguments)])


def flags_of(*arguments):
    """The flags that a run with these arguments would have."""
    return command_line.flags_of(["train.py", *map(str, arguments)])


def complaint(*arguments):
    """What train.py says against a command line; None where a run would begin."""
    try:
        parse(*arguments)
    except BadInput as error:
        return str(error)
    return None


def assert_refused(said, *parts):
    """One line, which names what was wrong and what was given."""
    assert said is not None and said.strip() and "\n" not in said
    for part in parts:
        assert part in said


def run_train(*arguments, **options):
    """train.py in a process of its own: how it ended, and what it printed."""
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **options)


@functools.cache
def benchmark(name):
    """The module of a benchmark, which is loaded once: it defines flags."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def only_scalars(settings, logdir, *models):
    """A run's callbacks for TensorBoard without measurements and images, whose graphs take long."""
    return [ScalarLog(logdir, settings.batch_size, {})]


# train.py, which logs only scalars.
TRAIN = """
import runpy, sys
sys.path.insert(0, "tests")
import runs, training.run
training.run._logs = runs.only_scalars
runpy.run_path("train.py", run_name="__main__")
"""


def events(folder):
    """Everything written for TensorBoard in a folder, as (tag, step, value)."""
    found = []
    paths = pathlib.Path(folder).glob("events.out.tfevents.*")
    for path in sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)]):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.append((value.tag, event.step, tf.make_ndarray(value.tensor)))
    return found
