"""Pictures of a machine over training, for TensorBoard."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ntm_keras import pictures, validation
from ntm_keras.keras_compat import keras, training_step
from ntm_keras.tracing import trace_model

# A dict from name to picture and description.
Pictures = dict[str, tuple[np.ndarray, str]]


class EventLog:
    """An event file for TensorBoard, created when it is first written to.

    Args:
        folder: The file's folder, created if necessary.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = os.path.expanduser(folder)
        self._folder_was_there = False
        self._suffix = f".{os.urandom(4).hex()}.v2"
        self._writer: Any = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A context in which summaries are written to the file. It ends with a flush.

        Raises:
            OSError: They cannot be written. The next summaries go into a new file.
        """
        if not self._folder_was_there:
            os.makedirs(self._folder, exist_ok=True)
            self._folder_was_there = True
        if not os.path.isdir(self._folder):  # TensorFlow does not notice this.
            raise OSError(f"{self._folder} cannot be written: it is no longer there")
        try:
            self._writer = self._writer or tf.summary.create_file_writer(
                self._folder, filename_suffix=self._suffix
            )
            with self._writer.as_default():
                yield
            self._writer.flush()
        except tf.errors.OpError as error:
            self._writer = None  # Its last record is incomplete.
            for path in pathlib.Path(self._folder).glob(f"*{self._suffix}"):
                if path.stat().st_size == 0:
                    path.unlink()
            raise OSError(f"{self._folder} cannot be written: {reason(error)}") from error


def reason(error: tf.errors.OpError) -> str:
    """Why TensorFlow could not write, without the names of its operations and files."""
    return error.message.split("; ")[-1].split(" [Op:")[0].splitlines()[0]


class EveryFewEpochs(keras.callbacks.Callback):
    """Calls `_run` after every `every` epochs and after training, once for a training step."""

    def __init__(self, log_dir: str | os.PathLike, every: int):
        super().__init__()
        self._log_dir = log_dir
        self._every = validation.integer("every", every, at_least=1)
        self._done_at = -1

    def on_train_begin(self, logs=None):
        self._log = EventLog(self._log_dir)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every == 0:
            self.on_train_end()

    def on_train_end(self, logs=None):
        step = training_step(self.model)
        if step != self._done_at:
            self._done_at = step
            self._run(step)

    def _run(self, step: int) -> None:
        raise NotImplementedError


class MachineImages(EveryFewEpochs):
    """Draws for TensorBoard what the machine does with one example, over training.

    It draws every layer of the model whose cell is a `MemoryCell`, such as an `NTM`: the read and
    the write weightings (locations down, time across, as in the paper's figure 6; several heads
    side by side), the read and the add vectors (time across), and the memory after the last step
    (locations down), as far as the cell's trace has them. It also writes the pictures that `draw`
    returns.

    Args:
        log_dir: Where to write.
        inputs: A batch of inputs of the model; its first sequence is drawn.
        draw: Called with the model's outputs, a batch of one. Returns a dict from name to a pair: a
            `(height, width, 3)` array of uint8 and a description, such as
            `{"answers": (pictures.draw_answers(targets, outputs), pictures.ANSWERS)}`.
        every: Draw after every `every` epochs, and when training ends.

    Raises:
        ValueError: `every` is not a positive integer, `draw` is not a function, or `inputs` is not
            a batch of arrays. At the first drawing: the model has no layer whose cell is a
            `MemoryCell`, and `draw` is not given; a trace has nothing that can be drawn; or a
            recurrent layer is stateful.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        inputs: Any,
        draw: Callable[[Any], Pictures] | None = None,
        every: int = 1,
    ):
        super().__init__(log_dir, every)
        self._inputs = tf.nest.map_structure(_first, inputs)
        self._draw = None if draw is None else validation.function("draw", draw)
        self._trace: Any = None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._trace = tf.function(functools.partial(trace_model, self.model), autograph=False)

    def _run(self, step: int) -> None:
        outputs, traces = self._trace(self._inputs)
        if not traces and not self._draw:
            raise ValueError(
                "The model must call a layer whose cell is a MemoryCell, such as an NTM, or `draw`"
                " must be given: otherwise there is nothing to draw. Received:"
                f" model={self.model.name!r}"
            )
        drawn = self._draw(outputs) if self._draw else {}
        with self._log.writing():
            write_machine_images(traces, drawn, step)


def _first(batch: Any) -> tf.Tensor:
    """A batch with only the first example."""
    if not len(getattr(batch, "shape", ())):
        raise ValueError(
            "Argument `inputs` must be a batch for the model: an array, a tensor, or a structure of"
            f" these. Received: inputs={batch!r}"
        )
    return tf.convert_to_tensor(batch[:1])


def write_machine_images(
    traces: dict[str, Any], drawn: Pictures, step: int = 0, suffix: str = ""
) -> None:
    """Writes the pictures of `MachineImages` once, with the default summary writer.

    Args:
        traces: The traces that `trace_model` returned.
        drawn: More pictures, as the argument `draw` of `MachineImages` returns them.
        step: The step of the summaries.
        suffix: Added at the end of the summaries' tags.
    """
    trace_pictures = {
        f"{layer_name}/{name}": (picture, pictures.DESCRIPTIONS[name])
        for layer_name, layer_trace in traces.items()
        for name, picture in pictures.draw_trace(layer_trace).items()
    }
    for tag, (picture, description) in {**trace_pictures, **drawn}.items():
        tf.summary.image(tag + suffix, picture[np.newaxis], step=step, description=description)
