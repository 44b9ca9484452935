"""A loop over time with a hand-written gradient.

`keras.layers.RNN` leaves the gradient of its loop to automatic differentiation, which stores the
results of all operations of all steps. This loop has its own gradient:

* A step keeps only what the gradient needs. The loop back through time is written by hand.
* The inputs are multiplied by their weights before the loop, and the outputs are projected after
  it. One matrix product sums a weight's gradient over all steps.
* Backward quantities that depend only on kept values are computed for all steps at once.
* A step's write is deferred until the next step begins, so that the memory changes in place. The
  memory's gradient is deferred in the same way.
* The loop ends with the last step for which the mask is True.

This file has what all machines share: the loops over the steps. The controller is in controller.py,
the heads are in ntm.py and mann.py, and analytic.py has the parts of a step.

Tensors are `(time, batch, ..)` here, and the memory is `(batch, memory_vector_dim, memory_size)`.
A name `d_x` is the gradient of the loss by `x`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf
from tensorflow.python.framework import ops

from ntm_keras.fast.controller import Controller, KeptController, Weights


class Kept(NamedTuple):
    """What a step keeps for its gradient.

    Attributes:
        controller: What the controller keeps.
        output: The controller's output.
        read_vectors: r_t.
        memory: M_{t-1}.
        heads: What the heads keep besides.
    """

    controller: KeptController
    output: tf.Tensor
    read_vectors: tf.Tensor
    memory: tf.Tensor
    heads: Any


class Prepared(NamedTuple):
    """Backward quantities that depend only on kept values, computed for all steps at once.

    Attributes:
        slopes: The slopes of the controller's layers, see `Controller.slopes`.
        heads: The heads' quantities.
    """

    slopes: list[Any]
    heads: Any


class DeferredMemoryGradient(Protocol):
    """A step's gradient by its memory, computed when the loop back reaches the step before."""

    def before(self, d_memory: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
        """Turns dL/dM_t into dL/dM_{t-1}; `memory` is M_{t-1}."""


class Loop:
    """The loop over time, forward and back.

    A subclass computes the heads' part: see the methods at the end of this class. The states are
    the cell's `State`, with the memory transposed.

    Args:
        cell: A built cell, for which `loop_for` returns this class.
        mask: `(batch, time)`, bool; a step where it is False changes nothing.
    """

    def __init__(self, cell: Any, mask: tf.Tensor | None = None):
        self._cell = cell
        self._controller = Controller(cell)
        self._mask = None if mask is None else tf.transpose(mask)

    def run(
        self, sequences: tf.Tensor, initial_state: list[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Runs the cell over sequences.

        Args:
            sequences: `(batch, time, features)`.
            initial_state: The flat list of states.

        Returns:
            The outputs `(batch, time, output_size)`, undefined where the mask is False, and the
            flat list of the states after the last step.
        """
        cell = self._cell
        state = self._valid_state(cell.unpack_state(initial_state, sequences.shape[0]))
        # Shapes must not change in the loop. The batch size may be known from either of the two.
        batch_size = state.memory.shape[0] or sequences.shape[0]
        sequences = tf.ensure_shape(sequences, [batch_size, None, None])
        inputs, weights = self._controller.multiply_inputs(tf.transpose(sequences, [1, 0, 2]))
        state = state._replace(memory=tf.transpose(state.memory, [0, 2, 1]))
        controller_outputs, read_vectors, state = self._run(inputs, weights, state)
        state = state._replace(memory=tf.transpose(state.memory, [0, 2, 1]))
        controller_outputs, read_vectors = (
            tf.transpose(each, [1, 0, 2])
            for each in (controller_outputs, _merge_heads(read_vectors))
        )
        return self._outputs(controller_outputs, read_vectors), cell.pack_state(state)

    def _run(
        self, inputs: tf.Tensor, weights: Weights, state: Any
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """The controller's outputs, the read vectors, and the state after the last step."""
        arguments = (inputs, weights, state)

        @tf.custom_gradient
        def differentiable(*flat_arguments):
            inputs, weights, state = tf.nest.pack_sequence_as(arguments, flat_arguments)
            kept, after = self._forward(inputs, weights, state)
            results = (kept.output, kept.read_vectors, after)

            def gradient(*d_flat_results):
                d_results = tf.nest.pack_sequence_as(results, d_flat_results)
                return tf.nest.flatten(self._backward(weights, kept, *d_results))

            return tuple(tf.nest.flatten(results)), gradient

        output, read_vectors, *flat_state = differentiable(*tf.nest.flatten(arguments))
        if not tf.executing_eagerly():
            _release_with_graph(output)
        return output, read_vectors, tf.nest.pack_sequence_as(state, flat_state)

    # Forward

    def _forward(self, inputs: tf.Tensor, weights: Weights, state: Any) -> tuple[Kept, Any]:
        """What the steps keep, each tensor `(time, ..)`, and the state after the last step."""
        time, steps = self._time_and_steps(inputs)
        first = state, self._no_write(state), self._arrays(inputs, weights, time)

        def body(t, state, pending_write, arrays):
            state, pending_write, kept = self._step(t, inputs[t], weights, state, pending_write)
            arrays = tf.nest.map_structure(lambda array, each: array.write(t, each), arrays, kept)
            return t + 1, state, pending_write, arrays

        _, state, pending_write, arrays = tf.while_loop(
            lambda t, *_: t < steps,
            body,
            (tf.constant(0), *first),
            maximum_iterations=time,
        )
        kept = tf.nest.map_structure(lambda array: array.stack(), arrays)
        return kept, state._replace(memory=self._write(state, pending_write))

    def _time_and_steps(self, inputs: tf.Tensor) -> tuple[Any, Any]:
        """The number of steps, and the number of steps up to the last one that is not masked."""
        time = inputs.shape[0] or tf.shape(inputs)[0]
        if self._mask is None:
            return time, time
        last = tf.where(tf.reduce_any(self._mask, axis=1), tf.range(time), 0)
        return time, tf.reduce_max(last) + 1

    def _arrays(self, inputs: tf.Tensor, weights: Weights, time: Any) -> Kept:
        """The arrays for what the steps keep."""
        cell = self._cell

        def array(*shape):
            return tf.TensorArray(inputs.dtype, time, element_shape=[inputs.shape[1], *shape])

        return Kept(
            controller=self._controller.arrays(array, weights),
            output=array(cell.rnn_size),
            read_vectors=array(*cell.state_shapes["read_vectors"]),
            memory=array(cell.memory_vector_dim, cell.memory_size),
            heads=self._head_arrays(array),
        )

    def _step(
        self, t: tf.Tensor, inputs: tf.Tensor, weights: Weights, state: Any, pending_write: Any
    ) -> tuple[Any, Any, Kept]:
        """One step: the state after it, its pending write, and what is kept."""
        state = state._replace(memory=self._write(state, pending_write))
        output, controller_state, kept_controller = self._controller.step(
            inputs, _merge_heads(state.read_vectors), state.controller_state, weights
        )
        projection = tf.matmul(output, weights.projection_kernel) + weights.projection_bias
        after, pending_write, kept_heads = self._heads(projection, state)
        kept = Kept(kept_controller, output, after.read_vectors, state.memory, kept_heads)
        after = after._replace(controller_state=controller_state)
        return self._where(t, after, state), self._where(t, pending_write), kept

    # Back

    def _backward(
        self,
        weights: Weights,
        kept: Kept,
        d_output: tf.Tensor,
        d_read_vectors: tf.Tensor,
        d_state: Any,
    ) -> tuple[tf.Tensor, Weights, Any]:
        """The gradients by the inputs, the weights and the state before the first step."""
        time, steps = self._time_and_steps(kept.output)
        kernels = [*weights.kernels, weights.projection_kernel]
        transposed = [tf.transpose(kernel) for kernel in kernels]
        prepared = _over_steps(self._prepare, kept)

        # XLA compiles again for every value from which an index is computed. So the number of steps
        # is used only as the loop's start.
        def body(t, d_state, deferred, arrays):
            # After the last step nothing is deferred: any memory will do.
            d_memory = deferred.before(d_state.memory, kept.memory[tf.minimum(t + 1, time - 1)])
            step_kept, step_prepared, d_step_output, d_step_read_vectors = _at(
                t, (kept, prepared, d_output, d_read_vectors)
            )
            d_state = d_state._replace(
                read_vectors=d_state.read_vectors + d_step_read_vectors, memory=d_memory
            )
            d_state, deferred, d_products = self._step_back(
                t, transposed, step_kept, step_prepared, d_step_output, d_state
            )
            arrays = [array.write(t, each) for array, each in zip(arrays, d_products)]
            return t - 1, d_state, deferred, arrays

        batch = kept.output.shape[1]
        arrays = [
            tf.TensorArray(kernel.dtype, time, element_shape=[batch, kernel.shape[1]])
            for kernel in kernels
        ]
        _, d_state, deferred, arrays = tf.while_loop(
            lambda t, *_: t >= 0,
            body,
            (tf.convert_to_tensor(steps) - 1, d_state, self._nothing_deferred(kept.heads), arrays),
            maximum_iterations=time,
        )
        d_state = d_state._replace(memory=deferred.before(d_state.memory, kept.memory[0]))
        d_inputs, d_weights = self._gradients_of_products(kept, [each.stack() for each in arrays])
        return d_inputs, d_weights, d_state

    def _gradients_of_products(
        self, kept: Kept, d_products: list[tf.Tensor]
    ) -> tuple[tf.Tensor, Weights]:
        """The gradients by inputs and weights, from the gradients by the kernels' products."""
        rows = [_rows(d_product) for d_product in d_products]
        d_kernels = [
            tf.matmul(_rows(multiplied), d_product, transpose_a=True)
            for multiplied, d_product in zip([*kept.controller.layer_inputs, kept.output], rows)
        ]
        d_biases = [tf.reduce_sum(d_product, axis=0) for d_product in rows]
        return d_products[0], Weights(d_kernels[:-1], d_biases[1:-1], d_kernels[-1], d_biases[-1])

    def _prepare(self, kept: Kept) -> Prepared:
        """Backward quantities that depend only on kept values."""
        return Prepared(self._controller.slopes(kept.controller), self._prepare_heads(kept.heads))

    def _step_back(
        self,
        t: tf.Tensor,
        transposed: list[tf.Tensor],
        kept: Kept,
        prepared: Prepared,
        d_output: tf.Tensor,
        d_after: Any,
    ) -> tuple[Any, DeferredMemoryGradient, list[tf.Tensor]]:
        """One step back.

        Returns:
            The gradient by the state before the step, but its `memory` is not finished: the
            deferred memory gradient, returned second, will turn it into dL/dM_{t-1}. Third, the
            gradients by the kernels' products.
        """
        *transposed_kernels, transposed_projection = transposed
        d_before, d_projection, deferred = self._heads_back(t, kept, prepared.heads, d_after)
        d_output += tf.matmul(d_projection, transposed_projection)
        d_controller_state, d_read_vectors, d_preactivations = self._controller.step_back(
            transposed_kernels,
            prepared.slopes,
            d_output,
            self._where(t, d_after.controller_state),
        )
        d_before = d_before._replace(
            controller_state=d_controller_state,
            read_vectors=tf.reshape(d_read_vectors, [-1, *self._cell.state_shapes["read_vectors"]]),
        )
        return self._where(t, d_before, d_after), deferred, [*d_preactivations, d_projection]

    # Both

    def _where(self, t: tf.Tensor, new: Any, old: Any = None) -> Any:
        """A structure of tensors: `new` where the step's mask is True, elsewhere `old` or zeros."""
        if self._mask is None:
            return new
        mask = self._mask[t]
        old = tf.nest.map_structure(tf.zeros_like, new) if old is None else old

        def where(new, old):
            return tf.where(tf.reshape(mask, [-1] + [1] * (new.shape.rank - 1)), new, old)

        return tf.nest.map_structure(where, new, old)

    # What the heads do

    def _valid_state(self, state: Any) -> Any:
        """The state; invalid numbers from the user are replaced as in the cell's own step."""
        return state

    def _outputs(self, controller_outputs: tf.Tensor, read_vectors: tf.Tensor) -> tf.Tensor:
        """The cell's outputs of all steps; both arguments are `(batch, time, ..)`."""
        raise NotImplementedError

    def _no_write(self, state: Any) -> Any:
        """A pending write that changes nothing."""
        raise NotImplementedError

    def _write(self, state: Any, pending_write: Any) -> tf.Tensor:
        """The memory after the pending write."""
        raise NotImplementedError

    def _head_arrays(self, array: Callable[..., tf.TensorArray]) -> Any:
        """The arrays for what the heads keep; `array` makes one, given one sequence's shape."""
        raise NotImplementedError

    def _heads(self, projection: tf.Tensor, state: Any) -> tuple[Any, Any, Any]:
        """The heads' part of a step.

        Returns:
            The state after the step, with the controller's state and the memory unchanged; the
            pending write; and what is kept.
        """
        raise NotImplementedError

    def _prepare_heads(self, kept: Any) -> Any:
        """The heads' backward quantities that depend only on what they kept."""
        raise NotImplementedError

    def _nothing_deferred(self, kept: Any) -> DeferredMemoryGradient:
        """A deferred memory gradient that changes nothing."""
        raise NotImplementedError

    def _heads_back(
        self, t: tf.Tensor, kept: Kept, prepared: Any, d_after: Any
    ) -> tuple[Any, tf.Tensor, DeferredMemoryGradient]:
        """The heads' part of a step back.

        Returns:
            The gradient by the state before the step, where the controller's state, the read
            vectors and the memory are not finished; the gradient by the projection; and the
            deferred memory gradient.
        """
        raise NotImplementedError


def _release_with_graph(result: tf.Tensor) -> None:
    """Frees the gradient of a `tf.custom_gradient` together with its graph.

    TensorFlow registers a gradient for every trace. It would keep the gradient, and with it the
    graph, until the process ends. `result` is one result of the function.
    """
    graph, name = result.graph, result.op.get_attr("_gradient_op_type").decode()
    registry = ops.gradient_registry._registry
    setattr(graph, name, registry[name]["type"])
    graph_if_alive = weakref.ref(graph)
    registry[name]["type"] = lambda *arguments: getattr(graph_if_alive(), name)(*arguments)
    weakref.finalize(graph, registry.pop, name, None)


def _at(t: tf.Tensor, steps: Any) -> Any:
    """One step of every tensor: `each[t]`, which would compute the slice's bounds for each anew."""
    begin = tf.reshape(t, [1])
    end = begin + 1
    return tf.nest.map_structure(
        lambda each: tf.strided_slice(each, begin, end, shrink_axis_mask=1), steps
    )


def _merge_heads(vectors: tf.Tensor) -> tf.Tensor:
    """`(.., heads, width)` as `(.., heads * width)`."""
    *outer, heads, width = vectors.shape
    return tf.reshape(vectors, [*tf.unstack(tf.shape(vectors))[: len(outer)], heads * width])


def _rows(tensor: tf.Tensor) -> tf.Tensor:
    """The steps of all sequences, one row each."""
    return tf.reshape(tensor, [-1, tensor.shape[-1]])


def _over_steps(function: Callable[[Any], Any], kept: Kept) -> Any:
    """Applies a function, written for the tensors of one step, to all steps at once."""
    static, dynamic = kept.output.shape, tf.shape(kept.output)
    sizes = [static[axis] or dynamic[axis] for axis in range(2)]
    rows = tf.nest.map_structure(lambda each: tf.reshape(each, [-1, *each.shape[2:]]), kept)
    return tf.nest.map_structure(
        lambda each: tf.reshape(each, [*sizes, *each.shape[1:]]), function(rows)
    )


def mask_outputs(outputs: tf.Tensor, mask: tf.Tensor, zero: bool) -> tf.Tensor:
    """The outputs; where the mask is False, zeros or the last output before that counts."""
    if not zero:
        steps = tf.where(mask, tf.range(tf.shape(mask)[1]) + 1, 0)
        last = tf.scan(tf.maximum, tf.transpose(steps))
        mask = tf.transpose(last) > 0
        outputs = tf.gather(outputs, tf.maximum(tf.transpose(last) - 1, 0), batch_dims=1)
    return tf.where(mask[:, :, tf.newaxis], outputs, 0)
