"""Numbers stay finite, forward and backward, in random machines with large inputs and weights."""

import numpy as np
import pytest
import tensorflow as tf

from ntm_keras import NTM, BitCrossentropy
from ntm_keras.keras_compat import keras

# Inputs and weights are up to this large.
LIMITS = {"float32": 1e3, "mixed_bfloat16": 1e3, "mixed_float16": 10.0}


def random_machine(random, dtype):
    def choice(*options):
        return options[random.integers(len(options))]

    memory_size = int(random.integers(1, 13))
    rnn_size, width, reads, writes, output_dim, layers = (
        int(random.integers(1, most)) for most in (9, 7, 4, 4, 5, 3)
    )
    return NTM(
        rnn_size,
        memory_size,
        width,
        reads,
        writes,
        choice("content_and_location", "content"),
        int(random.integers(0, (memory_size - 1) // 2 + 1)),
        output_dim,
        controller=choice("lstm", "counting_lstm", "feedforward", "rnn"),
        controller_layers=layers,
        memory_initializer=choice("learned", "constant", "random"),
        weighting_initializer=choice("spread", "focused"),
        output_source=choice("controller", "controller_and_reads"),
        write_order=choice("sequential", "simultaneous"),
        return_sequences=True,
        dtype=dtype,
    )


def uniform(random, shape, limit):
    """Numbers up to a magnitude that is itself drawn: from a thousandth to the limit."""
    magnitude = 10 ** random.uniform(-3, np.log10(limit))
    return tf.constant(random.uniform(-magnitude, magnitude, size=shape), tf.float32)


def outputs_loss_and_gradients(layer, inputs, targets, loss_scale):
    with tf.GradientTape() as tape:
        outputs = tf.cast(layer(inputs), tf.float32)
        loss = BitCrossentropy()(targets, outputs)
        scaled = loss_scale * loss
    gradients = tape.gradient(scaled, layer.trainable_variables)
    return outputs, loss, [each for each in gradients if each is not None]


def are_finite(tensors):
    return all(np.isfinite(tf.convert_to_tensor(each)).all() for each in tensors)


def assert_stays_finite(seed, dtype):
    random = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    layer = random_machine(random, dtype)
    batch, time, features = (int(random.integers(1, most)) for most in (4, 7, 5))
    inputs = uniform(random, (batch, time, features), LIMITS[dtype])
    bits = random.integers(0, 2, size=(batch, time, layer.cell.output_dim))
    layer.build(inputs.shape)
    for weight in layer.trainable_variables:
        weight.assign(uniform(random, weight.shape, LIMITS[dtype]))
    # As LossScaleOptimizer does: half as large, until nothing overflows.
    largest = 15 if dtype == "mixed_float16" else 0
    for power in range(largest, -1, -1):
        found = outputs_loss_and_gradients(layer, inputs, bits.astype("float32"), 2.0**power)
        if are_finite(found[2]):
            break
    outputs, loss, gradients = found
    assert are_finite([outputs, loss, *gradients]), f"seed {seed}: {layer.get_config()}"


@pytest.mark.parametrize("dtype", LIMITS)
def test_four_random_machines_stay_finite(dtype):
    for seed in range(4):
        assert_stays_finite(seed, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", LIMITS)
def test_a_thousand_random_machines_stay_finite(dtype):
    for seed in range(1000):
        assert_stays_finite(seed, dtype)
