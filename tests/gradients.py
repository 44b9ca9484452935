"""Analytic gradients compared with finite differences, in float64."""

import numpy as np
import tensorflow as tf


def assert_gradients_match(function, *arguments):
    """`function` maps float64 tensors to a tensor of any shape."""
    arguments = [np.asarray(argument, np.float64) for argument in arguments]
    random = np.random.default_rng(1)
    direction = random.normal(size=function(*map(tf.constant, arguments)).shape)

    def loss(*tensors):
        return tf.reduce_sum(function(*tensors) * direction)

    tensors = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = loss(*tensors)
    gradients = tape.gradient(value, tensors)
    step = 1e-6
    for index, (argument, gradient) in enumerate(zip(arguments, gradients)):
        towards = random.normal(size=argument.shape)

        def moved(distance, index=index, towards=towards, argument=argument):
            others = list(tensors)
            others[index] = tf.constant(argument + distance * towards)
            return float(loss(*others))

        numeric = (moved(step) - moved(-step)) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * towards), numeric, rtol=1e-5, atol=1e-7)
