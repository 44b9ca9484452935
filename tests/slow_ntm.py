"""The Neural Turing Machine once more: slow, obvious, one number after another, in NumPy.

Written from the paper's equations; what the library computes is compared with this.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    exponentials = np.exp(x - np.max(x))
    return exponentials / np.sum(exponentials)


def cosine_similarity(u, v):
    """Eq (6)."""
    return np.dot(u, v) / (np.sqrt(np.dot(u, u)) * np.sqrt(np.dot(v, v)))


def address_by_content(memory, key, key_strength):
    """Eq (5)."""
    return softmax(np.array([key_strength * cosine_similarity(key, row) for row in memory]))


def shift(weighting, shift_weighting):
    """Eq (8): s[0] stays, s[k] moves the focus by +k, s[-k] by -k."""
    size, shift_range = len(weighting), len(shift_weighting) // 2
    shifted = np.zeros(size)
    for i in range(size):
        for offset in range(-shift_range, shift_range + 1):
            shifted[i] += weighting[(i - offset) % size] * shift_weighting[offset]
    return shifted


def sharpen(weighting, sharpening):
    """Eq (9)."""
    power = weighting**sharpening
    return power / np.sum(power)


def read(memory, weighting):
    """Eq (2)."""
    return sum(weighting[i] * memory[i] for i in range(len(memory)))


def erase(memory, weighting, erase_vector):
    """Eq (3)."""
    return np.array([row * (1 - w * erase_vector) for w, row in zip(weighting, memory)])


def add(memory, weighting, add_vector):
    """Eq (4)."""
    return np.array([row + w * add_vector for w, row in zip(weighting, memory)])


def write(memory, weightings, erase_vectors, add_vectors, order):
    heads = list(zip(weightings, erase_vectors, add_vectors))
    if order == "sequential":
        for weighting, erase_vector, add_vector in heads:
            memory = erase(memory, weighting, erase_vector)
            memory = add(memory, weighting, add_vector)
        return memory
    for weighting, erase_vector, _ in heads:
        memory = erase(memory, weighting, erase_vector)
    for weighting, _, add_vector in heads:
        memory = add(memory, weighting, add_vector)
    return memory


def lstm(x, h, c, kernel, recurrent_kernel, bias):
    """Keras's LSTM: its four gates stand in the order input, forget, candidate, output."""
    i, f, candidate, o = np.split(x @ kernel + h @ recurrent_kernel + bias, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
    return sigmoid(o) * np.tanh(c), c


def taker(numbers):
    """A function that takes the next so many of these numbers."""
    remaining = iter(numbers)
    return lambda count: np.array([next(remaining) for _ in range(count)])


def run(cell, inputs):
    """Runs a built `NTMCell` with an LSTM controller over one sequence `(time, features)`.

    Returns the lists of outputs, weightings `(heads, N)` and memories of all steps.
    """
    reads, writes = cell.read_head_num, cell.write_head_num
    width, shift_range = cell.memory_vector_dim, cell.shift_range
    lstm_weights = cell.controller.get_weights()
    parameter_kernel, parameter_bias = cell.parameter_projection.get_weights()
    output_kernel, output_bias = cell.output_projection.get_weights()

    h, c = (np.tanh(weight.numpy()) for weight in cell.initial.controller_state)
    read_vectors = list(np.tanh(cell.initial.read_vectors.numpy()))
    weightings = [softmax(logits) for logits in cell.initial.weightings.numpy()]
    memory = cell.initial.memory.numpy()
    if cell.memory_initializer == "learned":
        memory = np.tanh(memory)

    history = []
    for x in inputs:
        h, c = lstm(np.concatenate([x, *read_vectors]), h, c, *lstm_weights)
        take = taker(h @ parameter_kernel + parameter_bias)

        new_weightings = []
        for previous in weightings:
            key, beta, g = np.tanh(take(width)), 10 * sigmoid(take(1)[0]), sigmoid(take(1)[0])
            s, gamma = softmax(take(2 * shift_range + 1)), 1 + np.log(1 + np.exp(take(1)[0]))
            weighting = address_by_content(memory, key, beta)
            if cell.addressing_mode == "content_and_location":
                weighting = sharpen(shift(g * weighting + (1 - g) * previous, s), gamma)
            new_weightings.append(weighting)
        weightings = new_weightings

        erases, adds = [], []
        for _ in range(writes):
            erases.append(sigmoid(take(width)))
            adds.append(np.tanh(take(width)))
        read_vectors = [read(memory, weighting) for weighting in weightings[:reads]]
        memory = write(memory, weightings[reads:], erases, adds, cell.write_order)

        seen = [h, *read_vectors] if cell.output_source == "controller_and_reads" else [h]
        output = np.concatenate(seen) @ output_kernel + output_bias
        history.append((output, np.array(weightings), memory))
    return tuple(np.array(each) for each in zip(*history))
