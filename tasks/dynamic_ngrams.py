"""The dynamic N-grams task: section 4.4 of the paper."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.task import Task, limit, parse_numbers

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class DynamicNgrams(Task):
    """Predict each bit of a sequence from the bits before it.

    The probability that a bit is 1 depends on the C bits before it. These 2^C probabilities are
    unknown: every sequence draws new ones from Beta(1/2, 1/2). The first C bits are 0 or 1 with
    equal probability.

    ```
    time       1    2   ..  C    C+1  C+2  ..  L
    inputs     0    b1  ..  bC-1 bC   bC+1 ..  bL-1
    targets    b1   b2  ..  bC   bC+1 bC+2 ..  bL
    mask       0    0   ..  0    1    1    ..  1
    ```

    Random bits cannot be predicted exactly. So a run has solved the task when its cost is close to
    `optimal_cost`, the cost of the best possible predictor on the same sequences. The paper's costs
    also count the first C bits, at one bit each.
    """

    solved_measure: ClassVar[str] = "excess_cost_bits_per_sequence"
    solved_below: ClassVar[float] = 0.7
    default_eval_sizes = "200"
    small_size = "20"

    context: int = limit(5, "Bits that the next one depends on.", at_most=12)
    length: int = limit(200, "Bits of a sequence.", at_least=2)

    def __post_init__(self):
        super().__post_init__()
        if self.context >= self.length:
            raise ValueError(
                "context must be less than length. "
                f"Received: context={self.context}, length={self.length}"
            )

    @property
    def input_width(self) -> int:
        return 1

    @property
    def output_width(self) -> int:
        return 1

    @property
    def largest_size(self) -> int:
        return self.length

    def steps_of(self, size: int) -> int:
        return size

    def vectors_to_remember(self, size: int) -> int:
        return 2**self.context

    def measures(self) -> list[Any]:
        from ntm_keras import MeanPerSequence
        from ntm_keras.metrics import cost_per_sequence

        def optimal_cost(targets, logits, mask):
            return self.optimal_cost(targets, mask)

        def excess_cost(targets, logits, mask):
            return cost_per_sequence(targets, logits, mask) - self.optimal_cost(targets, mask)

        return [
            *super().measures(),
            MeanPerSequence(optimal_cost, "optimal_cost_bits_per_sequence"),
            MeanPerSequence(excess_cost, "excess_cost_bits_per_sequence"),
        ]

    def parse_size(self, text: str) -> int:
        more = self.context + 1
        (length,) = parse_numbers(text, 1, f"a length of at least {more}, such as 200", more)
        return length

    def draw_sizes(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.fill([count], self.length)

    def generate(self, sizes: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        batch_size, longest = tf.shape(sizes)[0], tf.reduce_max(sizes)
        table_seed, bit_seed = tf.unstack(tf.random.split(seed, 2))
        # If an angle is uniform between 0 and pi/2, its squared sine follows Beta(1/2, 1/2).
        angle = tf.random.stateless_uniform(
            [batch_size, 2**self.context], table_seed, 0, math.pi / 2
        )
        table = tf.sin(angle) ** 2
        chance = tf.random.stateless_uniform([longest, batch_size], bit_seed)

        def next_context(context, now):
            is_one = now < tf.gather(table, context, batch_dims=1)
            return (2 * context + tf.cast(is_one, tf.int32)) % 2**self.context

        coins = tf.cast(chance[: self.context] < 0.5, tf.int32)
        place = 2 ** tf.range(self.context)[::-1, tf.newaxis]
        first = tf.reduce_sum(coins * place, axis=0)
        contexts = tf.scan(next_context, chance[self.context :], first)
        bits = tf.cast(tf.transpose(tf.concat([coins, contexts % 2], axis=0)), tf.float32)

        time = tf.range(longest)[tf.newaxis, :]
        exists = tf.cast(time < sizes[:, tf.newaxis], tf.float32)
        targets = bits * exists
        inputs = tf.pad(targets, [[0, 0], [1, 0]])[:, :-1] * exists
        mask = exists * tf.cast(time >= self.context, tf.float32)
        return inputs[:, :, tf.newaxis], targets[:, :, tf.newaxis], mask

    def optimal_cost(self, targets: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The cost of the Bayes-optimal predictor in bits, `(batch,)`.

        After N1 ones and N0 zeros in a context it predicts a one with the probability
        (N1 + 1/2) / (N1 + N0 + 1).
        """
        import tensorflow as tf

        bits = targets[:, :, 0]
        before = tf.pad(bits, [[0, 0], [self.context, 0]])
        steps = tf.shape(bits)[1]
        context = tf.add_n([2.0**k * before[:, k : k + steps] for k in range(self.context)])
        here = tf.one_hot(tf.cast(context, tf.int32), 2**self.context) * mask[:, :, tf.newaxis]
        seen = tf.reduce_sum(here * tf.cumsum(here, axis=1, exclusive=True), axis=-1)
        is_one = here * targets
        ones = tf.reduce_sum(here * tf.cumsum(is_one, axis=1, exclusive=True), axis=-1)
        chance_of_one = (ones + 0.5) / (seen + 1)
        chance = tf.where(bits > 0.5, chance_of_one, 1 - chance_of_one)
        return -tf.reduce_sum(mask * tf.math.log(chance), axis=1) / math.log(2)
