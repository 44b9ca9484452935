"""A machine that has fewer memory locations in training."""

from __future__ import annotations

import tensorflow as tf

from ntm_keras.keras_compat import keras
from ntm_keras.memory_size import copy_weights
from training.models import Models


class GrowMemory(keras.callbacks.Callback):
    """Validates the machine with all its locations: it gets the weights of the one in training.

    Train without validation data. Put this callback before those that use the validation or the
    machine.

    Args:
        models: The run's models.
        validation: The data.
    """

    def __init__(self, models: Models, validation: tf.data.Dataset):
        super().__init__()
        self._models = models
        self._validation = validation

    def on_epoch_end(self, epoch, logs=None):
        self.copy()
        found = self._models.tester.evaluate(self._validation, verbose=0, return_dict=True)
        logs.update({f"val_{name}": value for name, value in found.items()})

    def copy(self) -> None:
        """Copies the weights."""
        copy_weights(self._models.trainer, self._models.model)
