"""A custom training loop with the layer and a `GradientTape`.

  python examples/training_loop.py

The machine sees a few random bits and then repeats the first one.
"""

import tensorflow as tf

from ntm_keras import NTM


def main(steps: int = 100) -> float:
    """Trains, and returns the share of the last batch's answers that are right."""
    tf.keras.utils.set_random_seed(0)
    layer = NTM(
        rnn_size=16,
        memory_size=8,
        memory_vector_dim=8,
        read_head_num=1,
        write_head_num=1,
        output_dim=1,
        weighting_initializer="focused",
        output_source="controller_and_reads",
    )
    layer.build((None, None, 1))
    optimizer = tf.keras.optimizers.Adam(1e-2)
    optimizer.build(layer.trainable_variables)

    @tf.function(jit_compile=True)
    def step(bits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        target = bits[:, 0]
        with tf.GradientTape() as tape:
            logits = layer(bits)
            loss = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
        gradients = tape.gradient(loss, layer.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 10.0)
        optimizer.apply_gradients(zip(gradients, layer.trainable_variables))
        right = tf.equal(logits > 0, target > 0.5)
        return tf.reduce_mean(loss), tf.reduce_mean(tf.cast(right, tf.float32))

    for number in range(1, steps + 1):
        bits = tf.random.stateless_uniform([64, 8, 1], [0, number], 0, 2, tf.int32)
        loss, right = step(tf.cast(bits, tf.float32))
        if number % 10 == 0:
            print(f"step {number}: loss {loss:.4f}, {right:.0%} right")
    return float(right)


if __name__ == "__main__":
    main()
