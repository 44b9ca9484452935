"""Both machines as in their papers, not optimised, for comparison in the speed benchmarks.

They are batched and have the same equations as `ntm_keras.NTMCell` and `ntm_keras.MANNCell`, but
every head is computed separately, in every step.
"""

from __future__ import annotations

import tensorflow as tf

from ntm_keras.keras_compat import AbstractRNNCell, keras


class PlainNTMCell(AbstractRNNCell):
    """An LSTM controller and a memory, for `keras.layers.RNN`.

    Args:
        units: Width of the controller.
        memory_size: Number of locations.
        memory_vector_dim: Width of a location.
        heads: Number of read heads, which is also the number of write heads.
        output_dim: Width of the outputs.
    """

    def __init__(
        self, units: int, memory_size: int, memory_vector_dim: int, heads: int, output_dim: int
    ):
        super().__init__()
        self.units, self.heads, self.output_dim = units, heads, output_dim
        self.memory_size, self.memory_vector_dim = memory_size, memory_vector_dim
        self.controller = keras.layers.LSTMCell(units)
        self.head_layers = [
            keras.layers.Dense(memory_vector_dim + 6 + (2 * memory_vector_dim if writes else 0))
            for writes in [False] * heads + [True] * heads
        ]
        self.output_layer = keras.layers.Dense(output_dim)

    @property
    def state_size(self):
        reads = [self.memory_vector_dim] * self.heads
        weightings = [self.memory_size] * 2 * self.heads
        return [*reads, *weightings, self.memory_size * self.memory_vector_dim, *[self.units] * 2]

    @property
    def output_size(self):
        return self.output_dim

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        sizes = self.state_size
        states = [tf.zeros([batch_size, size]) for size in sizes]
        for index in range(self.heads, 3 * self.heads):
            states[index] = tf.one_hot(tf.zeros([batch_size], tf.int32), sizes[index])
        states[3 * self.heads] += 1e-6
        return states

    def build(self, input_shape):
        width = input_shape[-1] + self.heads * self.memory_vector_dim
        self.controller.build((None, width))
        for layer in [*self.head_layers, self.output_layer]:
            layer.build((None, self.units))
        self.built = True

    def call(self, inputs, states):
        heads = self.heads
        reads, weightings = states[:heads], states[heads : 3 * heads]
        memory = tf.reshape(states[3 * heads], [-1, self.memory_size, self.memory_vector_dim])
        joined = tf.concat([inputs, *reads], axis=-1)
        hidden, controller_state = self.controller(joined, states[3 * heads + 1 :])
        parameters = [layer(hidden) for layer in self.head_layers]
        weightings = [
            self._address(memory, numbers, before)
            for numbers, before in zip(parameters, weightings)
        ]
        reads = [tf.reduce_sum(w[:, :, tf.newaxis] * memory, axis=1) for w in weightings[:heads]]
        for numbers, weighting in zip(parameters[heads:], weightings[heads:]):
            erase, add = tf.split(numbers[:, self.memory_vector_dim + 6 :], 2, axis=-1)
            weighting = weighting[:, :, tf.newaxis]
            memory = memory * (1 - weighting * tf.sigmoid(erase)[:, tf.newaxis, :])
            memory = memory + weighting * tf.tanh(add)[:, tf.newaxis, :]
        flat = tf.reshape(memory, [-1, self.memory_size * self.memory_vector_dim])
        return self.output_layer(hidden), [*reads, *weightings, flat, *controller_state]

    def _address(self, memory, numbers, before):
        """Equations (5) to (9)."""
        width = self.memory_vector_dim
        key = tf.tanh(numbers[:, tf.newaxis, :width])
        strength = 10 * tf.sigmoid(numbers[:, width : width + 1])
        gate = tf.sigmoid(numbers[:, width + 1 : width + 2])
        shift = tf.nn.softmax(numbers[:, width + 2 : width + 5])
        sharpening = 1 + tf.nn.softplus(numbers[:, width + 5 : width + 6])
        norms = tf.norm(key + 1e-8, axis=-1) * tf.norm(memory + 1e-8, axis=-1)
        similarity = tf.reduce_sum(key * memory, axis=-1) / (norms + 1e-8)
        gated = gate * tf.nn.softmax(strength * similarity) + (1 - gate) * before
        after, back = tf.roll(gated, 1, axis=-1), tf.roll(gated, -1, axis=-1)
        shifted = shift[:, 0:1] * gated + shift[:, 1:2] * after + shift[:, 2:3] * back
        sharp = tf.pow(shifted + 1e-12, sharpening)
        return sharp / tf.reduce_sum(sharp, axis=-1, keepdims=True)


