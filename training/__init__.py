"""Training runs: their settings, and the functions `train` and `evaluate`, which train.py calls.

>>> from training import Settings
>>> settings = Settings(task="copy", steps=20)

Then `training.train(settings, "runs/mine")` trains, and returns the content of `result.json`.
TensorFlow is imported only when `train` or `evaluate` is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from training.errors import BadInput, StoppedBySignalError
from training.run_folder import settings_of_run
from training.settings import Settings

if TYPE_CHECKING:
    from training.run import evaluate, train

__all__ = [
    "BadInput",
    "Settings",
    "StoppedBySignalError",
    "evaluate",
    "settings_of_run",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in ("evaluate", "train"):
        return getattr(importlib.import_module("training.run"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
