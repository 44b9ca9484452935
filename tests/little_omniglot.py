"""Drawings laid out as Omniglot's: a few alphabets of random shapes."""

import pathlib

import numpy as np
import tensorflow as tf

ALPHABETS = ("Cuneiform", "Elvish", "Klingon", "Runes")
CHARACTERS = 6
DRAWINGS = 12
PIXELS = 21


def write(folder, alphabets=ALPHABETS, characters=CHARACTERS, drawings=DRAWINGS):
    """Writes drawings and returns the folder; those of a character differ in a few pixels."""
    random = np.random.default_rng(0)
    for alphabet in alphabets:
        for number in range(1, characters + 1):
            shape = random.uniform(size=[PIXELS, PIXELS]) < 0.2
            where = pathlib.Path(folder, alphabet, f"character{number:02}")
            where.mkdir(parents=True)
            for drawing in range(drawings):
                ink = shape ^ (random.uniform(size=shape.shape) < 0.02)
                png = tf.io.encode_png(np.where(ink, 0, 255).astype(np.uint8)[:, :, np.newaxis])
                (where / f"{number:04}_{drawing + 1:02}.png").write_bytes(png.numpy())
    return folder