class PlainMANN(keras.layers.Layer):
    """The memory-augmented network, with Python loops over time and heads.

    Args:
        units: Width of the controller.
        memory_size: Number of locations.
        memory_vector_dim: Width of a location.
        heads: Number of heads.
        gamma: The factor by which the usage decays in a step.
    """

    def __init__(
        self, units: int, memory_size: int, memory_vector_dim: int, heads: int, gamma: float = 0.95
    ):
        super().__init__()
        self.units, self.heads, self.gamma = units, heads, gamma
        self.memory_size, self.memory_vector_dim = memory_size, memory_vector_dim
        self.controller = keras.layers.LSTMCell(units)
        self.head_layers = [keras.layers.Dense(2 * memory_vector_dim + 2) for _ in range(heads)]

    def call(self, sequences):
        batch_size = tf.shape(sequences)[0]
        first = tf.one_hot(tf.zeros([batch_size], tf.int32), self.memory_size)
        controller_state = [tf.zeros([batch_size, self.units])] * 2
        reads = [tf.zeros([batch_size, self.memory_vector_dim])] * self.heads
        read_weightings, usage = [first] * self.heads, first
        memory = tf.fill([batch_size, self.memory_size, self.memory_vector_dim], 1e-6)
        outputs = []
        for inputs in tf.unstack(sequences, axis=1):
            joined = tf.concat([inputs, *reads], axis=-1)
            hidden, controller_state = self.controller(joined, controller_state)
            _, order = tf.math.top_k(usage, self.memory_size)
            marks = tf.one_hot(order[:, -self.heads :], self.memory_size)
            least_used = tf.reduce_sum(marks, axis=1)
            before, read_weightings, write_weightings, adds = read_weightings, [], [], []
            for layer, previous in zip(self.head_layers, before):
                key, add, gate, strength = tf.split(
                    layer(hidden), [self.memory_vector_dim] * 2 + [1, 1], axis=-1
                )
                read_weightings.append(self._address(memory, tf.tanh(key), strength))
                gate = tf.sigmoid(gate)
                write_weightings.append(gate * previous + (1 - gate) * least_used)
                adds.append(tf.tanh(add))
            usage = self.gamma * usage + tf.add_n(read_weightings) + tf.add_n(write_weightings)
            memory *= 1 - marks[:, -1, :, tf.newaxis]
            for weighting, add in zip(write_weightings, adds):
                memory += weighting[:, :, tf.newaxis] * add[:, tf.newaxis, :]
            reads = [tf.reduce_sum(w[:, :, tf.newaxis] * memory, axis=1) for w in read_weightings]
            outputs.append(tf.concat([hidden, *reads], axis=-1))
        return tf.stack(outputs, axis=1)

    def _address(self, memory, key, strength):
        dot = tf.reduce_sum(key[:, tf.newaxis, :] * memory, axis=-1)
        norms = [tf.sqrt(tf.reduce_sum(each**2, axis=-1) + 1e-8) for each in (key, memory)]
        similarity = dot / (norms[0][:, tf.newaxis] * norms[1])
        return tf.nn.softmax((1 + tf.nn.softplus(strength + 3)) * similarity)
