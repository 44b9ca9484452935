"""Trains the machines in pretrained/, with the tasks' own settings, and measures them.

  python benchmarks/pretrain.py --tasks=copy,associative_recall
  python benchmarks/pretrain.py --tasks=omniglot -- --omniglot=FOLDER

Arguments after `--` go to train.py. Use the oldest Keras that the project supports: newer ones read
what it writes. A run in FOLDER/TASK that was stopped continues; one with other settings is refused.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

from absl import app, flags

ROOT = pathlib.Path(__file__).parent.parent

FLAGS = flags.FLAGS

flags.DEFINE_list("tasks", ["copy"], "What to learn, separated by commas.")
flags.DEFINE_string("folder", "runs/pretrained", "Where the runs are.")

_KEPT = ("flags.cfg", "data_names.json", "model.keras", "result.json", "eval.json")


def make(task: str, run: pathlib.Path, settings: list[str]) -> None:
    """Trains and measures a machine, and puts it into pretrained/."""
    train = [sys.executable, str(ROOT / "train.py"), f"--logdir={run}"]
    config = f"--flagfile={ROOT / 'configs' / task}.cfg"  # A run's own settings may be older.
    subprocess.run([*train, config, *settings], check=True)
    subprocess.run([*train, "--mode=eval"], check=True)
    kept = ROOT / "pretrained" / task
    kept.mkdir(exist_ok=True)
    for name in _KEPT:
        if (run / name).exists():
            shutil.copy(run / name, kept)
    name_single_input(kept / "model.keras")


def name_single_input(path: pathlib.Path) -> None:
    """Gives a model with one input the form that all versions of Keras read without a warning.

    Keras 3.8 writes `[[name, 0, 0]]`. Then a newer one warns where it is called with a tensor.
    """
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    model = json.loads(parts["config.json"])
    for layers in ("input_layers", "output_layers"):
        if isinstance(model["config"][layers][0], list):
            (model["config"][layers],) = model["config"][layers]
    parts["config.json"] = json.dumps(model).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)


def main(argv: list[str]) -> None:
    for task in FLAGS.tasks:
        make(task, pathlib.Path(FLAGS.folder).expanduser() / task, argv[1:])


if __name__ == "__main__":
    try:
        app.run(main)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"pretrain.py: {error}")
