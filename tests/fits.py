"""Small models in training, which compile quickly: most callbacks work around any."""

import math

import numpy as np
import tensorflow as tf

from ntm_keras import BitCrossentropy, WrongBitsPerSequence
from ntm_keras.keras_compat import keras

BATCH, TIME, BITS = 4, 6, 3


def make_model(*layers, learning_rate=1e-2):
    """A model that compiles quickly: most callbacks work around any."""
    dense = keras.layers.Dense(BITS)
    model = keras.Sequential([keras.Input([None, BITS]), dense, *layers], name="plain")
    model.compile(
        keras.optimizers.SGD(learning_rate),
        BitCrossentropy(),
        weighted_metrics=[WrongBitsPerSequence()],
    )
    return model


def sequences(count=8):
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, size=(count, TIME, BITS)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((bits, bits, np.ones((count, TIME)))).batch(BATCH)


def fit(model, *used, epochs=2, **arguments):
    return model.fit(
        sequences(), epochs=epochs, callbacks=list(used), verbose=0, shuffle=False, **arguments
    )


@tf.custom_gradient
def overflowing(outputs):
    """Leaves its argument as it is; its gradient is beyond all numbers."""
    return tf.identity(outputs), lambda d: d * math.inf


class Recorder(keras.callbacks.Callback):
    """Keeps the weights after every step, before validation, and after every epoch."""

    def __init__(self):
        super().__init__()
        self.after_steps, self.in_tests, self.after_epochs = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.after_steps.append(self.model.get_weights())

    def on_test_begin(self, logs=None):
        self.in_tests.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.after_epochs.append(self.model.get_weights())
