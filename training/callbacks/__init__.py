"""Callbacks of a training run: to end it, to save the model, to log numbers."""

from training.callbacks.ends import (
    TEST_PARTS,
    NonFiniteLossError,
    RunTime,
    SignalReceivedError,
    StopAfter,
    StopOnSignal,
    StopWhenNotFinite,
    StopWhenSolved,
)
from training.callbacks.growing import GrowMemory
from training.callbacks.logs import Measurements, ScalarLog
from training.callbacks.run_callbacks import RunCallbacks
from training.callbacks.saving import SaveBest, SaveLatest, ignore_write_errors

__all__ = [
    "TEST_PARTS",
    "GrowMemory",
    "Measurements",
    "NonFiniteLossError",
    "RunCallbacks",
    "RunTime",
    "SaveBest",
    "SaveLatest",
    "ScalarLog",
    "SignalReceivedError",
    "StopAfter",
    "StopOnSignal",
    "StopWhenNotFinite",
    "StopWhenSolved",
    "ignore_write_errors",
]
