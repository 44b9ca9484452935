"""The differences between Keras 2 and Keras 3, and between Keras 3's backends."""

import contextlib
import functools
import importlib
import operator
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import tensorflow as tf

keras = tf.keras

# A tensor of the backend.
Tensor: TypeAlias = Any

BACKENDS = ("tensorflow", "jax", "torch")

_Class = TypeVar("_Class", bound=type)


def _check_backend() -> None:
    try:
        backend = keras.backend.backend()
    except ImportError as error:
        legacy, needs = os.environ.get("TF_USE_LEGACY_KERAS"), ""
        if legacy in ("1", "true", "True"):
            needs = "Keras 2 (TF_USE_LEGACY_KERAS=1) needs the package tf-keras. "
        elif os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
            needs = "Install that backend, or set KERAS_BACKEND=tensorflow. "
        raise ImportError(
            "ntm_keras needs Keras, which could not be imported. "
            f"Received: KERAS_BACKEND={os.environ.get('KERAS_BACKEND')!r}, "
            f"TF_USE_LEGACY_KERAS={legacy!r}. {needs}{error}"
        ) from error
    if backend not in BACKENDS:
        raise ImportError(
            f"ntm_keras needs one of Keras's backends {', '.join(BACKENDS)}: set"
            f" KERAS_BACKEND=tensorflow. Received: backend={backend!r}"
        )


_check_backend()

IS_KERAS_2 = hasattr(keras.layers, "AbstractRNNCell")
IS_TENSORFLOW = keras.backend.backend() == "tensorflow"

# Keras's loop on JAX repeats a cell's first state for its output where a step is masked.
LOOP_NEEDS_OUTPUT_AS_FIRST_STATE = keras.backend.backend() == "jax"

# `keras.ops`, or what does the same in TensorFlow.
ops: Any = importlib.import_module("ntm_keras.tensorflow_ops") if IS_TENSORFLOW else keras.ops

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
                batch_size, dtype = ops.shape(inputs)[0], dtype or inputs.dtype
            return tf.nest.map_structure(
                lambda size: ops.zeros([batch_size, size], dtype or self.compute_dtype),
                self.state_size,
            )


# In TensorFlow, names and tensors of the graph that is being made.
name_scope: Callable[[str], Any] = tf.name_scope if IS_TENSORFLOW else contextlib.nullcontext
outside_graphs: Callable[[], Any] = tf.init_scope if IS_TENSORFLOW else contextlib.nullcontext


def dtype_name(dtype: Any) -> str:
    """The name of a dtype of any backend, such as `float32`."""
    is_tensorflow_s = IS_KERAS_2 or isinstance(dtype, tf.DType)
    return tf.as_dtype(dtype).name if is_tensorflow_s else keras.backend.standardize_dtype(dtype)


def static_shape(tensor: Tensor) -> tf.TensorShape:
    """The shape of a tensor of any backend, as far as it is known."""
    shape = tensor.shape
    return shape if isinstance(shape, tf.TensorShape) else tf.TensorShape(map(known_size, shape))


def known_size(size: Any) -> int | None:
    """A number in a shape, or None if it is not known: where JAX exports it is a symbol."""
    return int(size) if isinstance(size, (int, np.integer)) else None


def for_each(row: Tensor, batch_size: Any) -> Tensor:
    """A row, `(1, size)`, for each sequence of a batch: `(batch_size, size)`."""
    rows = ops.broadcast_to(row, [batch_size, row.shape[1]])
    # PyTorch's rows share their memory: a stateful layer could not write into them.
    return ops.copy(rows) if keras.backend.backend() == "torch" else rows


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A tensor of any backend, or what NumPy takes for an array, as an array."""
    if not IS_TENSORFLOW:
        return np.asarray(ops.convert_to_numpy(tensor))
    # NumPy cannot read the variables of a strategy by itself.
    return np.asarray(tensor.numpy() if hasattr(tensor, "numpy") else tensor)


def mask_of_layers(outputs: Tensor) -> Tensor | None:
    """The mask that a model's layers gave its outputs, if they gave one."""
    if IS_KERAS_2:
        return getattr(outputs, "_keras_mask", None)
    from keras.src.backend.common.masking import get_keras_mask  # As Keras's own losses do.

    return get_keras_mask(outputs)


