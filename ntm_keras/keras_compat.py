"""The one place that knows Keras 2 from Keras 3."""

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
        legacy = os.environ.get("TF_USE_LEGACY_KERAS")
        is_legacy = legacy in ("1", "true", "True")
        needs = "Keras 2 (TF_USE_LEGACY_KERAS=1) needs the package tf-keras. " if is_legacy else ""
        raise ImportError(
            "ntm_keras needs Keras on its TensorFlow backend, and Keras could not be imported. "
            f"Received: KERAS_BACKEND={os.environ.get('KERAS_BACKEND')!r}, "
            f"TF_USE_LEGACY_KERAS={legacy!r}. {needs}{error}"
        ) from error
    if backend != "tensorflow":
        raise ImportError(
            "ntm_keras needs Keras on its TensorFlow backend (KERAS_BACKEND=tensorflow). "
            f"Received: backend={backend!r}"
        )


_check_backend()

IS_KERAS_2 = hasattr(keras.layers, "AbstractRNNCell")

if IS_KERAS_2:
    if "keras" in sys.modules:
        warnings.warn(
            "Under TF_USE_LEGACY_KERAS=1 the layers of ntm_keras are those of tf.keras, Keras 2; "
            "`import keras` is Keras 3, whose models do not take them. Use tf.keras instead.",
            stacklevel=2,
        )
    AbstractRNNCell = keras.layers.AbstractRNNCell
else:

    class AbstractRNNCell(keras.layers.Layer):  # type: ignore[no-redef, name-defined]
        """What Keras 2 calls an RNN cell; Keras 3 has no name for it.

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


# Takes Keras 3's symbolic tensors too; those of Keras 2 are taken by every operation.
reshape = tf.reshape if IS_KERAS_2 else keras.ops.reshape


def serializable(cls: _Class) -> _Class:
    """Registers a class, so that Keras can load what contains it."""
    return keras.utils.register_keras_serializable(package="ntm_keras")(cls)


def training_step(model: Any) -> int:
    """How many steps a compiled model was trained for."""
    return int(steps_seen_by(model.optimizer).numpy())


def build_optimizer(model: Any) -> None:
    """Makes the variables of a compiled model's optimizer, as its first training step would."""
    optimizer = model.optimizer
    with model.distribute_strategy.scope():
        if hasattr(optimizer, "_create_all_weights"):  # One of Keras 2's legacy optimizers.
            optimizer._create_all_weights(model.trainable_variables)
        elif IS_KERAS_2 or not optimizer.built:
            optimizer.build(model.trainable_variables)


def variables_of(model: Any) -> list[tf.Variable]:
    """The variables that a compiled model and its optimizer count as theirs."""
    of_optimizer = model.optimizer.variables
    return _in_tensorflow(
        [*model.variables, *(of_optimizer() if callable(of_optimizer) else of_optimizer)]
    )


def other_variables_of(model: Any) -> list[tf.Variable]:
    """What a training of a compiled model changes beside `variables_of` it.

    The states of stateful layers; and under Keras 2 the learning rate, the scale of the loss, and
    random generators.
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
    return _in_tensorflow(found)


def _in_tensorflow(variables: list[Any]) -> list[Any]:
    """TensorFlow's variables behind those of either Keras; what is no variable is left out."""
    behind = [
        each if isinstance(each, tf.Variable) else getattr(each, "value", None)
        for each in variables
    ]
    return [each for each in behind if isinstance(each, tf.Variable)]


def steps_seen_by(optimizer: Any) -> Any:
    """The variable in which an optimizer counts training steps.

    What Keras 3 calls `iterations` are updates: of several steps that accumulate gradients, one.
    """
    if IS_KERAS_2:
        return optimizer.iterations
    return getattr(optimizer, "inner_optimizer", optimizer)._iterations
