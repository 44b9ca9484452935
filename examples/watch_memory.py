"""A callback that shows the memory of your own model in TensorBoard.

  python examples/watch_memory.py
  tensorboard --logdir runs/watch_memory

The model predicts the next value of a wave. TensorBoard's Images show what the machine writes and
where, and where it reads and what.
"""

import numpy as np
import tensorflow as tf

from ntm_keras import NTM
from ntm_keras.callbacks import MachineImages


def main(logdir: str = "runs/watch_memory", epochs: int = 5) -> float:
    """Trains, and returns the last loss."""
    tf.keras.utils.set_random_seed(0)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, size=[256, 1])
    waves = np.sin(phases + 0.5 * np.arange(41))[:, :, np.newaxis].astype("float32")
    inputs, targets = waves[:, :-1], waves[:, 1:]
    model = tf.keras.Sequential(
        [
            tf.keras.Input([None, 1]),
            NTM(32, 32, 8, 1, 1, return_sequences=True, name="machine"),
        ]
    )
    model.compile("adam", "mse", jit_compile=True)
    watch = MachineImages(logdir, inputs=inputs)
    logs = tf.keras.callbacks.TensorBoard(logdir)
    history = model.fit(inputs, targets, epochs=epochs, callbacks=[watch, logs], verbose=2)
    return history.history["loss"][-1]


if __name__ == "__main__":
    main()
