"""Trains a machine of the project further: from repeating up to 10 vectors to up to 40.

python examples/continue_training.py
"""

import pathlib
import sys

import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from ntm_keras import BitCrossentropy, WrongBitsPerSequence, with_memory_size
from tasks.repeat_copy import RepeatCopy

PRETRAINED = pathlib.Path(__file__).parent.parent / "pretrained"
LONGER = RepeatCopy(max_length=40)


def main(steps: int = 100) -> tuple[float, float]:
    """Trains on; returns the wrong bits of 40 vectors repeated 10 times, before and after."""
    path = PRETRAINED / "repeat_copy" / "model.keras"
    # The write head goes on during the answer, which takes 400 steps.
    model = with_memory_size(tf.keras.models.load_model(path, compile=False), 512)
    model.compile(
        tf.keras.optimizers.Adam(1e-4, clipnorm=1.0),
        BitCrossentropy(),
        weighted_metrics=[WrongBitsPerSequence()],
        jit_compile=True,
    )
    test = LONGER.evaluation((40, 10), sequences=128, batch_size=64, seed=0)
    _, before = model.evaluate(test, verbose=0)
    training = LONGER.training(batch_size=16, seed=0)
    model.fit(training, steps_per_epoch=steps, shuffle=False, verbose=2)
    _, after = model.evaluate(test, verbose=0)
    return before, after


if __name__ == "__main__":
    print("wrong bits per sequence, before and after: {:.3f}, {:.3f}".format(*main()))
