"""Callbacks for `model.fit`: what a run keeps and shows, what it bears, and when it ends.

They work in anybody's `fit`, under Keras 2 and Keras 3.
"""

from ntm_keras.callbacks.averages import ShowAveragedWeights
from ntm_keras.callbacks.checkpoints import Checkpoints
from ntm_keras.callbacks.ends import (
    RunTime,
    StopAfter,
    StopOnSignal,
    StoppedBySignalError,
    StopWhenSolved,
)
from ntm_keras.callbacks.forgiving import forgiving
from ntm_keras.callbacks.models import SaveBest, SaveLatest
from ntm_keras.callbacks.numbers import GuardGradients, NonFiniteLossError, StopWhenNotFinite
from ntm_keras.callbacks.tensorboard import (
    EventLog,
    MachineImages,
    Measurements,
    ScalarLog,
    write_machine_images,
)

__all__ = [
    "Checkpoints",
    "EventLog",
    "GuardGradients",
    "MachineImages",
    "Measurements",
    "NonFiniteLossError",
    "RunTime",
    "SaveBest",
    "SaveLatest",
    "ScalarLog",
    "ShowAveragedWeights",
    "StopAfter",
    "StopOnSignal",
    "StopWhenNotFinite",
    "StopWhenSolved",
    "StoppedBySignalError",
    "forgiving",
    "write_machine_images",
]
