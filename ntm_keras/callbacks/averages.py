"""Averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ntm_keras.keras_compat import keras


class SwapAveragedWeights(keras.callbacks.Callback):
    """Gives the model the averaged weights between epochs: to validate, to save, to draw.

    The model's optimizer must average them (`use_ema=True`). Put this callback before the callbacks
    that use the averages. After training the model keeps the averages.

    Raises:
        ValueError: When training begins: the optimizer does not average the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own_weights: list[Any] = []

    def on_train_begin(self, logs=None):
        self._own_weights = []
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        use_ema = getattr(optimizer, "use_ema", None)  # Keras 2's legacy ones lack it.
        if not use_ema:
            raise ValueError(
                "The model's optimizer must average the weights: use_ema=True. "
                f"Received: {type(optimizer).__name__} with use_ema={use_ema}"
            )

    def on_test_begin(self, logs=None):
        self._show()

    def on_epoch_end(self, epoch, logs=None):
        self._show()

    def on_epoch_begin(self, epoch, logs=None):
        self.hide()

    def on_train_end(self, logs=None):
        self._own_arrays()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """A context in which the model has the averages."""
        were_hidden = not self._own_weights
        self._show()
        try:
            yield
        finally:
            if were_hidden:
                self.hide()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """A context in which the model has the weights that are trained."""
        were_shown = bool(self._own_weights)
        self.hide()
        try:
            yield
        finally:
            if were_shown:
                self._show()

    def hide(self) -> None:
        """Gives the model back the weights that are trained."""
        for weight, value in zip(self.model.trainable_variables, self._own_weights):
            weight.assign(value)
        self._own_weights = []

    def _show(self) -> None:
        weights = self.model.trainable_variables
        if not self._own_weights:
            self._own_weights = [*map(_copy, weights)]
            self.model.optimizer.finalize_variable_values(weights)
            self._own_arrays()

    def _own_arrays(self) -> None:
        """Gives the weights arrays of their own: a step of JAX frees those that it was given."""
        if keras.backend.backend() == "jax":
            for weight in self.model.trainable_variables:
                weight.assign(_copy(weight))


def _copy(weight: Any) -> Any:
    """A weight's values. On JAX they stay on their devices: no process has to wait for others."""
    if keras.backend.backend() != "jax":
        return np.array(weight)
    import jax

    return jax.numpy.copy(weight.value)
