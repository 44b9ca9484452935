"""The associative recall task: section 4.3 of the paper."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tasks.task import Task, limit, parse_numbers

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class AssociativeRecall(Task):
    """The model sees K items and one of them again. It answers with the item that came after it.

    An item is a few random bit vectors. i1 is the first item's vectors, one in each step. The query
    q is any item except the last, and a is the item after it.

    ```
    inputs     0  i1  0  i2  ..  0  iK  0  q  0  0     the bits
               1  0   1  0   ..  1  0   0  0  0  0     the item delimiter
               0  0   0  0   ..  0  0   1  0  1  0     the query delimiter
    targets    0  0   0  0   ..  0  0   0  0  0  a
    mask       0  0   0  0   ..  0  0   0  0  0  1
    ```
    """

    default_eval_sizes = "6,8,10,12,15,20"
    small_size = "2"

    bits: int = limit(6, "Bits of a vector.")
    item_length: int = limit(3, "Vectors of an item.")
    min_items: int = limit(2, "Items of the shortest training sequence.", at_least=2)
    max_items: int = limit(6, "Items of the longest training sequence.", at_least=2)

    def __post_init__(self):
        super().__post_init__()
        self._check_order("min_items", "max_items")

    @property
    def input_width(self) -> int:
        return self.bits + 2

    @property
    def output_width(self) -> int:
        return self.bits

    @property
    def largest_size(self) -> int:
        return self.max_items

    def steps_of(self, size: int) -> int:
        return (size + 2) * (self.item_length + 1)

    def vectors_to_remember(self, size: int) -> int:
        return size * self.item_length

    def parse_size(self, text: str) -> int:
        (items,) = parse_numbers(text, 1, "a number of items, at least 2, such as 12", at_least=2)
        return items

    def draw_sizes(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        return self._draw(count, self.min_items, self.max_items, seed)

    def generate(self, sizes: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        batch_size, most = tf.shape(sizes)[0], tf.reduce_max(sizes)
        item_seed, query_seed = tf.unstack(tf.random.split(seed, 2))
        bits = self._random_bits([batch_size, most, self.item_length, self.bits], item_seed)
        drawn = tf.random.stateless_uniform([batch_size], query_seed, 0, tf.int32.max, tf.int32)
        query = drawn % (sizes - 1)

        # Blocks of a delimiter and an item: the items, the query, (a delimiter and) the answer.
        items = sizes[:, tf.newaxis]
        block = tf.range(most + 2)[tf.newaxis, :]
        shown, asked, answered = block < items, block == items, block == items + 1
        item = tf.where(shown, block, query[:, tf.newaxis] + tf.cast(answered, tf.int32))
        vectors = tf.gather(bits, tf.minimum(item, most - 1), batch_dims=1)

        def blocks(at_delimiter, at_item):
            """Joins the values at delimiters and at items to `(batch, time, channels)`."""
            joined = tf.concat([at_delimiter, at_item], axis=2)
            return tf.reshape(joined, [batch_size, -1, joined.shape[-1]])

        def at_items(in_blocks, values):
            return tf.where(in_blocks[:, :, tf.newaxis, tf.newaxis], values, 0.0)

        nothing, one = tf.zeros_like(vectors[:, :, :1]), tf.ones_like(vectors[:, :, :1, :1])
        no_delimiter = tf.zeros_like(vectors[:, :, :, :1])
        inputs = [
            blocks(nothing, at_items(shown | asked, vectors)),
            blocks(at_items(shown, one), no_delimiter),
            blocks(at_items(asked | answered, one), no_delimiter),
        ]
        targets = blocks(nothing, at_items(answered, vectors))
        mask = blocks(no_delimiter[:, :, :1], at_items(answered, tf.ones_like(no_delimiter)))[
            :, :, 0
        ]
        return tf.concat(inputs, axis=-1), targets, mask
