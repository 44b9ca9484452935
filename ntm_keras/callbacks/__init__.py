"""Callbacks for `model.fit`, under Keras 2 and Keras 3, that Keras itself does not have."""

from ntm_keras.callbacks.averages import SwapAveragedWeights
from ntm_keras.callbacks.checkpoints import Checkpoints
from ntm_keras.callbacks.gradients import GuardGradients
from ntm_keras.callbacks.images import MachineImages

__all__ = [
    "Checkpoints",
    "GuardGradients",
    "MachineImages",
    "SwapAveragedWeights",
]
