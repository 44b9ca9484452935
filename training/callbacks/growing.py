"""A machine that has fewer memory locations in training."""

from __future__ import annotations

from ntm_keras.keras_compat import keras
from ntm_keras.memory_size import copy_weights


class GrowMemory(keras.callbacks.Callback):
    """Gives the machine that is saved and measured the weights of the machine in training.

    The two differ in their memory sizes. Put this callback before those that use the machine.

    Args:
        trainer: The model for training.
        model: The model that is saved and measured.
    """

    def __init__(self, trainer: keras.Model, model: keras.Model):
        super().__init__()
        self._trainer = trainer
        self._machine = model

    def on_epoch_end(self, epoch, logs=None):
        self.copy()

    def copy(self) -> None:
        """Copies the weights."""
        copy_weights(self._trainer, self._machine)
