"""One-shot learning of characters: section 4.1 of Santoro et al., "One-shot Learning with
Memory-Augmented Neural Networks" (arXiv 1605.06065)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import os
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tasks import drawings
from tasks.task import Task, choice, limit, parse_numbers, text

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.figure import Figure

# Pixels on each side of an image in the network's input.
_SIDE = 20

# A string label has five characters, and each is one of five letters.
_PLACES = _LETTERS = 5

# At least these shares of all characters are for the test and for validation.
_TEST_PART, _VALIDATION_PART = 1 / 4, 1 / 16

# The largest changes of drawings in training: rotation in radians, shift as a share of the width.
_LARGEST_TURN = math.pi / 16
_LARGEST_MOVE = 10 / 105

# Which characters each stream of sequences uses.
_PART_OF = {
    "training": "training",
    "validation": "validation",
    "test": "validation",
    "report": "test",
    "evaluation": "test",
}

# The accuracy is measured for each instance up to this one.
_MOST_INSTANCES = 10


@dataclasses.dataclass(frozen=True)
class Omniglot(Task):
    """Name drawings of new characters after seeing one example of each.

    An episode shows drawings of a few characters, in random order, and asks for the label of each
    drawing. The right label is shown one step later. Every episode assigns new labels, so the label
    of a character's first instance can only be guessed. One-hot labels already used in the episode
    can be ruled out.

    ```
    time       1    2    3   ..  L
    inputs     d1   d2   d3  ..  dL      a drawing, 20 x 20 pixels, ink 1
               0    l1   l2  ..  lL-1    the label of the drawing before
    targets    l1   l2   l3  ..  lL
    mask       1    1    1   ..  1
    ```

    Characters are split into training, validation and test characters. In training every character
    of an episode is rotated by a multiple of 90 degrees. Each of its drawings is rotated by up to
    11.25 degrees more, and moved by up to 10 of Omniglot's 105 pixels.
    """

    solved_measure: ClassVar[str] = "later_error"
    solved_below: ClassVar[float] = 0.08
    small_size = "46"

    omniglot: str = text("Folders or zip files in Omniglot's layout, separated by commas.")
    split: str = choice(
        ["alphabets", "characters"],
        "Whether to split whole alphabets or characters into training, validation and test.",
    )
    classes: int = limit(5, "Characters of an episode.", at_least=2)
    length: int = limit(50, "Drawings of an episode.", at_least=2)
    labels: str = choice(
        ["one_hot", "five_hot"],
        "Labels: one-hot over the classes, or a string of 5 characters from 5 letters.",
    )
    sampling: str = choice(
        ["uniform", "random"],
        "Whether all characters of an episode come equally often, or each step draws one.",
    )

    def __post_init__(self):
        super().__post_init__()
        if not self._paths:
            raise ValueError(
                "omniglot must name folders or zip files of Omniglot"
                f" (https://github.com/brendenlake/omniglot). Received: omniglot={self.omniglot!r}"
            )
        if self.length <= self.classes:
            raise ValueError(
                "length must be more than classes: otherwise no character need come twice. "
                f"Received: length={self.length}, classes={self.classes}"
            )
        self._check_characters()
        self._check_drawings(self.length)

    @property
    def _paths(self) -> list[str]:
        paths = [path.strip() for path in self.omniglot.split(",")]
        return [os.path.expanduser(path) for path in paths if path]

    @functools.cached_property
    def _drawings(self) -> drawings.Drawings:
        try:
            return drawings.load(self._paths)
        except ValueError as error:
            raise ValueError(
                f"omniglot must name folders or zip files of drawings; {error}"
            ) from error

    @functools.cached_property
    def _parts(self) -> dict[str, np.ndarray]:
        """The indices of the characters for training, validation and test.

        The split is random, but depends only on the names.
        """
        characters = self._drawings.characters
        groups = [
            character.alphabet if self.split == "alphabets" else "/".join(character)
            for character in characters
        ]

        def digest(group):
            return hashlib.sha256(group.encode()).digest()

        parts: dict[str, list[int]] = {"test": [], "validation": [], "training": []}
        sizes = [_TEST_PART * len(characters), _VALIDATION_PART * len(characters), math.inf]
        waiting = sorted(set(groups), key=digest)
        for part, size in zip(parts.values(), sizes):
            while waiting and len(part) < size:
                group = waiting.pop(0)
                part += [number for number, each in enumerate(groups) if each == group]
        return {name: np.array(part, np.int32) for name, part in parts.items()}

    def _check_characters(self) -> None:
        """Refuses more classes than a part has characters."""
        for name, part in self._parts.items():
            if len(part) < self.classes:
                found = len(self._drawings.characters)
                finer = ", split=characters" if self.split == "alphabets" else ""
                raise ValueError(
                    f"classes={self.classes} is more than the characters for {name}: they are"
                    f" {len(part)} of {found}, split by {self.split}. Give fewer classes"
                    f"{finer} or drawings of more characters"
                )

    def _check_drawings(self, length: int) -> None:
        """Refuses episodes that are so long that a drawing would come twice."""
        needed = self._instances(length) if self.sampling == "uniform" else 0
        for character, count in zip(self._drawings.characters, self._drawings.counts):
            if count < needed:
                raise ValueError(
                    f"an episode of {length} needs {needed} drawings of each of its characters, and"
                    f" {'/'.join(character)} has {count}; with sampling=random they may repeat"
                )

    def _instances(self, length: int) -> int:
        """The most instances of a character in an episode, if all come equally often."""
        return -(-length // self.classes)

    @property
    def _measured_instances(self) -> int:
        return min(_MOST_INSTANCES, self._instances(self.length))

    def data_names(self) -> dict[str, list[str]]:
        characters = self._drawings.characters
        return {
            name: ["/".join(characters[number]) for number in part]
            for name, part in self._parts.items()
        }

    def about(self) -> str:
        def described(part):
            alphabets = {self._drawings.characters[number].alphabet for number in part}
            return f"{len(part)} characters of {', '.join(sorted(alphabets))}"

        return "\n".join(f"{name}: {described(part)}" for name, part in self._parts.items())

    @property
    def input_width(self) -> int:
        return _SIDE * _SIDE + self.output_width

    @property
    def output_width(self) -> int:
        return self.classes if self.labels == "one_hot" else _PLACES * _LETTERS

    @property
    def _places(self) -> int:
        return 1 if self.labels == "one_hot" else _PLACES

    @property
    def largest_size(self) -> int:
        return self.length

    @property
    def default_eval_sizes(self) -> str:
        return str(self.length)

    def steps_of(self, size: int) -> int:
        return size

    def vectors_to_remember(self, size: int) -> int:
        return self.classes

    def loss(self) -> Any:
        from ntm_keras import LabelCrossentropy

        return LabelCrossentropy(self._places)

    def measures(self) -> list[Any]:
        from ntm_keras import InstanceAccuracy, LaterError

        numbers = range(1, self._measured_instances + 1)
        accuracies = [InstanceAccuracy(number, self._places) for number in numbers]
        return [*accuracies, LaterError(places=self._places)]

    def plot(
        self,
        inputs: tf.Tensor,
        targets: tf.Tensor,
        logits: tf.Tensor,
        mask: tf.Tensor,
        trace: Any = None,
        title: str = "",
    ) -> Figure:
        import tensorflow as tf

        from ntm_keras.label_metrics import letters
        from ntm_keras.pictures import Panel, plot_panels, trace_panels

        images = np.reshape(inputs[0, :, : _SIDE * _SIDE], [-1, _SIDE, _SIDE])
        chances = tf.reshape(tf.nn.softmax(letters(logits[:1], self._places)), logits[0].shape)
        panels = [
            Panel("Drawings", np.concatenate(images, axis=1), "", ticks={}, height=0.3),
            Panel("Labels, which the machine sees one step later", targets[0].numpy().T, "label"),
            *([] if trace is None else trace_panels(trace)),
            Panel("Answers: the probability of each label", chances.numpy().T, "label"),
        ]
        return plot_panels(panels, len(images), title)

    def as_text(
        self, inputs: tf.Tensor, targets: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor
    ) -> str:
        from ntm_keras.label_metrics import instance_numbers, letters

        def written(labels):
            for label in np.asarray(letters(labels[:1], self._places)[0]).argmax(axis=-1):
                is_string = self.labels == "five_hot"
                yield "".join("abcde"[letter] for letter in label) if is_string else str(label[0])

        instances = np.asarray(instance_numbers(targets[:1])[0])
        lines = ["", "step  instance  label  answer"]
        rows = zip(instances, written(targets), written(logits))
        for step, row in enumerate(rows, start=1):
            instance, label, answer = row
            wrong = "" if label == answer else "  wrong"
            lines.append(f"{step:4}  {instance:8}  {label:5}  {answer:5}{wrong}")
        return "\n".join(lines)

    def parse_size(self, text: str) -> int:
        # Long enough for every measured instance to occur.
        least = self.classes * (self._measured_instances - 1) + 1
        notation = f"a number of drawings of at least {least}, such as {self.length}"
        (length,) = parse_numbers(text, 1, notation, least)
        self._check_drawings(length)
        return length

    def draw_sizes(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.fill([count], self.length)

    def generate(self, sizes: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return self.generate_in("training", sizes, seed)

    def generate_in(
        self, stream: str, sizes: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """`generate` with this stream's characters; in training, drawings are changed."""
        import tensorflow as tf

        seeds = tf.unstack(tf.random.split(seed, 5))
        batch_size, length = tf.shape(sizes)[0], tf.reduce_max(sizes)
        part = tf.constant(self._parts[_PART_OF[stream]])
        chosen = _draw_different([batch_size], part.shape[0], self.classes, seeds[0])
        classes = self._draw_classes(batch_size, length, seeds[1])
        images = self._draw_images(tf.gather(part, chosen), classes, seeds[2])
        images = self._look(images, classes, seeds[3] if stream == "training" else None)
        labels = tf.gather(self._draw_labels(batch_size, seeds[4]), classes, batch_dims=1)

        mask = tf.sequence_mask(sizes, length, tf.float32)
        before = tf.pad(labels, [[0, 0], [1, 0], [0, 0]])[:, :-1]
        inputs = tf.concat([images, before], axis=-1) * mask[:, :, tf.newaxis]
        return inputs, labels * mask[:, :, tf.newaxis], mask

    def _draw_classes(self, batch_size: tf.Tensor, length: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The class that each step shows, `(batch, length)`."""
        import tensorflow as tf

        if self.sampling == "random":
            return tf.random.stateless_uniform(
                [batch_size, length], seed, 0, self.classes, tf.int32
            )
        return _draw_different([batch_size], length, length, seed) % self.classes

    def _draw_images(self, characters: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """A drawing for each step: a class repeats a drawing only after it has shown all.

        Args:
            characters: The character of each class, `(batch, classes)`.
            classes: The class of each step, `(batch, length)`.
            seed: `(2,)`.

        Returns:
            `(batch, length, SIDE, SIDE)`, uint8.
        """
        import tensorflow as tf

        counts = tf.constant(self._drawings.counts)
        most = int(self._drawings.counts.max())
        exists = tf.range(most) < tf.gather(counts, characters)[:, :, tf.newaxis]
        chance = tf.random.stateless_uniform([*tf.unstack(tf.shape(characters)), most], seed)
        # Drawings that do not exist come last.
        order = tf.argsort(tf.where(exists, chance, 2.0), axis=-1)
        shown = tf.one_hot(classes, self.classes, dtype=tf.int32)
        earlier = tf.gather(tf.cumsum(shown, axis=1, exclusive=True), classes, batch_dims=2)
        count = tf.gather(tf.gather(counts, characters), classes, batch_dims=1)
        which = tf.gather(tf.gather(order, classes, batch_dims=1), earlier % count, batch_dims=2)
        first = tf.gather(tf.cumsum(counts, exclusive=True), characters)
        return tf.gather(self._images, tf.gather(first, classes, batch_dims=1) + which)

    @functools.cached_property
    def _images(self) -> tf.Tensor:
        import tensorflow as tf

        with tf.init_scope():  # Once, not in every pipeline.
            return tf.constant(self._drawings.images)

    def _look(self, images: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """The images for the network's input, `(batch, length, pixels)`, ink 1.

        Args:
            images: `(batch, length, SIDE, SIDE)`.
            classes: The class of each step, `(batch, length)`.
            seed: Seed of the random changes, `(2,)`; None for no changes.
        """
        import tensorflow as tf

        steps = tf.shape(classes)
        turn = move_x = move_y = tf.zeros(steps)
        if seed is not None:
            seeds = tf.unstack(tf.random.split(seed, 3))
            quarters = tf.random.stateless_uniform(
                [steps[0], self.classes], seeds[0], 0, 4, tf.int32
            )
            turn = tf.random.stateless_uniform(steps, seeds[1], -_LARGEST_TURN, _LARGEST_TURN)
            turn += math.pi / 2 * tf.cast(tf.gather(quarters, classes, batch_dims=1), tf.float32)
            largest = _LARGEST_MOVE * drawings.SIDE
            move_x, move_y = tf.unstack(
                tf.random.stateless_uniform([2, *tf.unstack(steps)], seeds[2], -largest, largest)
            )
        flat = tf.reshape(tf.cast(images, tf.float32), [-1, drawings.SIDE, drawings.SIDE, 1])
        seen = tf.raw_ops.ImageProjectiveTransformV3(
            images=flat,
            transforms=_transforms(*(tf.reshape(each, [-1]) for each in (turn, move_x, move_y))),
            output_shape=[_SIDE, _SIDE],
            fill_value=0.0,
            interpolation="BILINEAR",
        )
        pixels = tf.reshape(seen, [steps[0], steps[1], _SIDE * _SIDE])
        return tf.math.divide_no_nan(pixels, tf.reduce_max(pixels, axis=-1, keepdims=True))

    def _draw_labels(self, batch_size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """A label for each class, `(batch, classes, output_width)`."""
        import tensorflow as tf

        if self.labels == "one_hot":
            return tf.one_hot(
                _draw_different([batch_size], self.classes, self.classes, seed), self.classes
            )
        numbers = _draw_different([batch_size], _LETTERS**_PLACES, self.classes, seed)
        places = _LETTERS ** tf.range(_PLACES)
        letters = tf.one_hot(numbers[:, :, tf.newaxis] // places % _LETTERS, _LETTERS)
        return tf.reshape(letters, [batch_size, self.classes, _PLACES * _LETTERS])


def _draw_different(shape: list[Any], among: Any, count: Any, seed: tf.Tensor) -> tf.Tensor:
    """`count` different numbers below `among`, in random order: `(*shape, count)`."""
    import tensorflow as tf

    chance = tf.random.stateless_uniform([*shape, among], seed)
    return tf.math.top_k(chance, count).indices


def _transforms(turn: tf.Tensor, move_x: tf.Tensor, move_y: tf.Tensor) -> tf.Tensor:
    """The transforms from pixels of the network's input to pixels of the drawing, `(images, 8)`.

    Args:
        turn: The rotation around the middle, in radians, `(images,)`.
        move_x: The shift across, in the drawing's pixels, `(images,)`.
        move_y: The shift down, in the drawing's pixels, `(images,)`.
    """
    import tensorflow as tf

    scale = drawings.SIDE / _SIDE
    middle, middle_before = (_SIDE - 1) / 2, (drawings.SIDE - 1) / 2
    cosine, sine = scale * tf.cos(turn), scale * tf.sin(turn)
    offset_x = middle_before + move_x - middle * (cosine - sine)
    offset_y = middle_before + move_y - middle * (sine + cosine)
    zero = tf.zeros_like(turn)
    return tf.stack([cosine, -sine, offset_x, sine, cosine, offset_y, zero, zero], axis=1)
