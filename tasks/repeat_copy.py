"""The repeat copy task: section 4.2 of the paper."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.task import Task, limit, parse_numbers, where

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class RepeatCopy(Task):
    """Repeat a sequence of L random bit vectors C times, then answer with an end marker.

    ```
    time       1    2  ..  L   L+1  L+2  ..  2L+1  2L+2  ..  (C+1)L+1  (C+1)L+2
    inputs     v1   v2 ..  vL   0    0   ..   0     0    ..      0         0      the bits
               0    0  ..  0    1    0   ..   0     0    ..      0         0      the delimiter
               0    0  ..  0    c    0   ..   0     0    ..      0         0      the count
    targets    0    0  ..  0    0    v1  ..   vL    v1   ..      vL        0      the bits
               0    0  ..  0    0    0   ..   0     0    ..      0         1      the end marker
    mask       0    0  ..  0    0    1   ..   1     1    ..      1         1
    ```

    c is the normalised count: C minus the mean of the training counts, divided by their standard
    deviation.
    """

    solved_below: ClassVar[float] = 0.1
    default_eval_sizes = "10x10,20x10,10x20"
    small_size = "2x3"

    bits: int = limit(8, "Bits of a vector.")
    min_length: int = limit(1, "Vectors of the shortest training sequence.")
    max_length: int = limit(10, "Vectors of the longest training sequence.")
    min_repeats: int = limit(1, "The fewest copies to ask for in training.")
    max_repeats: int = limit(10, "The most copies to ask for in training.")

    def __post_init__(self):
        super().__post_init__()
        self._check_order("min_length", "max_length")
        self._check_order("min_repeats", "max_repeats")

    @property
    def input_width(self) -> int:
        return self.bits + 2

    @property
    def output_width(self) -> int:
        return self.bits + 1

    @property
    def largest_size(self) -> tuple[int, int]:
        return self.max_length, self.max_repeats

    def steps_of(self, size: tuple[int, int]) -> int:
        length, repeats = size
        return length * (1 + repeats) + 2

    def vectors_to_remember(self, size: tuple[int, int]) -> int:
        length, _ = size
        return length

    def measures(self) -> list[Any]:
        from ntm_keras import WrongBitsPerSequence

        return [
            *super().measures(),
            WrongBitsPerSequence("wrong_copied_bits_per_sequence", (0, self.bits)),
            WrongBitsPerSequence("wrong_end_markers_per_sequence", (self.bits, None)),
        ]

    def parse_size(self, text: str) -> tuple[int, ...]:
        return parse_numbers(text, 2, "LENGTHxREPEATS, such as 20x10")

    def draw_sizes(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        length_seed, repeats_seed = tf.unstack(tf.random.split(seed, 2))
        lengths = self._draw(count, self.min_length, self.max_length, length_seed)
        repeats = self._draw(count, self.min_repeats, self.max_repeats, repeats_seed)
        return tf.stack([lengths, repeats], axis=1)

    def generate(self, sizes: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        lengths, repeats = tf.split(sizes, 2, axis=1)
        vectors = self._random_bits([tf.shape(sizes)[0], tf.reduce_max(lengths), self.bits], seed)

        time = tf.range(tf.reduce_max(lengths * (1 + repeats)) + 2)[tf.newaxis, :]
        answer = time - lengths - 1
        shown, delimiter = time < lengths, time == lengths
        copied, end = (answer >= 0) & (answer < lengths * repeats), answer == lengths * repeats

        vector = tf.gather(vectors, tf.where(shown, time, answer % lengths), batch_dims=1)
        count = self._normalised(tf.cast(repeats, tf.float32))[:, :, tf.newaxis]
        inputs = [where(shown, vector), where(delimiter), where(delimiter, count)]
        targets = [where(copied, vector), where(end)]
        mask = tf.cast(copied | end, tf.float32)
        return tf.concat(inputs, axis=-1), tf.concat(targets, axis=-1), mask

    def _normalised(self, repeats: tf.Tensor) -> tf.Tensor:
        """The counts, scaled to mean 0 and variance 1 over the training counts."""
        mean = (self.min_repeats + self.max_repeats) / 2
        counts = self.max_repeats - self.min_repeats + 1
        deviation = ((counts**2 - 1) / 12) ** 0.5
        return (repeats - mean) / (deviation or 1.0)
