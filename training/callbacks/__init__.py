"""Callbacks of a training run: to end it or begin it again, to save the model, to log numbers."""

from training.callbacks.attempts import BeginAgain
from training.callbacks.ends import (
    NonFiniteLossError,
    SignalReceivedError,
    StopAfter,
    StopOnSignal,
    StopWhenNotFinite,
    StopWhenSolved,
)
from training.callbacks.logs import ScalarLog, SizeLog
from training.callbacks.run_callbacks import RunCallbacks
from training.callbacks.saving import SaveBest, SaveLatest, ignore_write_errors

__all__ = [
    "BeginAgain",
    "NonFiniteLossError",
    "RunCallbacks",
    "SaveBest",
    "SaveLatest",
    "ScalarLog",
    "SizeLog",
    "SignalReceivedError",
    "StopAfter",
    "StopOnSignal",
    "StopWhenNotFinite",
    "StopWhenSolved",
    "ignore_write_errors",
]
