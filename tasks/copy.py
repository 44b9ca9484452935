"""The copy task: section 4.1 of the paper."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tasks.task import Task, limit, parse_numbers, pick, where

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Copy(Task):
    """Repeat a sequence of random bit vectors after its end.

    ```
    time       1    2  ..  L   L+1  L+2  L+3  ..  2L+1
    inputs     v1   v2 ..  vL   0    0    0   ..   0       the bits
               0    0  ..  0    1    0    0   ..   0       the delimiter's own channel
    targets    0    0  ..  0    0    v1   v2  ..   vL
    mask       0    0  ..  0    0    1    1   ..   1
    ```
    """

    default_eval_sizes = "10,20,30,50,120"
    small_size = "2"

    bits: int = limit(8, "Bits of a vector.")
    min_length: int = limit(1, "Vectors of the shortest training sequence.")
    max_length: int = limit(20, "Vectors of the longest training sequence.")

    def __post_init__(self):
        super().__post_init__()
        self._check_order("min_length", "max_length")

    @property
    def input_width(self) -> int:
        return self.bits + 1

    @property
    def output_width(self) -> int:
        return self.bits

    @property
    def largest_size(self) -> int:
        return self.max_length

    def steps_of(self, size: int) -> int:
        return 2 * size + 1

    def vectors_to_remember(self, size: int) -> int:
        return size

    def parse_size(self, text: str) -> int:
        (length,) = parse_numbers(text, 1, "a length, such as 20")
        return length

    def draw_sizes(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        return self._draw(count, self.min_length, self.max_length, seed)

    def generate(self, sizes: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        lengths, longest = sizes[:, tf.newaxis], tf.reduce_max(sizes)
        batch_size = tf.shape(sizes)[0]
        vectors = self._random_bits([batch_size, longest, self.bits], seed)

        time = tf.range(2 * longest + 1)[tf.newaxis, :]
        answer = time - lengths - 1
        answered = (answer >= 0) & (answer < lengths)
        shown = where(time < lengths, pick(vectors, tf.repeat(time, batch_size, axis=0)))
        inputs = tf.concat([shown, where(time == lengths)], axis=-1)
        return inputs, where(answered, pick(vectors, answer)), tf.cast(answered, tf.float32)
