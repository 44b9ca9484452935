"""The loop over time of the `NTM` layer under Keras 3: the same numbers as the cell's, sooner.

`keras.layers.RNN` leaves the gradient of its loop to automatic differentiation, which stores what
every operation of every step computed. This loop brings a gradient of its own:

* A step keeps what the gradient needs; the loop back through time is written by hand
  (analytic.py).
* Weights are used once: the inputs are multiplied by theirs before the loop, the outputs after it,
  and the weights' gradients are summed over all steps by one matrix product.
* What the way back needs of a step alone is worked out for all steps at once.
* What a step writes is written when the next one begins, since its reads come before its write:
  so the memory is changed in place. The same holds of its gradient, on the way back.
* The loop ends with the last step that the mask asks for.

Tensors are `(time, batch, ..)` here, and the memory is `(batch, memory_vector_dim, memory_size)`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from ntm_keras import analytic
from ntm_keras.heads import HeadParameters


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


class State(NamedTuple):
    """An `NTMState`, with the memory transposed."""

    controller_state: list[tf.Tensor]
    read_vectors: tf.Tensor
    weightings: tf.Tensor
    memory: tf.Tensor


class Kept(NamedTuple):
    """What a step keeps for its gradient; the lists have one tensor for each controller layer.

    Attributes:
        layer_inputs: What the layers' kernels are multiplied by.
        activations: The layers' outputs, of an LSTM its gates.
        carries: The carries of LSTM layers before the step.
        output: The controller's output.
        read_vectors: r_t.
        memory: M_{t-1}, which the step reads.
        previous_weightings: w_{t-1}.
        weightings: w_t.
        heads: The heads' parameters.
        content: What addressing by content keeps.
        location: What addressing by location keeps; empty where there is none.
    """

    layer_inputs: list[tf.Tensor]
    activations: list[tf.Tensor]
    carries: list[tf.Tensor]
    output: tf.Tensor
    read_vectors: tf.Tensor
    memory: tf.Tensor
    previous_weightings: tf.Tensor
    weightings: tf.Tensor
    heads: analytic.SquashedHeads
    content: analytic.KeptOfContent
    location: Any


class Prepared(NamedTuple):
    """What the way back needs of all steps, worked out at once before it begins.

    Attributes:
        parameters: The heads' parameters.
        head_slopes: Their slopes, see `analytic.head_slopes`.
        layer_slopes: Of each layer of the controller, from the gradient by its output to that by
            what its kernel makes; of an LSTM `analytic.LSTMSlopes`.
        sharpening_slope: See there; empty where there is no addressing by location.
    """

    parameters: HeadParameters
    head_slopes: tf.Tensor
    layer_slopes: list[Any]
    sharpening_slope: Any


class TowardsMemoryBefore(NamedTuple):
    """What leads from the gradient by the memory after a step to that by the memory it saw.

    It is used when the loop back has arrived at the step before: see the module's docstring.
    """

    erase_vector: tf.Tensor
    write_weightings: tf.Tensor
    d_read_vectors: tf.Tensor
    read_weightings: tf.Tensor
    key: tf.Tensor
    d_dot: tf.Tensor
    decay: tf.Tensor

    def before(self, d_memory: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
        """The gradient by the memory that the step saw, from that by the memory after it."""
        by_reads = analytic.outer(self.d_read_vectors, self.read_weightings)
        by_addressing = analytic.outer(self.key, self.d_dot)
        return (
            analytic.erase(d_memory, analytic.outer(self.erase_vector, self.write_weightings))
            + tf.add_n([*by_reads, *by_addressing])
            - memory * self.decay[:, tf.newaxis, :]
        )


def can_run(cell: Any) -> bool:
    """Whether the loop knows the cell's controller, and its dtype needs no widening."""
    named = cell.controller_name is not None
    return named and cell.compute_dtype == cell.variable_dtype in ("float32", "float64")


