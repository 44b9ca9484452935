"""Pictures of a machine over training, for TensorBoard."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ntm_keras import pictures, validation
from ntm_keras.callbacks.events import EventLog, EveryFewEpochs
from ntm_keras.keras_compat import Tensor, as_graph, ops
from ntm_keras.tracing import trace_model

_DESCRIPTION = (
    "What the machine does with one sequence. Time goes from left to right in all panels."
)


class MachineImages(EveryFewEpochs):
    """Draws for TensorBoard what the machine does with one sequence, over training.

    It draws a figure for every layer of the model whose cell is a `MemoryCell`, such as an `NTM`.
    The figure has the layer's name.

    Args:
        log_dir: Where to write.
        inputs: A batch of inputs of the model; its first sequence is drawn.
        plot: Called with the model's outputs, a batch of one, and a layer's trace; returns the
            figure. Of a model without such a layer, it is called with None for the trace. By
            default `pictures.plot_trace` draws the trace alone.
        every: Draw after every `every` epochs, and when training ends. By default ever more
            rarely: after 1, 2, 3, 4, 6, 8, 12, 16, .. epochs.

    Raises:
        ValueError: `every` is not a positive integer, `plot` is not a function, or `inputs` is not
            a batch of arrays. At the first drawing: the model has no layer whose cell is a
            `MemoryCell`, and `plot` is not given; a trace has nothing that can be drawn; or a
            recurrent layer is stateful.

    Examples:
        >>> watch = callbacks.MachineImages(
        ...     "runs/mine",
        ...     inputs,
        ...     plot=lambda logits, trace: pictures.plot_trace(
        ...         trace, inputs, targets, tf.sigmoid(logits)
        ...     ),
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        inputs: Any,
        plot: Callable[[Any, Any], Figure] | None = None,
        every: int | None = None,
    ):
        super().__init__(log_dir, every)
        self._inputs = tf.nest.map_structure(_first, inputs)
        self._plot = None if plot is None else validation.function("plot", plot)
        self._trace: Any = None

    def on_train_begin(self, logs=None):
        self._log = EventLog(self._log_dir)
        self._trace = as_graph(functools.partial(trace_model, self.model))

    def _run(self, step: int) -> None:
        outputs, traces = self._trace(self._inputs)
        if not traces and not self._plot:
            raise ValueError(
                "The model must call a layer whose cell is a MemoryCell, such as an NTM, or `plot`"
                " must be given: otherwise there is nothing to draw. Received:"
                f" model={self.model.name!r}"
            )
        plot = self._plot or (lambda _, trace: pictures.plot_trace(trace))
        figures = {
            name: plot(outputs, trace) for name, trace in (traces or {"model": None}).items()
        }
        with self._log.writing():
            write_figures(figures, step)


def _first(batch: Any) -> Tensor:
    """A batch with only the first example."""
    if not len(getattr(batch, "shape", ())):
        raise ValueError(
            "Argument `inputs` must be a batch for the model: an array, a tensor, or a structure of"
            f" these. Received: inputs={batch!r}"
        )
    return ops.convert_to_tensor(batch[:1])


def write_figures(figures: dict[str, Figure], step: int) -> None:
    """Writes figures by their tags, with the default summary writer."""
    for tag, figure in figures.items():
        image = pictures.as_image(figure)[np.newaxis]
        tf.summary.image(tag, image, step=step, description=_DESCRIPTION)
