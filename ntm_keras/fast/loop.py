"""A loop over time with a hand-written gradient.

`keras.layers.RNN` leaves the gradient of its loop to automatic differentiation, which stores the
results of all operations of all steps. This loop has its own gradient:

* A step keeps only what the gradient needs. The loop back through time is written by hand.
* The inputs are multiplied by their weights before the loop, and the outputs are projected after
  it. One matrix product sums a weight's gradient over all steps.
* Backward quantities that depend only on kept values are computed for all steps at once.
* A step's write is deferred until the next step begins, so that the memory changes in place. The
  memory's gradient is deferred in the same way.
* On TensorFlow the loop ends with the last step for which the mask is True.

This file has what all machines share: the loops over the steps. The controller is in controller.py,
the heads are in ntm.py and mann.py, analytic.py has the parts of a step, and over_time.py what
TensorFlow and JAX do differently.

Tensors are `(time, batch, ..)` here, and the memory is `(batch, memory_vector_dim, memory_size)`.
A name `d_x` is the gradient of the loss by `x`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from ntm_keras.fast import over_time
from ntm_keras.fast.controller import Controller, KeptController, Weights
from ntm_keras.keras_compat import IS_TENSORFLOW, Tensor, matmul, ops


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
    output: Tensor
    read_vectors: Tensor
    memory: Tensor
    heads: Any


class Results(NamedTuple):
    """What the loop gives back.

    Attributes:
        outputs: The controller's outputs.
        read_vectors: r_t of all steps.
        state: The state after the last step.
    """

    outputs: Tensor
    read_vectors: Tensor
    state: Any


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

    def before(self, d_memory: Tensor, memory: Tensor) -> Tensor:
        """Turns dL/dM_t into dL/dM_{t-1}; `memory` is M_{t-1}."""


class Loop:
    """The loop over time, forward and back.

    A subclass computes the heads' part: see the methods at the end of this class. The states are
    the cell's `State`, with the memory transposed.

    Args:
        cell: A built cell, for which `loop_for` returns this class.
        mask: `(batch, time)`, bool; a step where it is False changes nothing.
    """

    def __init__(self, cell: Any, mask: Tensor | None = None):
        self._cell = cell
        self._controller = Controller(cell)
        self._mask = None if mask is None else ops.transpose(mask)

    def run(self, sequences: Tensor, initial_state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
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
        sequences = _with_batch_size_of(state.memory, sequences)
        inputs, weights = self._controller.multiply_inputs(ops.transpose(sequences, [1, 0, 2]))
        state = state._replace(memory=ops.transpose(state.memory, [0, 2, 1]))
        results = over_time.with_own_gradient(
            self._forward, self._backward, self._mask, (inputs, weights, state)
        )
        controller_outputs, read_vectors = (
            ops.transpose(each, [1, 0, 2])
            for each in (results.outputs, _merge_heads(results.read_vectors))
        )
        state = results.state._replace(memory=ops.transpose(results.state.memory, [0, 2, 1]))
        return self._outputs(controller_outputs, read_vectors), cell.pack_state(state)

    # Forward

    def _forward(
        self, mask: Tensor | None, inputs: Tensor, weights: Weights, state: Any
    ) -> tuple[Results, Kept]:
        """The results, and what the steps keep, each tensor `(time, ..)`."""
        time = _time(inputs)

        def body(t, state, pending_write):
            return self._step(_counts(mask, t), inputs[t], weights, state, pending_write)

        state, pending_write, kept = over_time.to_the_end(
            body,
            (state, self._no_write(state)),
            time,
            mask,
            arrays=lambda: self._arrays(inputs, weights, time),
        )
        state = state._replace(memory=self._write(state, pending_write))
        return Results(kept.output, kept.read_vectors, state), kept

    def _arrays(self, inputs: Tensor, weights: Weights, time: Any) -> Kept:
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
        self,
        counts: Tensor | None,
        inputs: Tensor,
        weights: Weights,
        state: Any,
        pending_write: Any,
    ) -> tuple[Any, Any, Kept]:
        """One step: the state after it, its pending write, and what is kept."""
        state = state._replace(memory=self._write(state, pending_write))
        output, controller_state, kept_controller = self._controller.step(
            inputs, _merge_heads(state.read_vectors), state.controller_state, weights
        )
        projection = ops.matmul(output, weights.projection_kernel) + weights.projection_bias
        after, pending_write, kept_heads = self._heads(projection, state)
        kept = Kept(kept_controller, output, after.read_vectors, state.memory, kept_heads)
        after = after._replace(controller_state=controller_state)
        return where(counts, after, state), where(counts, pending_write), kept

    # Back

    def _backward(
        self,
        mask: Tensor | None,
        arguments: tuple[Tensor, Weights, Any],
        kept: Kept,
        d_results: Results,
    ) -> tuple[Tensor, Weights, Any]:
        """The gradients by the inputs, the weights and the state before the first step."""
        _, weights, _ = arguments
        time = _time(kept.output)
        kernels = [*weights.kernels, weights.projection_kernel]
        transposed = [ops.transpose(kernel) for kernel in kernels]
        prepared = _over_steps(self._prepare, kept)

        def body(t, d_state, deferred):
            # After the last step nothing is deferred: any memory will do.
            next_memory = kept.memory[ops.minimum(t + 1, time - 1)]
            d_memory = deferred.before(d_state.memory, next_memory)
            step_kept, step_prepared, d_output, d_read_vectors = over_time.at_step(
                t, (kept, prepared, d_results.outputs, d_results.read_vectors)
            )
            d_state = d_state._replace(
                read_vectors=d_state.read_vectors + d_read_vectors, memory=d_memory
            )
            return self._step_back(
                _counts(mask, t), transposed, step_kept, step_prepared, d_output, d_state
            )

        d_state, deferred, d_products = over_time.to_the_beginning(
            body,
            (d_results.state, self._nothing_deferred(kept.heads)),
            time,
            mask,
            arrays=lambda: [
                tf.TensorArray(
                    kernel.dtype, time, element_shape=[kept.output.shape[1], kernel.shape[1]]
                )
                for kernel in kernels
            ],
        )
        d_state = d_state._replace(memory=deferred.before(d_state.memory, kept.memory[0]))
        d_inputs, d_weights = self._gradients_of_products(kept, d_products)
        return d_inputs, d_weights, d_state

    def _gradients_of_products(
        self, kept: Kept, d_products: list[Tensor]
    ) -> tuple[Tensor, Weights]:
        """The gradients by inputs and weights, from the gradients by the kernels' products."""
        rows = [_rows(d_product) for d_product in d_products]
        d_kernels = [
            matmul(_rows(multiplied), d_product, transpose_a=True)
            for multiplied, d_product in zip([*kept.controller.layer_inputs, kept.output], rows)
        ]
        d_biases = [ops.sum(d_product, axis=0) for d_product in rows]
        return d_products[0], Weights(d_kernels[:-1], d_biases[1:-1], d_kernels[-1], d_biases[-1])

    def _prepare(self, kept: Kept) -> Prepared:
        """Backward quantities that depend only on kept values."""
        return Prepared(self._controller.slopes(kept.controller), self._prepare_heads(kept.heads))

    def _step_back(
        self,
        counts: Tensor | None,
        transposed: list[Tensor],
        kept: Kept,
        prepared: Prepared,
        d_output: Tensor,
        d_after: Any,
    ) -> tuple[Any, DeferredMemoryGradient, list[Tensor]]:
        """One step back.

        Returns:
            The gradient by the state before the step, but its `memory` is not finished: the
            deferred memory gradient, returned second, will turn it into dL/dM_{t-1}. Third, the
            gradients by the kernels' products.
        """
        *transposed_kernels, transposed_projection = transposed
        d_before, d_projection, deferred = self._heads_back(counts, kept, prepared.heads, d_after)
        d_output += ops.matmul(d_projection, transposed_projection)
        d_controller_state, d_read_vectors, d_preactivations = self._controller.step_back(
            transposed_kernels,
            prepared.slopes,
            d_output,
            where(counts, d_after.controller_state),
        )
        d_before = d_before._replace(
            controller_state=d_controller_state,
            read_vectors=ops.reshape(
                d_read_vectors, [-1, *self._cell.state_shapes["read_vectors"]]
            ),
        )
        return where(counts, d_before, d_after), deferred, [*d_preactivations, d_projection]

    # What the heads do

    def _valid_state(self, state: Any) -> Any:
        """The state; invalid numbers from the user are replaced as in the cell's own step."""
        return state

    def _outputs(self, controller_outputs: Tensor, read_vectors: Tensor) -> Tensor:
        """The cell's outputs of all steps; both arguments are `(batch, time, ..)`."""
        raise NotImplementedError

    def _no_write(self, state: Any) -> Any:
        """A pending write that changes nothing."""
        raise NotImplementedError

    def _write(self, state: Any, pending_write: Any) -> Tensor:
        """The memory after the pending write."""
        raise NotImplementedError

    def _head_arrays(self, array: Callable[..., tf.TensorArray]) -> Any:
        """The arrays for what the heads keep; `array` makes one, given one sequence's shape."""
        raise NotImplementedError

    def _heads(self, projection: Tensor, state: Any) -> tuple[Any, Any, Any]:
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
        self, counts: Tensor | None, kept: Kept, prepared: Any, d_after: Any
    ) -> tuple[Any, Tensor, DeferredMemoryGradient]:
        """The heads' part of a step back.

        Returns:
            The gradient by the state before the step, where the controller's state, the read
            vectors and the memory are not finished; the gradient by the projection; and the
            deferred memory gradient.
        """
        raise NotImplementedError


