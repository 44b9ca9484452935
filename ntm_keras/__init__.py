"""Neural Turing Machines for Keras."""

import importlib
from typing import Any

from ntm_keras.label_metrics import InstanceAccuracy, LabelCrossentropy, LaterError
from ntm_keras.machine import MemoryCell, MemoryLayer
from ntm_keras.mann import MANN, MANNCell, MANNState, MANNTrace
from ntm_keras.memory_size import with_memory_size
from ntm_keras.metrics import (
    BitCrossentropy,
    CostPerSequence,
    MeanPerSequence,
    ShareWithoutError,
    WrongBitsPerSequence,
)
from ntm_keras.noise import NoisyModel
from ntm_keras.ntm import NTM, NTMCell, NTMState, NTMTrace
from ntm_keras.side_by_side import SideBySide
from ntm_keras.snowkylin import load_snowkylin_weights
from ntm_keras.tracing import trace, trace_model
from ntm_keras.version import __version__

__all__ = [
    "InstanceAccuracy",
    "LabelCrossentropy",
    "LaterError",
    "MANN",
    "NTM",
    "BitCrossentropy",
    "CostPerSequence",
    "MANNCell",
    "MANNState",
    "MANNTrace",
    "MeanPerSequence",
    "MemoryCell",
    "MemoryLayer",
    "NTMCell",
    "NTMState",
    "NTMTrace",
    "NoisyModel",
    "SideBySide",
    "ShareWithoutError",
    "WrongBitsPerSequence",
    "__version__",
    "load_snowkylin_weights",
    "trace",
    "trace_model",
    "with_memory_size",
]


def __getattr__(name: str) -> Any:
    if name in ("animation", "callbacks", "pictures"):
        return importlib.import_module(f"ntm_keras.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
