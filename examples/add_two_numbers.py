"""The cell in `keras.layers.RNN`: regression on the adding problem.

  python examples/add_two_numbers.py

The input is a sequence of random numbers, with a second channel that marks two of the numbers. At
the end the network outputs the sum of these two (Hochreiter and Schmidhuber, Long Short-Term
Memory, 1997). A network that always answers 1 has a mean squared error of 0.167.
"""

import tensorflow as tf

from ntm_keras import NTMCell

LENGTH = 20


def sequences(count: int, seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Inputs `(count, LENGTH, 2)` and sums `(count, 1)`."""
    numbers_seed, first_seed, second_seed = tf.unstack(tf.random.split([0, seed], 3))
    numbers = tf.random.stateless_uniform([count, LENGTH], numbers_seed)
    half = LENGTH // 2
    first = tf.random.stateless_uniform([count], first_seed, 0, half, tf.int32)
    second = tf.random.stateless_uniform([count], second_seed, half, LENGTH, tf.int32)
    marks = tf.one_hot(first, LENGTH) + tf.one_hot(second, LENGTH)
    sums = tf.reduce_sum(numbers * marks, axis=1, keepdims=True)
    return tf.stack([numbers, marks], axis=-1), sums


def main(epochs: int = 15, count: int = 8192) -> float:
    """Trains, and returns the mean squared error on fresh sequences."""
    tf.keras.utils.set_random_seed(0)
    cell = NTMCell(
        rnn_size=32,
        memory_size=16,
        memory_vector_dim=8,
        read_head_num=1,
        write_head_num=1,
        output_source="controller_and_reads",
    )
    model = tf.keras.Sequential(
        [
            tf.keras.Input([LENGTH, 2]),
            tf.keras.layers.RNN(cell),
            tf.keras.layers.Dense(1),
        ]
    )
    model.compile(tf.keras.optimizers.Adam(3e-3, clipnorm=1.0), "mse", jit_compile=True)
    model.fit(*sequences(count, seed=0), batch_size=64, epochs=epochs, verbose=2)
    return model.evaluate(*sequences(1024, seed=1), verbose=0)


if __name__ == "__main__":
    print(f"mean squared error on fresh sequences: {main():.5f}")