def where(counts: Tensor | None, new: Any, old: Any = None) -> Any:
    """A structure of tensors: `new` where a step counts, elsewhere `old` or zeros.

    Args:
        counts: The step's mask, `(batch,)`; None where all steps count.
        new: The structure.
        old: Another one like it.
    """
    if counts is None:
        return new
    old = tf.nest.map_structure(ops.zeros_like, new) if old is None else old

    def where(new, old):
        return ops.where(ops.reshape(counts, [-1] + [1] * (len(new.shape) - 1)), new, old)

    return tf.nest.map_structure(where, new, old)


def _counts(mask: Tensor | None, t: Tensor) -> Tensor | None:
    return None if mask is None else mask[t]


def _time(steps: Tensor) -> Any:
    """The number of steps, a tensor where it is not known before."""
    return ops.shape(steps)[0]


def _with_batch_size_of(memory: Tensor, sequences: Tensor) -> Tensor:
    """The sequences, with a batch size that may be known from the memory alone.

    In TensorFlow shapes must not change in a loop.
    """
    if not IS_TENSORFLOW:
        return sequences
    return tf.ensure_shape(sequences, [memory.shape[0] or sequences.shape[0], None, None])


def _merge_heads(vectors: Tensor) -> Tensor:
    """`(.., heads, width)` as `(.., heads * width)`."""
    *outer, heads, width = ops.shape(vectors)
    return ops.reshape(vectors, [*outer, heads * width])


def _rows(tensor: Tensor) -> Tensor:
    """The steps of all sequences, one row each."""
    return ops.reshape(tensor, [-1, tensor.shape[-1]])


def _over_steps(function: Callable[[Any], Any], kept: Kept) -> Any:
    """Applies a function, written for the tensors of one step, to all steps at once."""
    sizes = list(ops.shape(kept.output)[:2])
    rows = tf.nest.map_structure(lambda each: ops.reshape(each, [-1, *each.shape[2:]]), kept)
    return tf.nest.map_structure(
        lambda each: ops.reshape(each, [*sizes, *each.shape[1:]]), function(rows)
    )