def matmul(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """The product of two matrices, or the products of two batches; one may be transposed.

    TensorFlow does not copy the transposed one.
    """
    if IS_TENSORFLOW:
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    a, b = (
        ops.swapaxes(each, -1, -2) if transposed else each
        for each, transposed in ((a, transpose_a), (b, transpose_b))
    )
    return ops.matmul(a, b)


def add_n(tensors: list[Tensor]) -> Tensor:
    """The sum of tensors of one shape, in TensorFlow by one operation."""
    return tf.add_n(tensors) if IS_TENSORFLOW else functools.reduce(operator.add, tensors)


def global_norm(tensors: Sequence[Tensor | None]) -> Tensor:
    """The norm of several tensors together; None among them counts nothing."""
    if IS_TENSORFLOW:
        return tf.linalg.global_norm(tensors)
    return ops.sqrt(sum(ops.sum(ops.square(each)) for each in tensors if each is not None))


def stateless_normal(size: int, seed: int, step: Tensor) -> Tensor:
    """Normally distributed numbers, on TensorFlow or JAX, that depend only on seed and step."""
    if IS_TENSORFLOW:
        # The algorithm that XLA would choose is fifteen times slower.
        seeds = tf.stack([seed, tf.cast(step, tf.int64)])
        return tf.random.stateless_normal([size], seeds, alg="philox")
    import jax

    return jax.random.normal(jax.random.fold_in(jax.random.key(seed), step), [size])


def as_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a graph of TensorFlow's; on another backend the function itself.

    JAX would compile it with the weights as they are at its first call.
    """
    return tf.function(function, autograph=False) if IS_TENSORFLOW else function


def scan(function: Callable[[Any, Tensor], Any], sequence: Tensor, first: Any) -> Any:
    """What `function(last, element)` returns for every element of a sequence, stacked.

    Args:
        function: Called with what it returned last, a structure of tensors.
        sequence: The elements, along the first axis.
        first: What the first call is given.
    """
    if IS_TENSORFLOW:
        return tf.scan(function, sequence, first)
    results = []
    for element in ops.unstack(sequence, axis=0):
        first = function(first, element)
        results.append(first)
    return tf.nest.map_structure(lambda *each: ops.stack(each, axis=0), *results)


def _in_stateless_scope() -> bool:
    from keras.src.backend.common.stateless_scope import in_stateless_scope  # As Keras's loop does.

    return in_stateless_scope()


def masked_loop(
    step: Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]],
    sequences: Tensor,
    states: list[Tensor],
    mask: Tensor,
    output_size: int,
    zero_output: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Runs a cell over sequences on JAX; a step whose mask is False changes nothing.

    Args:
        step: From a step's inputs and the states to its outputs and the new states.
        sequences: `(batch, time, features)`.
        states: The states before the first step.
        mask: `(batch, time)`, bool.
        output_size: The width of the outputs.
        zero_output: Whether masked outputs are zeros, or the last ones that count.

    Returns:
        The outputs, `(batch, time, output_size)`, and the states after the last step.
    """

    def masked_step(last, element):
        (output, states), (inputs, counts) = last, element
        new_output, new_states = step(inputs, states)
        kept = [ops.where(counts, new, old) for new, old in zip(new_states, states)]
        output = ops.where(counts, new_output, output)
        return (output, kept), ops.where(counts, new_output, 0) if zero_output else output

    first = ops.zeros([ops.shape(sequences)[0], output_size], sequences.dtype), states
    elements = ops.transpose(sequences, [1, 0, 2]), ops.transpose(mask)[:, :, None]
    # A scan must not change variables. In training their values are those of the scope around it.
    with contextlib.nullcontext() if _in_stateless_scope() else keras.StatelessScope():
        (_, states), outputs = ops.scan(masked_step, first, elements)
    return ops.transpose(outputs, [1, 0, 2]), states


def serializable(cls: _Class) -> _Class:
    """Registers a class, so that Keras can load models that contain it."""
    return keras.utils.register_keras_serializable(package="ntm_keras")(cls)


def training_step(model: Any) -> int:
    """How many steps a compiled model has been trained for.

    An optimizer that began anew has the steps before in its attribute `steps_before`.
    """
    optimizer = model.optimizer
    return int(steps_seen_by(optimizer).numpy()) + int(getattr(optimizer, "steps_before", 0))


def build_optimizer(model: Any) -> None:
    """Creates the variables of a compiled model's optimizer, as its first step would."""
    optimizer = model.optimizer
    with scope_of(model):
        if hasattr(optimizer, "_create_all_weights"):  # One of Keras 2's legacy optimizers.
            optimizer._create_all_weights(model.trainable_variables)
        elif IS_KERAS_2 or not optimizer.built:
            optimizer.build(model.trainable_variables)


def scope_of(model: Any) -> Any:
    """The context in which a model's further variables are made."""
    return model.distribute_strategy.scope() if IS_TENSORFLOW else contextlib.nullcontext()


def variables_of(model: Any) -> list[Any]:
    """The backend's variables that a compiled model and its optimizer list."""
    optimizer_variables = model.optimizer.variables
    if callable(optimizer_variables):
        optimizer_variables = optimizer_variables()
    return _of_backend([*model.variables, *optimizer_variables])


def other_variables_of(model: Any) -> list[Any]:
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
    return _of_backend(found)


def _of_backend(variables: list[Any]) -> list[Any]:
    """The TensorFlow variables behind Keras variables, others left out; elsewhere as they are."""
    if not IS_TENSORFLOW:
        return variables
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
