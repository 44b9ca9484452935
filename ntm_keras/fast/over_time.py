"""What the fast loops need of TensorFlow or JAX: loops over the steps, and their own gradient."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops as framework_ops

from ntm_keras.keras_compat import IS_TENSORFLOW, Tensor, ops


def with_own_gradient(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[..., Any],
    mask: Tensor | None,
    arguments: tuple[Any, ...],
) -> Any:
    """The results of `forward`, whose gradient is what `backward` says.

    Args:
        forward: From the mask and the arguments to the results, and what the gradient needs.
        backward: From the mask, the arguments, what the gradient needs, and the gradients by the
            results, to the gradients by the arguments.
        mask: The mask, which has no gradient.
        arguments: The arguments; they, the results and the gradients are structures of tensors.
    """
    of_backend = _own_gradient_in_tensorflow if IS_TENSORFLOW else _own_gradient_in_jax
    return of_backend(forward, backward, mask, arguments)


def _own_gradient_in_tensorflow(forward, backward, mask, arguments):
    structure = []

    @tf.custom_gradient
    def differentiable(*flat_arguments):
        arguments_here = tf.nest.pack_sequence_as(arguments, flat_arguments)
        results, kept = forward(mask, *arguments_here)
        structure[:] = [results]

        def gradient(*d_flat_results):
            d_results = tf.nest.pack_sequence_as(results, d_flat_results)
            return tf.nest.flatten(backward(mask, arguments_here, kept, d_results))

        return tuple(tf.nest.flatten(results)), gradient

    flat_results = differentiable(*tf.nest.flatten(arguments))
    if not tf.executing_eagerly():
        _release_with_graph(flat_results[0])
    return tf.nest.pack_sequence_as(structure[0], flat_results)


def _own_gradient_in_jax(forward, backward, mask, arguments):
    import jax

    @jax.custom_vjp
    def differentiable(mask, arguments):
        return forward(mask, *arguments)[0]

    def forward_and_kept(mask, arguments):
        results, kept = forward(mask, *arguments)
        return results, (mask, arguments, kept)

    def gradient(needed, d_results):
        return None, backward(*needed, d_results)

    differentiable.defvjp(forward_and_kept, gradient)
    return differentiable(mask, arguments)


def _release_with_graph(result: tf.Tensor) -> None:
    """Frees the gradient of a `tf.custom_gradient` together with its graph.

    TensorFlow registers a gradient for every trace. It would keep the gradient, and with it the
    graph, until the process ends. `result` is one result of the function.
    """
    graph, name = result.graph, result.op.get_attr("_gradient_op_type").decode()
    registry = framework_ops.gradient_registry._registry
    setattr(graph, name, registry[name]["type"])
    graph_if_alive = weakref.ref(graph)
    registry[name]["type"] = lambda *arguments: getattr(graph_if_alive(), name)(*arguments)
    weakref.finalize(graph, registry.pop, name, None)


def _steps_that_count(mask: Tensor | None, time: Any) -> Any:
    """The number of steps up to the last one that is not masked; `mask` is `(time, batch)`."""
    if mask is None:
        return time
    counts = ops.any(mask, axis=1)
    return ops.max(ops.where(counts, ops.arange(time), 0)) + 1


def to_the_end(
    body: Callable[..., tuple],
    first: tuple,
    time: Any,
    mask: Tensor | None,
    arrays: Callable[[], Any],
) -> tuple:
    """Runs the steps from 0 on.

    Args:
        body: From a step's number and what the step before passed on, to what it passes on and,
            last, what it keeps.
        first: What the first step is given.
        time: The number of all steps.
        mask: `(time, batch)`; TensorFlow leaves out the steps after the last one that counts.
        arrays: Makes TensorFlow's arrays for what the steps keep.

    Returns:
        What the last step passed on and, last, what the steps kept: each tensor `(time, ..)`.
    """
    if not IS_TENSORFLOW:
        return _scan_in_jax(body, first, time, reverse=False)

    end = _steps_that_count(mask, time)

    def one_step(t, *passed_on_and_arrays):
        *passed_on, arrays = passed_on_and_arrays
        *passed_on, kept = body(t, *passed_on)
        return t + 1, *passed_on, _write(arrays, t, kept)

    _, *passed_on, arrays = tf.while_loop(
        lambda t, *_: t < end,
        one_step,
        (tf.constant(0), *first, arrays()),
        maximum_iterations=time,
    )
    return *passed_on, tf.nest.map_structure(lambda array: array.stack(), arrays)


def to_the_beginning(
    body: Callable[..., tuple],
    first: tuple,
    time: Any,
    mask: Tensor | None,
    arrays: Callable[[], Any],
) -> tuple:
    """Like `to_the_end`, but back to step 0; on TensorFlow from the last step that counts."""
    if not IS_TENSORFLOW:
        return _scan_in_jax(body, first, time, reverse=True)

    # XLA compiles again for every value from which an index is computed. So the number of steps is
    # used only as the loop's start.
    def one_step(t, *passed_on_and_arrays):
        *passed_on, arrays = passed_on_and_arrays
        *passed_on, kept = body(t, *passed_on)
        return t - 1, *passed_on, _write(arrays, t, kept)

    _, *passed_on, arrays = tf.while_loop(
        lambda t, *_: t >= 0,
        one_step,
        (tf.convert_to_tensor(_steps_that_count(mask, time)) - 1, *first, arrays()),
        maximum_iterations=time,
    )
    return *passed_on, tf.nest.map_structure(lambda array: array.stack(), arrays)


def _write(arrays: Any, t: tf.Tensor, values: Any) -> Any:
    return tf.nest.map_structure(lambda array, value: array.write(t, value), arrays, values)


def _scan_in_jax(body: Callable[..., tuple], first: tuple, time: int, reverse: bool) -> tuple:
    import jax

    def one_step(passed_on, t):
        *passed_on, kept = body(t, *passed_on)
        return tuple(passed_on), kept

    passed_on, kept = jax.lax.scan(one_step, first, jax.numpy.arange(time), reverse=reverse)
    return *passed_on, kept


def at_step(t: Tensor, steps: Any) -> Any:
    """One step of every tensor of a structure: `each[t]`."""
    if not IS_TENSORFLOW:
        return tf.nest.map_structure(lambda each: each[t], steps)
    # Indexing would compute the slice's bounds for each tensor anew.
    begin = tf.reshape(t, [1])
    end = begin + 1
    return tf.nest.map_structure(
        lambda each: tf.strided_slice(each, begin, end, shrink_axis_mask=1), steps
    )


def mask_outputs(outputs: Tensor, mask: Tensor, zero: bool) -> Tensor:
    """The outputs; where the mask is False, zeros or the last output before that counts.

    Args:
        outputs: `(batch, time, output_size)`.
        mask: `(batch, time)`.
        zero: Whether masked outputs are zeros.
    """
    if not zero:
        numbers = ops.transpose(ops.where(mask, ops.arange(ops.shape(mask)[1]) + 1, 0))
        last = ops.transpose(_largest_so_far(numbers))
        outputs = _gather_steps(outputs, ops.maximum(last - 1, 0))
        mask = last > 0
    return ops.where(mask[:, :, None], outputs, 0)


def _largest_so_far(numbers: Tensor) -> Tensor:
    if IS_TENSORFLOW:
        return tf.scan(tf.maximum, numbers)
    import jax

    return jax.lax.cummax(numbers)


def _gather_steps(outputs: Tensor, numbers: Tensor) -> Tensor:
    """Of each sequence, the steps with these numbers, which are `(batch, time)`."""
    if IS_TENSORFLOW:
        return tf.gather(outputs, numbers, batch_dims=1)
    return ops.take_along_axis(outputs, numbers[:, :, None], axis=1)
