"""The memory-augmented network once more: slow, obvious, one number after another, in NumPy.

What the library computes is compared with this. Like the library's, its cosine has an epsilon in
the norms: an untouched memory row, of 1e-6 each, is smaller than that.
"""

import numpy as np
from slow_ntm import lstm, read, sigmoid, softmax, taker

from ntm_keras.addressing import NORM_EPSILON


def cosine_similarity(u, v):
    norms = [np.sqrt(np.dot(each, each) + NORM_EPSILON) for each in (u, v)]
    return np.dot(u, v) / (norms[0] * norms[1])


def least_used(usage, count):
    """The locations from the least used one on; among equals the last one comes first."""
    return sorted(range(len(usage)), key=lambda location: (usage[location], -location))[:count]


def run(cell, inputs):
    """Runs a built `MANNCell` with an LSTM controller over one sequence `(time, features)`.

    Returns the lists of outputs, read weightings, write weightings, usages and memories.
    """
    heads, size, width = cell.head_num, cell.memory_size, cell.memory_vector_dim
    lstm_weights = cell.controller.get_weights()
    kernel, bias = cell.parameter_projection.get_weights()

    h, c = np.zeros(cell.rnn_size), np.zeros(cell.rnn_size)
    read_vectors = [np.zeros(width) for _ in range(heads)]
    first = np.eye(size)[0]
    read_weightings = [first for _ in range(heads)]
    usage = first
    memory = np.full([size, width], 1e-6)

    history = []
    for x in inputs:
        h, c = lstm(np.concatenate([x, *read_vectors]), h, c, *lstm_weights)
        take = taker(h @ kernel + bias)
        free = least_used(usage, heads)
        marked = np.zeros(size)
        marked[free] = 1

        new_read_weightings, write_weightings, add_vectors = [], [], []
        for previous in read_weightings:
            key = np.tanh(take(width))
            add_vectors.append(np.tanh(take(width)) if cell.k_strategy == "separate" else key)
            gate = sigmoid(take(1)[0])
            strength = 1 + np.log(1 + np.exp(take(1)[0] + 3)) if cell.learned_key_strength else 1
            alike = np.array([cosine_similarity(key, row) for row in memory])
            new_read_weightings.append(softmax(strength * alike))
            write_weightings.append(gate * previous + (1 - gate) * marked)
        read_weightings = new_read_weightings
        usage = cell.gamma * usage + sum(read_weightings) + sum(write_weightings)

        memory = memory.copy()
        memory[free[0]] = 0
        for weighting, add_vector in zip(write_weightings, add_vectors):
            for location in range(size):
                memory[location] += weighting[location] * add_vector
        read_vectors = [read(memory, weighting) for weighting in read_weightings]
        output = np.concatenate([h, *read_vectors])
        history.append((output, read_weightings, write_weightings, usage, memory))
    return tuple(np.array(each) for each in zip(*history))
