"""The priority sort task: section 4.5 of the paper."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from tasks.task import Task, limit, parse_numbers, pick, where

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class PrioritySort(Task):
    """The model sees I random bit vectors with priorities. It answers with the S highest, in order.

    ```
    time       1    2  ..  I   I+1  I+2  I+3  ..  I+S+1
    inputs     v1   v2 ..  vI   0    0    0   ..   0       the bits
               p1   p2 ..  pI   0    0    0   ..   0       the priority, uniform in [-1, 1]
               0    0  ..  0    1    0    0   ..   0       the delimiter's own channel
    targets    0    0  ..  0    0    s1   s2  ..   sS      the vectors, highest priority first
    mask       0    0  ..  0    0    1    1   ..   1
    ```
    """

    solved_measure: ClassVar[str] = "cost_bits_per_sequence"
    solved_below: ClassVar[float] = 18.0
    default_eval_sizes = "20x16"
    small_size = "7x3"

    bits: int = limit(8, "Bits of a vector.")
    items: int = limit(20, "Vectors to sort.")
    sorted_items: int = limit(16, "Vectors to answer.")

    def __post_init__(self):
        super().__post_init__()
        self._check_order("sorted_items", "items")

    @property
    def input_width(self) -> int:
        return self.bits + 2

    @property
    def output_width(self) -> int:
        return self.bits

    @property
    def largest_size(self) -> tuple[int, int]:
        return self.items, self.sorted_items

    def steps_of(self, size: tuple[int, int]) -> int:
        items, sorted_items = size
        return items + 1 + sorted_items

    def vectors_to_remember(self, size: tuple[int, int]) -> int:
        items, _ = size
        return items

    def parse_size(self, text: str) -> tuple[int, ...]:
        notation = "ITEMSxSORTED, no more sorted than there are, such as 20x16"
        items, sorted_items = parse_numbers(text, 2, notation)
        if sorted_items > items:
            raise ValueError(f"a size of this task is {notation}. Received: {text!r}")
        return items, sorted_items

    def draw_sizes(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.repeat([self.largest_size], count, axis=0)

    def generate(self, sizes: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        items, sorted_items = tf.split(sizes, 2, axis=1)
        batch_size, most = tf.shape(sizes)[0], tf.reduce_max(items)
        bit_seed, priority_seed = tf.unstack(tf.random.split(seed, 2))
        vectors = self._random_bits([batch_size, most, self.bits], bit_seed)
        priorities = tf.random.stateless_uniform([batch_size, most], priority_seed, -1, 1)
        exists = tf.range(most)[tf.newaxis, :] < items
        order = tf.argsort(tf.where(exists, priorities, -2.0), direction="DESCENDING", stable=True)

        time = tf.range(tf.reduce_max(items + 1 + sorted_items))[tf.newaxis, :]
        answer = time - items - 1
        shown, delimiter = time < items, time == items
        answered = (answer >= 0) & (answer < sorted_items)

        now = tf.repeat(time, batch_size, axis=0)
        vector, priority = pick(vectors, now), pick(priorities[:, :, tf.newaxis], now)
        inputs = [where(shown, vector), where(shown, priority), where(delimiter)]
        in_order = tf.gather(vectors, order, batch_dims=1)
        targets = where(answered, pick(in_order, answer))
        return tf.concat(inputs, axis=-1), targets, tf.cast(answered, tf.float32)