def run(
    cell: Any, sequences: tf.Tensor, initial_state: list[tf.Tensor], mask: tf.Tensor | None
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs a built cell, for which `can_run` holds, over sequences.

    Args:
        cell: The `NTMCell`.
        sequences: `(batch, time, features)`.
        initial_state: The flat list of states.
        mask: `(batch, time)`, bool; a step where it is False changes nothing.

    Returns:
        The outputs `(batch, time, output_dim)`, of no meaning where the mask is False, and the
        flat list of the states after the last step.
    """
    state = State(*cell.unpack_state(initial_state, sequences.shape[0]))
    # Shapes must not change in the loop: whoever knows the batch size tells it the other.
    batch_size = state.weightings.shape[0] or sequences.shape[0]
    sequences = tf.ensure_shape(sequences, [batch_size, None, None])
    inputs, weights = _enter(cell, tf.transpose(sequences, [1, 0, 2]))
    state = state._replace(memory=tf.transpose(state.memory, [0, 2, 1]))
    mask = None if mask is None else tf.transpose(mask)
    outputs, read_vectors, state = _Loop(cell, mask).run(inputs, weights, state)
    if cell.output_source == "controller_and_reads":
        outputs = tf.concat([outputs, _merge_heads(read_vectors)], axis=-1)
    state = state._replace(memory=tf.transpose(state.memory, [0, 2, 1]))
    return cell.output_projection(tf.transpose(outputs, [1, 0, 2])), cell.pack_state(state)


def _enter(cell: Any, inputs: tf.Tensor) -> tuple[tf.Tensor, Weights]:
    """The inputs of all steps times the weights that are theirs, and the weights of a step."""
    layers = getattr(cell.controller, "layers", None) or getattr(
        cell.controller, "cells", [cell.controller]
    )
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


class _Loop:
    """The loop, forward and back, for a cell and a mask `(time, batch)`."""

    def __init__(self, cell: Any, mask: tf.Tensor | None):
        self._is_lstm = cell.controller_name in analytic.LSTMS
        if self._is_lstm:
            self._lstm, self._lstm_slopes = analytic.LSTMS[cell.controller_name]
        self._is_recurrent = cell.controller_name != "feedforward"
        self._by_location = cell.addressing_mode == "content_and_location"
        self._memory_size = cell.memory_size
        self._write_order = cell.write_order
        self._mask = mask
        self._sizes = analytic.HeadSizes(
            cell.read_head_num, cell.write_head_num, cell.memory_vector_dim, cell.shift_range
        )

    def run(
        self, inputs: tf.Tensor, weights: Weights, state: State
    ) -> tuple[tf.Tensor, tf.Tensor, State]:
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
        return output, read_vectors, tf.nest.pack_sequence_as(state, flat_state)

    # Forward

    def _forward(self, inputs: tf.Tensor, weights: Weights, state: State) -> tuple[Kept, State]:
        """What the steps keep, `(time, ..)` each, and the state after the last one."""
        time, steps = self._time_and_steps(inputs)
        no_vectors = tf.zeros_like(
            tf.repeat(state.read_vectors[:, :1], self._sizes.write_heads, axis=1)
        )

        def body(t, state, unwritten, arrays):
            state, unwritten, kept = self._step(t, inputs[t], weights, state, unwritten)
            arrays = tf.nest.map_structure(lambda array, each: array.write(t, each), arrays, kept)
            return t + 1, state, unwritten, arrays

        _, state, unwritten, arrays = tf.while_loop(
            lambda t, *_: t < steps,
            body,
            (tf.constant(0), state, (no_vectors, no_vectors), self._arrays(inputs, weights, time)),
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
        size, sizes = self._memory_size, self._sizes
        heads, width = sizes.read_heads + sizes.write_heads, sizes.memory_vector_dim

        def array(*shape):
            return tf.TensorArray(inputs.dtype, time, element_shape=[inputs.shape[1], *shape])

        units, projected = weights.projection_kernel.shape
        by_location = (array(heads, size), array(heads, size))
        return Kept(
            layer_inputs=[array(kernel.shape[0]) for kernel in weights.kernels],
            activations=[array(kernel.shape[1]) for kernel in weights.kernels],
            carries=[array(units) for _ in weights.kernels] if self._is_lstm else [],
            output=array(units),
            read_vectors=array(sizes.read_heads, width),
            memory=array(width, size),
            previous_weightings=array(heads, size),
            weightings=array(heads, size),
            heads=analytic.SquashedHeads(
                array(projected), array(heads, 2 * sizes.shift_range + 1), array(heads)
            ),
            content=analytic.KeptOfContent(array(size), array(heads, size), array(heads, size)),
            location=analytic.KeptOfLocation(*by_location) if self._by_location else (),
        )

    def _step(
        self, t: tf.Tensor, inputs: tf.Tensor, weights: Weights, state: State, unwritten: Any
    ) -> tuple[State, Any, Kept]:
        """A step: the state after it, its erase and add vectors, and what it keeps."""
        memory = self._write(state, unwritten)
        output, controller, of_controller = self._controller(inputs, weights, state)
        squashed = analytic.squash(
            tf.matmul(output, weights.projection_kernel) + weights.projection_bias, self._sizes
        )
        parameters = analytic.head_parameters(squashed, self._sizes)
        weightings, content = analytic.address_by_content(
            memory, parameters.key, parameters.key_strength
        )
        location: Any = ()
        if self._by_location:
            weightings, location = analytic.address_by_location(
                weightings, state.weightings, parameters
            )
        read_vectors = analytic.along_locations(memory, self._split(weightings)[0])
        kept = Kept(
            *of_controller,
            output=output,
            read_vectors=read_vectors,
            memory=memory,
            previous_weightings=state.weightings,
            weightings=weightings,
            heads=squashed,
            content=content,
            location=location,
        )
        after = State(controller, read_vectors, weightings, memory)
        unwritten = parameters.erase_vector, parameters.add_vector
        return self._where(t, after, state._replace(memory=memory)), self._where(t, unwritten), kept

    def _controller(
        self, inputs: tf.Tensor, weights: Weights, state: State
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

    def _write(self, state: State, unwritten: Any) -> tf.Tensor:
        erase_vector, add_vector = unwritten
        _, weightings = self._split(state.weightings)
        return analytic.write(state.memory, weightings, erase_vector, add_vector, self._write_order)

    # Back

    def _backward(
        self,
        weights: Weights,
        kept: Kept,
        d_output: tf.Tensor,
        d_read_vectors: tf.Tensor,
        d_state: State,
    ) -> tuple[tf.Tensor, Weights, State]:
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
            (tf.convert_to_tensor(steps) - 1, d_state, self._nowhere(kept), arrays),
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
        parameters = analytic.head_parameters(kept.heads, self._sizes)
        if self._is_lstm:
            layer_slopes = [*map(self._lstm_slopes, kept.activations, kept.carries)]
        else:
            layer_slopes = [1 - activation**2 for activation in kept.activations]
        sharpening_slope: Any = ()
        if self._by_location:
            sharpening_slope = analytic.sharpening_slope(kept.location, parameters.sharpening)
        return Prepared(
            parameters,
            analytic.head_slopes(kept.heads, self._sizes),
            layer_slopes,
            sharpening_slope,
        )

    def _nowhere(self, kept: Kept) -> TowardsMemoryBefore:
        """Leaves a gradient as it is."""
        sizes = self._sizes
        weightings = tf.zeros_like(kept.weightings[0])
        reads, writes = self._split(weightings)
        vector = tf.zeros_like(kept.read_vectors[0, :, :1])
        return TowardsMemoryBefore(
            erase_vector=tf.repeat(vector, sizes.write_heads, axis=1),
            write_weightings=writes,
            d_read_vectors=tf.repeat(vector, sizes.read_heads, axis=1),
            read_weightings=reads,
            key=tf.repeat(vector, sizes.read_heads + sizes.write_heads, axis=1),
            d_dot=weightings,
            decay=weightings[:, 0],
        )

    def _step_back(
        self,
        t: tf.Tensor,
        transposed: Weights,
        kept: Kept,
        prepared: Prepared,
        d_output: tf.Tensor,
        d_after: State,
    ) -> tuple[State, TowardsMemoryBefore, list[tf.Tensor]]:
        """A step back: the gradients by the state before, but for its memory; what leads the
        memory's there; and the gradients by the products of the weights."""
        parameters = prepared.parameters
        reads, writes = self._split(kept.weightings)
        by_write = analytic.write_gradient(
            kept.memory,
            writes,
            parameters.erase_vector,
            parameters.add_vector,
            self._write_order,
            d_after.memory,
        )
        # A masked step passes all gradients by.
        d_write_weightings, d_erase, d_add = self._where(t, by_write)
        d_controller, d_read_vectors, d_weightings = self._where(t, d_after[:3])
        d_weightings += tf.concat(
            [analytic.along_width(kept.memory, d_read_vectors), d_write_weightings], axis=1
        )
        d_addressing, d_previous, d_dot, decay = self._address_back(kept, prepared, d_weightings)
        d_projection = analytic.head_parameters_gradient(
            prepared.head_slopes,
            parameters.shift_weighting,
            d_addressing._replace(erase_vector=d_erase, add_vector=d_add),
        )
        d_output += tf.matmul(d_projection, transposed.projection_kernel)
        d_controller, d_reads_before, d_preactivations = self._controller_back(
            transposed, prepared.layer_slopes, d_output, d_controller
        )
        d_before = State(d_controller, d_reads_before, d_previous, d_after.memory)
        towards = TowardsMemoryBefore(
            erase_vector=self._where(t, parameters.erase_vector),
            write_weightings=writes,
            d_read_vectors=d_read_vectors,
            read_weightings=reads,
            key=parameters.key,
            d_dot=d_dot,
            decay=decay,
        )
        return self._where(t, d_before, d_after), towards, [*d_preactivations, d_projection]

    def _address_back(
        self, kept: Kept, prepared: Prepared, d_weightings: tf.Tensor
    ) -> tuple[HeadParameters, tf.Tensor, tf.Tensor, tf.Tensor]:
        """The gradients by the parameters of addressing and by the weightings before, and the
        factors of that by the memory."""
        parameters = prepared.parameters
        d_content, d_previous = d_weightings, tf.zeros_like(d_weightings)
        d_location = [tf.zeros_like(each) for each in parameters[2:5]]
        if self._by_location:
            d_content, d_previous, *d_location = analytic.address_by_location_gradient(
                kept.content.weighting,
                kept.previous_weightings,
                parameters,
                kept.location,
                prepared.sharpening_slope,
                kept.weightings,
                d_weightings,
            )
        d_key, d_key_strength, d_dot, decay = analytic.address_by_content_gradient(
            kept.memory, parameters.key, parameters.key_strength, kept.content, d_content
        )
        d_parameters = parameters._replace(
            key=d_key,
            key_strength=d_key_strength,
            interpolation_gate=d_location[0],
            shift_weighting=d_location[1],
            sharpening=d_location[2],
        )
        return d_parameters, d_previous, d_dot, decay

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
        sizes = self._sizes
        d_read_vectors = tf.reshape(d_output, [-1, sizes.read_heads, sizes.memory_vector_dim])
        return d_state_before, d_read_vectors, d_preactivations

    # Both

    def _split(self, weightings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The weightings of the read heads and of the write heads."""
        return weightings[:, : self._sizes.read_heads], weightings[:, self._sizes.read_heads :]

    def _where(self, t: tf.Tensor, new: Any, old: Any = None) -> Any:
        """A structure of tensors where the mask of the step holds; elsewhere another, or zero."""
        if self._mask is None:
            return new
        mask = self._mask[t]
        old = tf.nest.map_structure(tf.zeros_like, new) if old is None else old

        def where(new, old):
            return tf.where(tf.reshape(mask, [-1] + [1] * (new.shape.rank - 1)), new, old)

        return tf.nest.map_structure(where, new, old)


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
