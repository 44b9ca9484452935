"""Neural Turing Machines for Keras."""

from ntm_keras.metrics import (
    BitCrossentropy,
    CostPerSequence,
    ShareWithoutError,
    WrongBitsPerSequence,
)
from ntm_keras.ntm import NTM, NTMCell, NTMState
from ntm_keras.snowkylin import load_snowkylin_weights
from ntm_keras.trace import NTMTrace, trace

__version__ = "0.1.0"

__all__ = [
    "NTM",
    "BitCrossentropy",
    "CostPerSequence",
    "NTMCell",
    "NTMState",
    "NTMTrace",
    "ShareWithoutError",
    "WrongBitsPerSequence",
    "load_snowkylin_weights",
    "trace",
]
