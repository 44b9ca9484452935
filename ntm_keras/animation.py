"""A machine at work, step by step, as a moving picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ntm_keras.keras_compat import to_numpy
from ntm_keras.pictures import Panel, draw_panel, sequence_panels, some_rows, used_locations

_FIELDS = ("write_weightings", "memory", "read_weightings")

# Left, bottom, width and height of axes, as shares of the figure.
_SEQUENCES = ((0.08, 0.8, 0.88, 0.12), (0.08, 0.6, 0.88, 0.12))
_BELOW = ((0.08, 0.06, 0.12, 0.45), (0.28, 0.06, 0.48, 0.45), (0.84, 0.06, 0.12, 0.45))


def animate_trace(
    trace: Any, inputs: Any, outputs: Any, mask: Any = None, interval: int = 250
) -> FuncAnimation:
    """Shows step by step what a machine is shown, writes, reads and answers.

    Above, inputs and outputs up to the current step. Below, the memory after the step, with the
    weightings of the write heads on its left and those of the read heads on its right. Of the
    memory, the locations that the heads use are shown, with colours from -1 to 1. Of a batch, the
    first sequence is shown.

    Args:
        trace: What `trace` returned, with `memory`, `write_weightings` and `read_weightings`.
        inputs: `(batch, time, features)`.
        outputs: `(batch, time, bits)`, the probability of a 1: the sigmoid of a layer's outputs.
        mask: `(batch, time)`, 0 in the steps without an answer. The outputs are grey there.
        interval: Milliseconds of a step.

    Returns:
        The animation. `save("machine.gif", writer="pillow")` writes it, and in a notebook
        `IPython.display.HTML(animation.to_jshtml())` shows it.

    Raises:
        ValueError: The trace lacks a field, or an array has another number of axes or steps.

    Examples:
        >>> cell = NTMCell(100, 128, 20, read_head_num=1, write_head_num=1)
        >>> inputs = tf.ones([1, 7, 8])
        >>> found = trace(cell, inputs)
        >>> outputs = tf.sigmoid(found.outputs)
        >>> moving = animation.animate_trace(found, inputs, outputs)  # doctest: +SKIP
        >>> moving.save("machine.gif", writer="pillow")  # doctest: +SKIP
    """
    for field in _FIELDS:
        if not hasattr(trace, field):
            raise ValueError(
                f"A trace that is animated must have the field `{field}`."
                f" Received: a `{type(trace).__name__}`"
            )
    figure = Figure(figsize=(7.2, 5.4))
    FigureCanvasAgg(figure)
    steps = np.shape(trace.memory)[1]
    before, after = sequence_panels(steps, inputs, None, outputs, mask)
    covers = _draw_sequences([*before, *after], steps, figure)
    moving = []
    for (panel, over_time), place in zip(_panels_below(trace), _BELOW, strict=True):
        axes = figure.add_axes(place)
        moving.append((draw_panel(panel, axes, panel.values.shape[1]), over_time))
        axes.tick_params(bottom=False, labelbottom=False)

    def show(step: int) -> None:
        figure.suptitle(f"Step {step + 1}", x=0.96, ha="right", fontsize=10)
        for cover in covers:
            cover.set_x(step + 1.5)
        for image, over_time in moving:
            image.set_data(over_time[step])

    return FuncAnimation(figure, show, frames=steps, interval=interval)


def _draw_sequences(panels: list[Panel], steps: int, figure: Figure) -> list[Rectangle]:
    """Draws the panels above, and on each a rectangle that hides the steps to come."""
    covers = []
    for panel, place in zip(panels, _SEQUENCES):
        axes = figure.add_axes(place)
        draw_panel(panel, axes, steps)
        axes.tick_params(labelbottom=False)
        cover = Rectangle((0, -0.5), steps, len(panel.values), color="white")
        axes.add_patch(cover)
        covers.append(cover)
    return covers


def _panels_below(trace: Any) -> Iterator[tuple[Panel, np.ndarray]]:
    """Write weightings, memory and read weightings: after the first step, and after each."""
    shown = used_locations(trace)
    ticks = {row: str(shown[row]) for row in some_rows(len(shown))}
    for title, field in zip(("Write", "Memory", "Read"), _FIELDS, strict=True):
        values = to_numpy(getattr(trace, field)[0]).astype(np.float64)
        if field != "memory":
            values = np.swapaxes(values, 1, 2)
        values = values[:, shown]
        low = -1.0 if field == "memory" else 0.0
        yield Panel(title, values[0], "location", low, ticks=ticks), values
