"""The differences between Keras 2 and Keras 3."""

import os
import sys
import warnings
from typing import Any, TypeVar

import tensorflow as tf

keras = tf.keras

_Class = TypeVar("_Class", bound=type)


def _check_backend() -> None:
    try:
        backend = keras.backend.backend()
    except ImportError as error:
        legacy, needs = os.environ.get("TF_USE_LEGACY_KERAS"), ""
        if legacy in ("1", "true", "True"):
            needs = "Keras 2 (TF_USE_LEGACY_KERAS=1) needs the package tf-keras. "
        elif os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
            needs = "Set KERAS_BACKEND=tensorflow. "
        raise ImportError(
            "ntm_keras needs Keras on its TensorFlow backend, and Keras could not be imported. "
            f"Received: KERAS_BACKEND={os.environ.get('KERAS_BACKEND')!r}, "
            f"TF_USE_LEGACY_KERAS={legacy!r}. {needs}{error}"
        ) from error
    if backend != "tensorflow":
        raise ImportError(
            "ntm_keras needs Keras on its TensorFlow backend: set KERAS_BACKEND=tensorflow. "
            f"Received: backend={backend!r}"
        )


_check_backend()

IS_KERAS_2 = hasattr(keras.layers, "AbstractRNNCell")

if IS_KERAS_2:
    if "keras" in sys.modules:
        warnings.warn(
            "Under TF_USE_LEGACY_KERAS=1 the layers of ntm_keras are Keras 2 layers, for tf.keras. "
            "`import keras` gives Keras 3, whose models cannot use them. Use tf.keras instead.",
            stacklevel=2,
        )
    AbstractRNNCell = keras.layers.AbstractRNNCell
else:

    class AbstractRNNCell(keras.layers.Layer):  # type: ignore[no-redef, name-defined]
        """The base class of RNN cells, which Keras 2 has and Keras 3 does not.

        A cell has a `state_size`, an `output_size` and a `get_initial_state`, and
        `call(inputs, states)` returns `(outputs, new_states)`.
        """

        def call(self, inputs, states):
            raise NotImplementedError

        @property
        def state_size(self):
            raise NotImplementedError

        @property
        def output_size(self):
            raise NotImplementedError

        def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
            if inputs is not None:
                batch_size, dtype = tf.shape(inputs)[0], dtype or inputs.dtype
            return tf.nest.map_structure(
                lambda size: tf.zeros([batch_size, size], dtype or self.compute_dtype),
                self.state_size,
            )


# Keras 3's symbolic tensors need its own operation; Keras 2's work with TensorFlow's.
reshape = tf.reshape if IS_KERAS_2 else keras.ops.reshape


def serializable(cls: _Class) -> _Class:
    """Registers a class, so that Keras can load models that contain it."""
    return keras.utils.register_keras_serializable(package="ntm_keras")(cls)


def training_step(model: Any) -> int:
    """How many steps a compiled model has been trained for."""
    return int(steps_seen_by(model.optimizer).numpy())


def build_optimizer(model: Any) -> None:
    """Creates the variables of a compiled model's optimizer, as its first step would."""
    optimizer = model.optimizer
    with model.distribute_strategy.scope():
        if hasattr(optimizer, "_create_all_weights"):  # One of Keras 2's legacy optimizers.
            optimizer._create_all_weights(model.trainable_variables)
        elif IS_KERAS_2 or not optimizer.built:
            optimizer.build(model.trainable_variables)


def variables_of(model: Any) -> list[tf.Variable]:
    """The variables that a compiled model and its optimizer list."""
    optimizer_variables = model.optimizer.variables
    if callable(optimizer_variables):
        optimizer_variables = optimizer_variables()
    return _tensorflow_variables([*model.variables, *optimizer_variables])


def other_variables_of(model: Any) -> list[tf.Variable]:
    """Further variables that training changes, which `variables_of` does not list.

    These are the states of stateful layers and, under Keras 2, the learning rate, the loss scale
    and random generators.
    """
    layers = list(model._flatten_layers())
    found = [
        state
        for layer in layers
        if isinstance(layer, keras.layers.RNN) and layer.stateful
        for state in tf.nest.flatten(layer.states)
    ]
    if IS_KERAS_2:
        optimizer = model.optimizer
        found.append(optimizer.learning_rate)
        if getattr(optimizer, "dynamic", False):  # It scales the loss.
            found += optimizer._loss_scale.current_loss_scale, optimizer._loss_scale.counter
        for layer in layers:
            generator = getattr(getattr(layer, "_random_generator", None), "_generator", None)
            if generator is not None:
                found.append(generator.state)
    return _tensorflow_variables(found)


def _tensorflow_variables(variables: list[Any]) -> list[Any]:
    """The TensorFlow variables behind the given Keras variables; others are left out."""
    found = [
        each if isinstance(each, tf.Variable) else getattr(each, "value", None)
        for each in variables
    ]
    return [each for each in found if isinstance(each, tf.Variable)]


def steps_seen_by(optimizer: Any) -> Any:
    """The variable in which an optimizer counts training steps.

    Keras 3's `iterations` counts updates instead: several steps that accumulate gradients are one.
    """
    if IS_KERAS_2:
        return optimizer.iterations
    return getattr(optimizer, "inner_optimizer", optimizer)._iterations
