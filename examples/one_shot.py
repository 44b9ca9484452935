"""A memory-augmented network names new patterns after one example of each.

  python examples/one_shot.py

Each episode draws its own random patterns and shows each of them several times, in random order and
slightly changed. The network must name the label. The right label is shown one step later.
"""

import tensorflow as tf

from ntm_keras import MANN, InstanceAccuracy, LabelCrossentropy, LaterError

PATTERNS, WIDTH, LENGTH, BATCH = 3, 16, 12, 32


def episodes(seed: int) -> tf.data.Dataset:
    """Batches of inputs `(batch, time, width + labels)` and labels `(batch, time, labels)`."""

    def draw(step):
        seeds = tf.random.split(tf.stack([tf.cast(step, tf.int32), seed]), 3)
        patterns = tf.random.stateless_normal([BATCH, PATTERNS, WIDTH], seeds[0])
        order = tf.argsort(tf.random.stateless_uniform([BATCH, LENGTH], seeds[1])) % PATTERNS
        changed = 0.2 * tf.random.stateless_normal([BATCH, LENGTH, WIDTH], seeds[2])
        shown = tf.gather(patterns, order, batch_dims=1) + changed
        labels = tf.one_hot(order, PATTERNS)
        before = tf.pad(labels, [[0, 0], [1, 0], [0, 0]])[:, :-1]
        return tf.concat([shown, before], axis=-1), labels

    return tf.data.Dataset.range(1_000_000).map(draw).prefetch(tf.data.AUTOTUNE)


def main(steps: int = 2000) -> float:
    """Trains, and returns the share of wrong answers after a pattern's first instance."""
    tf.keras.utils.set_random_seed(0)
    machine = MANN(
        64,
        memory_size=32,
        memory_vector_dim=16,
        head_num=1,
        learned_key_strength=True,
        return_sequences=True,
    )
    model = tf.keras.Sequential(
        [tf.keras.Input([LENGTH, WIDTH + PATTERNS]), machine, tf.keras.layers.Dense(PATTERNS)]
    )
    measures = [InstanceAccuracy(number) for number in (1, 2, 3, 4)]
    model.compile(
        tf.keras.optimizers.Adam(3e-3, global_clipnorm=10),
        LabelCrossentropy(),
        weighted_metrics=[*measures, LaterError()],
        jit_compile=True,
    )
    model.fit(episodes(seed=0), steps_per_epoch=100, epochs=steps // 100, shuffle=False, verbose=2)
    return model.evaluate(episodes(seed=1), steps=20, verbose=0, return_dict=True)["later_error"]


if __name__ == "__main__":
    print(f"Wrong after the first instance: {main():.1%}")
