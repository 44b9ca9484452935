"""The base class of tasks, which draw random sequences and their answers.

TensorFlow is imported only where it is used, so that the command line can check a task's limits and
print its help without waiting for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.fields import LARGEST, checked, choice, limit, text

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.figure import Figure

__all__ = ["LARGEST", "Task", "choice", "limit", "parse_numbers", "pick", "text", "where"]

_STREAMS = {"training": 0, "validation": 1, "test": 2, "evaluation": 3, "report": 4}


def parse_numbers(text: str, count: int, notation: str, at_least: int = 1) -> tuple[int, ...]:
    """The numbers in a size such as "20" or "20x10".

    Raises:
        ValueError: The text does not have `count` numbers, or one is too small or too large.
    """
    parts = text.split("x")
    if all(part.isascii() and part.isdigit() for part in parts) and len(parts) == count:
        numbers = tuple(int(part) for part in parts)
        if at_least <= min(numbers) and max(numbers) <= LARGEST:
            return numbers
    raise ValueError(
        f"a size of this task is {notation}; numbers from {at_least} to {LARGEST}. "
        f"Received: {text!r}"
    )


@dataclasses.dataclass(frozen=True)
class Task:
    """A task. Each field of a subclass is a limit of the task and a flag of train.py.

    A subclass defines the widths of inputs and targets, the possible sizes of sequences, and how to
    generate sequences of given sizes. This class makes tf.data pipelines from that. They yield
    `(inputs, targets, mask)` for `model.fit`:

    * inputs `(batch, time, input_width)`, float32;
    * targets `(batch, time, output_width)`, float32;
    * mask `(batch, time)`, float32, 1 where an answer counts.

    A batch depends only on the seed and on the batch's number, not on earlier batches.
    """

    # A run has solved the task when this measure is below this threshold.
    solved_measure: ClassVar[str] = "wrong_bits_per_sequence"
    solved_below: ClassVar[float] = 0.01

    # In the notation of `--eval_sizes`: smaller than most, and quick to try.
    small_size: ClassVar[str]

    def __post_init__(self):
        check_is_complete(type(self))
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
        if self.longest_time > LARGEST:
            raise ValueError(
                f"a sequence has at most {LARGEST} steps. Received: {self}, which allows"
                f" {self.longest_time}"
            )

    def __getstate__(self) -> dict[str, Any]:
        """The limits: graphs cannot be pickled."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def default_eval_sizes(self) -> str:
        """The default of `--eval_sizes`.

        A subclass may define it as a class attribute, without annotation.
        """
        raise NotImplementedError

    def data_names(self) -> dict[str, list[str]]:
        """The names of the user's data for training, for validation and for the test.

        A run can be continued and measured only with the same data. Empty if the task needs none.
        """
        return {}

    def about(self) -> str:
        """A description of the task's data for the user, in lines of text; empty for none."""
        return ""

    @property
    def input_width(self) -> int:
        """Number of input channels."""
        raise NotImplementedError

    @property
    def output_width(self) -> int:
        """Number of target bits in a step."""
        raise NotImplementedError

    @property
    def largest_size(self) -> Any:
        """The size of the largest training sequence, as `parse_size` gives it."""
        raise NotImplementedError

    def steps_of(self, size: Any) -> int:
        """Number of steps of a sequence of this size."""
        raise NotImplementedError

    @property
    def longest_time(self) -> int:
        """Number of steps of the largest training sequence."""
        return self.steps_of(self.largest_size)

    def vectors_to_remember(self, size: Any) -> int:
        """How many different vectors a sequence of this size requires the model to remember."""
        raise NotImplementedError

    def loss(self) -> Any:
        """The Keras loss of targets and logits, with the mask as sample weights."""
        from ntm_keras import BitCrossentropy

        return BitCrossentropy()

    def measures(self) -> list[Any]:
        """Keras metrics of targets and logits, with the mask as sample weights."""
        from ntm_keras import CostPerSequence, ShareWithoutError, WrongBitsPerSequence

        return [CostPerSequence(), WrongBitsPerSequence(), ShareWithoutError()]

    def plot(
        self,
        inputs: tf.Tensor,
        targets: tf.Tensor,
        logits: tf.Tensor,
        mask: tf.Tensor,
        trace: Any = None,
        title: str = "",
    ) -> Figure:
        """Draws what a model does with the first sequence.

        Args:
            inputs: As `generate` gives them.
            targets: As `generate` gives them.
            logits: The model's outputs.
            mask: As `generate` gives it.
            trace: The trace of the model's machine; None for a model without a memory.
            title: The figure's title.
        """
        import tensorflow as tf

        from ntm_keras.pictures import plot_trace

        return plot_trace(trace, inputs, targets, tf.sigmoid(logits), mask, title)

    def as_text(
        self, inputs: tf.Tensor, targets: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor
    ) -> str:
        """The first sequence and a model's answer as text for a terminal."""
        import numpy as np

        counts = np.asarray(mask[0]) > 0
        first = int(np.argmax(counts))
        answered = f"from step {first + 1}"
        parts = [
            ("input", inputs[0], np.ones_like(counts)),
            (f"target, {answered}", targets[0][first:], counts[first:]),
            (f"answer, {answered}", logits[0][first:], counts[first:]),
        ]
        lines = ["channels down, time across, # above 0"]
        for title, values, shown in parts:
            cells = np.where(np.asarray(values) > 0, "#", ".")
            cells[~shown] = " "
            lines += ["", title, *("".join(channel) for channel in cells.T)]
        return "\n".join(lines)

    def parse_size(self, text: str) -> Any:
        """Parses one size of `--eval_sizes`; a ValueError says what is allowed."""
        raise NotImplementedError

    def sizes(self, text: str) -> list[tuple[str, Any]]:
        """The sizes in a list such as "10,20": each as text and as `parse_size` returns it.

        Raises:
            ValueError: A size is not in the task's notation, or its sequences are too long.
        """
        sizes = [(part.strip(), self.parse_size(part.strip())) for part in text.split(",")]
        for written, size in sizes:
            if self.steps_of(size) > LARGEST:
                raise ValueError(
                    f"a sequence has at most {LARGEST} steps. "
                    f"Received: {written!r}, which has {self.steps_of(size)}"
                )
        return sizes

    def draw_sizes(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        """Draws sizes of training sequences.

        Args:
            count: Number of sizes.
            seed: `(2,)`, int64; the sizes depend only on it.

        Returns:
            `(count, ..)`: the sizes for `generate`, a number or a row for each sequence.
        """
        raise NotImplementedError

    def generate(self, sizes: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Draws one sequence of each size.

        Args:
            sizes: `(batch, ..)`, as `draw_sizes` and `parse_size` give them.
            seed: `(2,)`, int64; the sequences depend only on it and on the sizes.

        Returns:
            `(inputs, targets, mask)`, as in the class docstring; `time` is the longest sequence's.
        """
        raise NotImplementedError

    def generate_in(
        self, stream: str, sizes: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """`generate` for one stream. A task may override it to use other data in some streams.

        Args:
            stream: `"training"`, `"validation"`, `"test"`, `"report"` or `"evaluation"`.
            sizes: As in `generate`.
            seed: As in `generate`.
        """
        return self.generate(sizes, seed)

    def training(
        self, batch_size: int, seed: int, first_step: int = 0, mix_lengths: bool = False
    ) -> tf.data.Dataset:
        """The training batches, without end, from number `first_step` on.

        All sequences of a batch have the same size, unless `mix_lengths` is true. All batches are
        padded to the length of the longest sequence; the mask is 0 in the padding.
        """
        import tensorflow as tf

        def draw_sizes(size_seed):
            if mix_lengths:
                return self.draw_sizes(batch_size, size_seed)
            return tf.repeat(self.draw_sizes(1, size_seed), batch_size, axis=0)

        key = ("training", batch_size, mix_lengths)
        draw = self._drawing(key, "training", draw_sizes, batch_size, self.longest_time)
        return _pipeline(tf.data.Dataset.range(first_step, tf.int64.max), draw, seed).prefetch(1)

    def validation(self, sequences: int, batch_size: int, seed: int) -> tf.data.Dataset:
        """At least `sequences` sequences of mixed training sizes, in whole batches."""
        return self._mixed("validation", 0, sequences, batch_size, seed)

    def test(self, draw: int, sequences: int, batch_size: int, seed: int) -> tf.data.Dataset:
        """Like `validation`, with other sequences for every number `draw`."""
        return self._mixed("test", draw, sequences, batch_size, seed)

    def report(self, sequences: int, batch_size: int, seed: int) -> tf.data.Dataset:
        """Like `test`, with sequences that are not used to decide when training ends."""
        return self._mixed("report", 0, sequences, batch_size, seed)

    def _mixed(
        self, stream: str, draw: int, sequences: int, batch_size: int, seed: int
    ) -> tf.data.Dataset:
        import tensorflow as tf

        def draw_sizes(size_seed):
            return self.draw_sizes(batch_size, size_seed)

        batches = -(-sequences // batch_size)
        numbers = tf.data.Dataset.range(draw * batches, (draw + 1) * batches)
        key = (stream, batch_size)
        return _pipeline(
            numbers, self._drawing(key, stream, draw_sizes, batch_size, self.longest_time), seed
        )

    def evaluation(self, size: Any, sequences: int, batch_size: int, seed: int) -> tf.data.Dataset:
        """At least `sequences` sequences of one size, in whole batches."""
        import tensorflow as tf

        def draw_sizes(_):
            return tf.repeat(tf.constant([size]), batch_size, axis=0)

        key = ("evaluation", batch_size, size)
        numbers = tf.data.Dataset.range(-(-sequences // batch_size))
        return _pipeline(numbers, self._drawing(key, "evaluation", draw_sizes, batch_size), seed)

    def _drawing(
        self,
        key: Any,
        stream: str,
        draw_sizes: Callable[[tf.Tensor], tf.Tensor],
        batch_size: int,
        time: int | None = None,
    ) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]:
        """A graph that draws a batch from the seed and the batch's number; made once for a key.

        Args:
            key: What the graph depends on.
            stream: See `generate_in`.
            draw_sizes: Draws the sizes from a seed.
            batch_size: Number of sequences.
            time: Steps to pad sequences to; by default as many as the longest one has.
        """
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 2)
        def draw(seed, number):
            stream_seed = tf.stack([seed, tf.constant(_STREAMS[stream], tf.int64)])
            seeds = tf.random.split(tf.random.fold_in(stream_seed, number), 2)
            size_seed, content_seed = tf.unstack(seeds)
            drawn = self.generate_in(stream, draw_sizes(size_seed), content_seed)
            self._check_drawn(drawn)
            return self._pad(drawn, batch_size, time or tf.shape(drawn[0])[1])

        graphs = self.__dict__.setdefault("_graphs", {})
        if key not in graphs:
            graphs[key] = draw.get_concrete_function()
        return graphs[key]

    def _check_order(self, low: str, high: str) -> None:
        """Refuses a range whose lower limit is above its upper one."""
        if getattr(self, low) > getattr(self, high):
            raise ValueError(
                f"{low} must be at most {high}. "
                f"Received: {low}={getattr(self, low)}, {high}={getattr(self, high)}"
            )

    def _draw(self, count: int, low: int, high: int, seed: tf.Tensor) -> tf.Tensor:
        """`count` whole numbers from `low` to `high`, inclusive."""
        import tensorflow as tf

        return tf.random.stateless_uniform([count], seed, low, high + 1, tf.int32)

    def _random_bits(self, shape: Any, seed: tf.Tensor) -> tf.Tensor:
        """Zeros and ones with equal probability, float32."""
        import tensorflow as tf

        return tf.cast(tf.random.stateless_uniform(shape, seed, 0, 2, tf.int32), tf.float32)

    def _pad(
        self, sequences: Any, batch_size: int, time: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Pads every sequence with zeros to `time` steps."""
        import tensorflow as tf

        static_time = time if isinstance(time, int) else None
        most = "`longest_time`" if static_time else "its inputs have"
        too_long = f"{type(self).__name__}.generate gave more steps than {most}"

        def pad(tensor, *channels):
            if static_time and (tensor.shape[1] or 0) > static_time:
                raise ValueError(f"{too_long}. Received: shape {tensor.shape}")
            tensor = tf.ensure_shape(tensor, [batch_size, None, *channels])
            after = time - tf.shape(tensor)[1]
            with tf.control_dependencies([tf.debugging.assert_non_negative(after, too_long)]):
                padded = tf.pad(tensor, [[0, 0], [0, after]] + [[0, 0]] * len(channels))
            return tf.ensure_shape(padded, [batch_size, static_time, *channels])

        inputs, targets, mask = sequences
        return pad(inputs, self.input_width), pad(targets, self.output_width), pad(mask)

    def _check_drawn(self, sequences: Any) -> None:
        """Refuses what `generate` returned if it is not three tensors of the right kinds."""
        import tensorflow as tf

        wanted = [None, None, self.input_width], [None, None, self.output_width], [None, None]
        is_right = (
            isinstance(sequences, (tuple, list))
            and len(sequences) == len(wanted)
            and all(
                tf.is_tensor(tensor)
                and tensor.dtype == "float32"
                and tensor.shape.is_compatible_with(shape)
                for tensor, shape in zip(sequences, wanted)
            )
        )
        if not is_right:
            raise TypeError(
                f"{type(self).__name__}.generate must return inputs, targets and a mask, float32"
                f" tensors of shapes (batch, time, {self.input_width}),"
                f" (batch, time, {self.output_width}) and (batch, time). Received: {sequences}"
            )


def check_is_complete(task_class: type[Task]) -> None:
    """Raises a TypeError if a class lacks what a task needs, or has a field that is not a limit."""
    names = ["input_width", "output_width", "largest_size", "steps_of", "vectors_to_remember"]
    names += ["default_eval_sizes", "small_size", "parse_size", "draw_sizes", "generate"]
    missing = [n for n in names if getattr(task_class, n, None) is getattr(Task, n, None)]
    if missing:
        raise TypeError(
            f"{task_class.__name__} must define {', '.join(f'`{name}`' for name in missing)}:"
            " see `help(tasks.task.Task)`."
        )
    if any(isinstance(value, dataclasses.Field) for value in vars(task_class).values()):
        raise TypeError(f"{task_class.__name__} must be decorated by `@dataclass(frozen=True)`.")
    for field in dataclasses.fields(task_class):
        if "fits" not in field.metadata:
            raise TypeError(
                f"{task_class.__name__}.{field.name} must be made by `limit`, `choice` or `text`."
                f" Received: {field.name}={field.default!r}"
            )


def where(steps: tf.Tensor, values: tf.Tensor | float = 1.0) -> tf.Tensor:
    """The values where `steps`, `(batch, time)`, is true, else 0: `(batch, time, channels)`."""
    import tensorflow as tf

    return tf.where(steps[:, :, tf.newaxis], values, 0.0)


def pick(vectors: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """The vectors, from `(batch, number, channels)`, at an index `(batch, time)`.

    An index that is too small picks the first vector, one that is too large the last.
    """
    import tensorflow as tf

    last = tf.shape(vectors)[1] - 1
    return tf.gather(vectors, tf.clip_by_value(index, 0, last), batch_dims=1)


def _pipeline(
    numbers: tf.data.Dataset, draw: Callable[[Any, tf.Tensor], tuple[tf.Tensor, ...]], seed: int
) -> tf.data.Dataset:
    """The batches with these numbers, without TensorFlow's autotuning of pipelines.

    There is nothing to tune. And the end of an iterator sometimes waits for the autotuning thread,
    which sleeps longer and longer between its turns.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    run_seed = tf.constant(seed, tf.int64)
    return numbers.map(lambda number: draw(run_seed, number)).with_options(options)
