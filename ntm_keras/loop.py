"""The loops over time of `NTM` and `MANN` under Keras 3: the same numbers as the cells', sooner.

`keras.layers.RNN` leaves the gradient of its loop to automatic differentiation, which stores what
every operation of every step computed. These loops bring a gradient of their own:

* A step keeps what the gradient needs; the loop back through time is written by hand.
* Weights are used once: the inputs are multiplied by theirs before the loop, the outputs after it,
  and the weights' gradients are summed over all steps by one matrix product.
* What the way back needs of a step alone is worked out for all steps at once.
* What a step writes is written when the next one begins: so the memory is changed in place. The
  same holds of its gradient, on the way back.
* The loop ends with the last step that the mask asks for.

Here is what the machines have in common: the controller, and the way through the steps. What their
heads do stands in ntm_loop.py and mann_loop.py, and the pieces of both in analytic.py.

Tensors are `(time, batch, ..)` here, and the memory is `(batch, memory_vector_dim, memory_size)`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework import ops

from ntm_keras import analytic
from ntm_keras.controllers import CountingLSTMCell
from ntm_keras.keras_compat import keras

# How many weights a layer has that computes what the loops take it to compute: with LoRA's it has
# more.
_WEIGHTS = {
    keras.layers.Dense: 2,
    keras.layers.LSTMCell: 3,
    keras.layers.SimpleRNNCell: 3,
    CountingLSTMCell: 3,
}


class Weights(NamedTuple):
    """The weights that act in every step.

    Attributes:
        kernels: Of each layer of the controller: for what comes from the layer below (for the
            first layer the read vectors) and, in a recurrent layer, for its own output before.
        biases: Of each layer but the first, whose bias is in its inputs.
        projection_kernel: From the controller's output to the heads' parameters.
        projection_bias: The same.
    """

    kernels: list[tf.Tensor]
    biases: list[tf.Tensor]
    projection_kernel: tf.Tensor
    projection_bias: tf.Tensor


class Kept(NamedTuple):
    """What a step keeps for its gradient; the lists have one tensor for each controller layer.

    Attributes:
        layer_inputs: What the layers' kernels are multiplied by.
        activations: The layers' outputs, of an LSTM its gates.
        carries: The carries of LSTM layers before the step.
        output: The controller's output.
        read_vectors: r_t.
        memory: M_{t-1}.
        heads: What the heads keep besides.
    """

    layer_inputs: list[tf.Tensor]
    activations: list[tf.Tensor]
    carries: list[tf.Tensor]
    output: tf.Tensor
    read_vectors: tf.Tensor
    memory: tf.Tensor
    heads: Any


class Prepared(NamedTuple):
    """What the way back needs of all steps, worked out at once before it begins.

    Attributes:
        layer_slopes: Of each layer of the controller, from the gradient by its output to that by
            what its kernel makes; of an LSTM `analytic.LSTMSlopes`.
        heads: What the heads need.
    """

    layer_slopes: list[Any]
    heads: Any


def can_run(cell: Any) -> bool:
    """Whether a loop knows what the cell is made of, and its dtype needs no widening."""
    if cell.controller_name is None or cell.compute_dtype not in ("float32", "float64"):
        return False
    layers = [*_layers(cell.controller), cell.parameter_projection] if cell.built else []
    return cell.compute_dtype == cell.variable_dtype and all(
        len(layer.weights) == _WEIGHTS.get(type(layer))
        and all(weight.dtype == cell.compute_dtype for weight in layer.weights)
        for layer in layers
    )


class Loop:
    """The loop, forward and back, of a built cell for which `can_run` holds.

    A subclass does what the heads do: see its hooks at the end. Its states are the cell's own
    NamedTuples, with the memory transposed.

    Args:
        cell: The cell.
        mask: `(batch, time)`, bool; a step where it is False changes nothing.
    """

    def __init__(self, cell: Any, mask: tf.Tensor | None = None):
        self._cell = cell
        self._is_lstm = cell.controller_name in analytic.LSTMS
        if self._is_lstm:
            self._lstm, self._lstm_slopes = analytic.LSTMS[cell.controller_name]
        self._is_recurrent = cell.controller_name != "feedforward"
        self._mask = None if mask is None else tf.transpose(mask)

    def run(
        self, sequences: tf.Tensor, initial_state: list[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Runs the cell over sequences.

        Args:
            sequences: `(batch, time, features)`.
            initial_state: The flat list of states.

        Returns:
            The controller's outputs `(batch, time, rnn_size)` and all read vectors `(batch, time,
            read_width)`, of no meaning where the mask is False, and the flat list of the states
            after the last step.
        """
        cell = self._cell
        state = self._sound(cell.unpack_state(initial_state, sequences.shape[0]))
        # Shapes must not change in the loop: whoever knows the batch size tells it the other.
        batch_size = state.memory.shape[0] or sequences.shape[0]
        sequences = tf.ensure_shape(sequences, [batch_size, None, None])
        inputs, weights = _enter(cell, tf.transpose(sequences, [1, 0, 2]))
        state = state._replace(memory=tf.transpose(state.memory, [0, 2, 1]))
        outputs, read_vectors, state = self._run(inputs, weights, state)
        state = state._replace(memory=tf.transpose(state.memory, [0, 2, 1]))
        outputs, read_vectors = (
            tf.transpose(each, [1, 0, 2]) for each in (outputs, _merge_heads(read_vectors))
        )
        return outputs, read_vectors, cell.pack_state(state)

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
        """What the steps keep, `(time, ..)` each, and the state after the last one."""
        time, steps = self._time_and_steps(inputs)
        first = state, self._nothing_to_write(state), self._arrays(inputs, weights, time)

        def body(t, state, unwritten, arrays):
            state, unwritten, kept = self._step(t, inputs[t], weights, state, unwritten)
            arrays = tf.nest.map_structure(lambda array, each: array.write(t, each), arrays, kept)
            return t + 1, state, unwritten, arrays

        _, state, unwritten, arrays = tf.while_loop(
            lambda t, *_: t < steps,
            body,
            (tf.constant(0), *first),
            maximum_iterations=time,
        )
        kept = tf.nest.map_structure(lambda array: array.stack(), arrays)
        return kept, state._replace(memory=self._write(state, unwritten))

    def _time_and_steps(self, inputs: tf.Tensor) -> tuple[Any, Any]:
        """How many steps there are, and how many until the mask asks for no more."""
        time = inputs.shape[0] or tf.shape(inputs)[0]
        if self._mask is None:
            return time, time
        last = tf.where(tf.reduce_any(self._mask, axis=1), tf.range(time), 0)
        return time, tf.reduce_max(last) + 1

    def _arrays(self, inputs: tf.Tensor, weights: Weights, time: Any) -> Kept:
        """Where the steps keep what they keep."""
        cell = self._cell

        def array(*shape):
            return tf.TensorArray(inputs.dtype, time, element_shape=[inputs.shape[1], *shape])

        units = cell.rnn_size
        return Kept(
            layer_inputs=[array(kernel.shape[0]) for kernel in weights.kernels],
            activations=[array(kernel.shape[1]) for kernel in weights.kernels],
            carries=[array(units) for _ in weights.kernels] if self._is_lstm else [],
            output=array(units),
            read_vectors=array(*cell.state_shapes["read_vectors"]),
            memory=array(cell.memory_vector_dim, cell.memory_size),
            heads=self._arrays_of_heads(array),
        )

    def _step(
        self, t: tf.Tensor, inputs: tf.Tensor, weights: Weights, state: Any, unwritten: Any
    ) -> tuple[Any, Any, Kept]:
        """A step: the state after it, what it has to write, and what it keeps."""
        state = state._replace(memory=self._write(state, unwritten))
        output, controller, of_controller = self._controller(inputs, weights, state)
        projection = tf.matmul(output, weights.projection_kernel) + weights.projection_bias
        after, unwritten, of_heads = self._heads(projection, state)
        kept = Kept(
            *of_controller,
            output=output,
            read_vectors=after.read_vectors,
            memory=state.memory,
            heads=of_heads,
        )
        after = after._replace(controller_state=controller)
        return self._where(t, after, state), self._where(t, unwritten), kept

    def _controller(
        self, inputs: tf.Tensor, weights: Weights, state: Any
    ) -> tuple[tf.Tensor, list[tf.Tensor], tuple[list, list, list]]:
        """The controller's output, its state, and what its layers keep: inputs, activations and
        carries."""
        states, below = list(state.controller_state), _merge_heads(state.read_vectors)
        layer_inputs, activations, carries, new_states = [], [], [], []
        for kernel, bias in zip(weights.kernels, [inputs, *weights.biases]):
            if self._is_recurrent:
                below = tf.concat([below, states.pop(0)], axis=-1)
            layer_inputs.append(below)
            preactivation = tf.matmul(below, kernel) + bias
            if self._is_lstm:
                carries.append(states.pop(0))
                below, carry, gates = self._lstm(preactivation, carries[-1])
                activations.append(gates)
                new_states += [below, carry]
            else:
                below = tf.tanh(preactivation)
                activations.append(below)
                new_states += [below] if self._is_recurrent else []
        return below, new_states, (layer_inputs, activations, carries)

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
        transposed = tf.nest.map_structure(tf.transpose, weights._replace(biases=[]))
        products = [*weights.kernels, weights.projection_kernel]
        prepared = _over_steps(self._prepare, kept)

        # XLA compiles anew for every value that an index is computed from. So the number of steps
        # is only where the loop begins.
        def body(t, d_state, towards, arrays):
            # After the last step comes none, and `towards` leaves the gradient as it is.
            d_memory = towards.before(d_state.memory, kept.memory[tf.minimum(t + 1, time - 1)])
            d_state = d_state._replace(
                read_vectors=d_state.read_vectors + d_read_vectors[t], memory=d_memory
            )
            of_step = tf.nest.map_structure(lambda each: each[t], (kept, prepared))
            d_state, towards, d_products = self._step_back(
                t, transposed, *of_step, d_output[t], d_state
            )
            arrays = [array.write(t, each) for array, each in zip(arrays, d_products)]
            return t - 1, d_state, towards, arrays

        batch = kept.output.shape[1]
        arrays = [
            tf.TensorArray(kernel.dtype, time, element_shape=[batch, kernel.shape[1]])
            for kernel in products
        ]
        _, d_state, towards, arrays = tf.while_loop(
            lambda t, *_: t >= 0,
            body,
            (tf.convert_to_tensor(steps) - 1, d_state, self._nowhere(kept.heads), arrays),
            maximum_iterations=time,
        )
        d_products = [_rows(array.stack()) for array in arrays]
        d_kernels = [
            tf.matmul(_rows(inputs), d_product, transpose_a=True)
            for inputs, d_product in zip([*kept.layer_inputs, kept.output], d_products)
        ]
        d_biases = [tf.reduce_sum(d_product, axis=0) for d_product in d_products]
        d_state = d_state._replace(memory=towards.before(d_state.memory, kept.memory[0]))
        d_inputs = tf.reshape(d_products[0], tf.shape(kept.activations[0]))
        d_weights = Weights(d_kernels[:-1], d_biases[1:-1], d_kernels[-1], d_biases[-1])
        return d_inputs, d_weights, d_state

    def _prepare(self, kept: Kept) -> Prepared:
        """What needs nothing but what was kept of a step."""
        if self._is_lstm:
            layer_slopes = [*map(self._lstm_slopes, kept.activations, kept.carries)]
        else:
            layer_slopes = [1 - activation**2 for activation in kept.activations]
        return Prepared(layer_slopes, self._prepare_heads(kept.heads))

    def _step_back(
        self,
        t: tf.Tensor,
        transposed: Weights,
        kept: Kept,
        prepared: Prepared,
        d_output: tf.Tensor,
        d_after: Any,
    ) -> tuple[Any, Any, list[tf.Tensor]]:
        """A step back: the gradients by the state before, but for its memory; what leads the
        memory's there; and the gradients by the products of the weights."""
        d_before, d_projection, towards = self._heads_back(t, kept, prepared.heads, d_after)
        d_output += tf.matmul(d_projection, transposed.projection_kernel)
        d_controller, d_reads_before, d_preactivations = self._controller_back(
            transposed,
            prepared.layer_slopes,
            d_output,
            self._where(t, d_after.controller_state),
        )
        d_before = d_before._replace(controller_state=d_controller, read_vectors=d_reads_before)
        return self._where(t, d_before, d_after), towards, [*d_preactivations, d_projection]

    def _controller_back(
        self, transposed: Weights, slopes: list[Any], d_output: tf.Tensor, d_state: list[tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor, list[tf.Tensor]]:
        """The gradients by the controller's state before, by the read vectors before, and by
        what the layers' kernels make."""
        d_state = list(d_state)
        d_state_before: list[tf.Tensor] = []
        d_preactivations: list[tf.Tensor] = []
        for layer, kernel in reversed(list(enumerate(transposed.kernels))):
            d_carry = [d_state.pop()] if self._is_lstm else []
            d_output += d_state.pop() if self._is_recurrent else 0
            if self._is_lstm:
                d_preactivation, *d_carry = analytic.lstm_gradient(
                    slopes[layer], d_output, *d_carry
                )
            else:
                d_preactivation = slopes[layer] * d_output
            d_inputs = tf.matmul(d_preactivation, kernel)
            d_preactivations.insert(0, d_preactivation)
            if self._is_recurrent:
                units = d_preactivation.shape[1] // (4 if self._is_lstm else 1)
                d_inputs, d_own = d_inputs[:, :-units], d_inputs[:, -units:]
                d_state_before[:0] = [d_own, *d_carry]
            d_output = d_inputs
        d_read_vectors = tf.reshape(d_output, [-1, *self._cell.state_shapes["read_vectors"]])
        return d_state_before, d_read_vectors, d_preactivations

    # Both

    def _where(self, t: tf.Tensor, new: Any, old: Any = None) -> Any:
        """A structure of tensors where the mask of the step holds; elsewhere another, or zero."""
        if self._mask is None:
            return new
        mask = self._mask[t]
        old = tf.nest.map_structure(tf.zeros_like, new) if old is None else old

        def where(new, old):
            return tf.where(tf.reshape(mask, [-1] + [1] * (new.shape.rank - 1)), new, old)

        return tf.nest.map_structure(where, new, old)

    # What the heads do

    def _sound(self, state: Any) -> Any:
        """A given state, without what no step would have left."""
        return state

    def _nothing_to_write(self, state: Any) -> Any:
        """What a step has to write that writes nothing."""
        raise NotImplementedError

    def _write(self, state: Any, unwritten: Any) -> tf.Tensor:
        """The memory, when what the step before had to write is written."""
        raise NotImplementedError

    def _arrays_of_heads(self, array: Callable[..., tf.TensorArray]) -> Any:
        """Where the heads keep what they keep; `array` makes one from the shape for a sequence."""
        raise NotImplementedError

    def _heads(self, projection: tf.Tensor, state: Any) -> tuple[Any, Any, Any]:
        """The state after the step, but for its controller and what it writes; what it has to
        write; and what is kept."""
        raise NotImplementedError

    def _prepare_heads(self, kept: Any) -> Any:
        """What the way back through the heads needs nothing for but what was kept of a step."""
        raise NotImplementedError

    def _nowhere(self, kept: Any) -> Any:
        """A `towards` that leaves the gradient by the memory as it is."""
        raise NotImplementedError

    def _heads_back(
        self, t: tf.Tensor, kept: Kept, prepared: Any, d_after: Any
    ) -> tuple[Any, tf.Tensor, Any]:
        """A step back through the heads: the gradients by the state before, but for controller
        and read vectors, and with that by the memory after; the gradient by the projection; and
        `towards`, whose method `before` leads from the gradient by the memory after the step and
        the memory before to the gradient by the latter."""
        raise NotImplementedError


def _release_with_graph(result: tf.Tensor) -> None:
    """Lets the gradient of a `tf.custom_gradient`, given a result of it, die with its graph.

    TensorFlow registers a gradient for every trace, and keeps it, and the graph that it refers to,
    until the process ends.
    """
    graph, name = result.graph, result.op.get_attr("_gradient_op_type").decode()
    registry = ops.gradient_registry._registry
    setattr(graph, name, registry[name]["type"])
    graph_if_alive = weakref.ref(graph)
    registry[name]["type"] = lambda *arguments: getattr(graph_if_alive(), name)(*arguments)
    weakref.finalize(graph, registry.pop, name, None)


def _enter(cell: Any, inputs: tf.Tensor) -> tuple[tf.Tensor, Weights]:
    """The inputs of all steps times the weights that are theirs, and the weights of a step."""
    layers = _layers(cell.controller)
    below = [tf.convert_to_tensor(layer.kernel) for layer in layers]
    biases = [tf.convert_to_tensor(layer.bias) for layer in layers]
    width = inputs.shape[-1]
    entering, below[0] = below[0][:width], below[0][width:]
    kernels = [
        tf.concat([kernel, tf.convert_to_tensor(layer.recurrent_kernel)], axis=0)
        if hasattr(layer, "recurrent_kernel")
        else kernel
        for kernel, layer in zip(below, layers)
    ]
    projection = [tf.convert_to_tensor(each) for each in cell.parameter_projection.weights]
    return tf.tensordot(inputs, entering, 1) + biases[0], Weights(kernels, biases[1:], *projection)


def _layers(controller: Any) -> list[Any]:
    """The layers of a controller that has a name, from the bottom."""
    return getattr(controller, "layers", None) or getattr(controller, "cells", [controller])


def _merge_heads(vectors: tf.Tensor) -> tf.Tensor:
    """`(.., heads, width)` as `(.., heads * width)`."""
    *outer, heads, width = vectors.shape
    return tf.reshape(vectors, [*tf.unstack(tf.shape(vectors))[: len(outer)], heads * width])


def _rows(tensor: tf.Tensor) -> tf.Tensor:
    """The steps of all sequences one below the other."""
    return tf.reshape(tensor, [-1, tensor.shape[-1]])


def _over_steps(function: Any, kept: Any) -> Any:
    """What a function makes of the tensors of a step, for all steps at once."""
    static, dynamic = kept.output.shape, tf.shape(kept.output)
    sizes = [static[axis] or dynamic[axis] for axis in range(2)]
    rows = tf.nest.map_structure(lambda each: tf.reshape(each, [-1, *each.shape[2:]]), kept)
    return tf.nest.map_structure(
        lambda each: tf.reshape(each, [*sizes, *each.shape[1:]]), function(rows)
    )
