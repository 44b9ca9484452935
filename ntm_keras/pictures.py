"""A machine at work as a figure: time runs through all its panels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ntm_keras.keras_compat import to_numpy

# A location is shown if a head once gives it more weight than this, or if it lies between such.
_USED = 0.1

# Inches: the figure's width and margins, a row's height, and the heights of panels.
_WIDTH, _LEFT, _RIGHT, _TOP, _BETWEEN, _BOTTOM = 7.4, 0.8, 0.9, 0.4, 0.38, 0.55
_ROW_HEIGHT, _LEAST_HEIGHT, _MOST_HEIGHT = 0.08, 0.5, 1.6
_WEIGHTING_HEIGHT, _VECTOR_HEIGHT = 1.8, 1.2

_NO_ANSWER = "#d9d9d9"

# Of several heads: red, green, blue and mixtures of them.
_COLOURS = np.array([[1, 0.3, 0.2], [0.2, 0.9, 0.3], [0.3, 0.5, 1], [1, 0.8, 0.1], [0.9, 0.3, 1]])


class Panel(NamedTuple):
    """One of a figure's panels, which lie below each other.

    Attributes:
        title: What is shown.
        values: `(rows, columns)`, drawn from the first step to the last; NaN is drawn grey. Or
            `(rows, columns, 3)`, colours.
        rows: What a row is, such as `"bit"`.
        low: The number that gets the first colour of the colour bar: 0, or below 0 for signed
            numbers.
        high: The number that gets the last colour.
        ticks: Labels of rows; by default, some rows' numbers.
        legend: What colours mean, if `values` are colours.
        height: The panel's height in inches; by default as many rows need.
    """

    title: str
    values: np.ndarray
    rows: str
    low: float = 0.0
    high: float = 1.0
    ticks: dict[int, str] | None = None
    legend: dict[str, np.ndarray] | None = None
    height: float | None = None


def plot_trace(
    trace: Any,
    inputs: Any = None,
    targets: Any = None,
    outputs: Any = None,
    mask: Any = None,
    title: str = "",
) -> Figure:
    """Draws what a machine does with a sequence, like the paper's figure 6.

    From the top: the inputs, what each write head adds and where, where each read head reads and
    what, the outputs, and their error. Of the memory, the locations that the heads use are shown.
    Of a batch, the first sequence is drawn.

    Args:
        trace: What `trace` returned; None for a model without a memory. The trace of another
            machine may lack some of the fields `add_vector`, `write_weightings`,
            `read_weightings` and `read_vectors`.
        inputs: `(batch, time, features)`, in the order in which the machine processes them.
        targets: `(batch, time, bits)`, 0 or 1, for the error. They need `outputs`.
        outputs: `(batch, time, bits)`, the probability of a 1: the sigmoid of a layer's outputs.
        mask: `(batch, time)`, 0 in the steps without an answer. Outputs and error are grey there.
        title: The figure's title.

    Returns:
        The figure. A notebook shows it after `%matplotlib inline`; `figure.savefig("machine.png")`
        writes it.

    Raises:
        ValueError: The trace has none of these fields; an array has another number of axes or
            steps; or there are targets but no outputs.

    Examples:
        >>> cell = NTMCell(100, 128, 20, read_head_num=1, write_head_num=1)
        >>> inputs = tf.ones([1, 7, 8])
        >>> found = trace(cell, inputs)
        >>> figure = pictures.plot_trace(found, inputs, outputs=tf.sigmoid(found.outputs))
        >>> [axes.get_title(loc="left") for axes in figure.axes][0]
        'Inputs'
    """
    machine = [] if trace is None else trace_panels(trace)
    steps = machine[0].values.shape[1] if machine else _steps_of(inputs)
    before, after = sequence_panels(steps, inputs, targets, outputs, mask)
    return plot_panels([*before, *machine, *after], steps, title)


def _steps_of(inputs: Any) -> int:
    if len(np.shape(inputs)) != 3:
        raise ValueError(
            "Argument `inputs` must have the shape (batch, time, features) where there is no trace."
            f" Received: inputs.shape={np.shape(inputs)}"
        )
    return np.shape(inputs)[1]


def sequence_panels(
    steps: int, inputs: Any, targets: Any, outputs: Any, mask: Any
) -> tuple[list[Panel], list[Panel]]:
    """The panels of a sequence for `plot_panels`: above those of the machine, and below.

    The arguments are those of `plot_trace`, and the number of steps.

    Raises:
        ValueError: As `plot_trace` does.
    """
    if targets is not None and outputs is None:
        raise ValueError("Argument `targets` needs `outputs`, from which the error is drawn.")
    before, after = [], []
    if inputs is not None:
        values = _rows_of("inputs", inputs, steps, "(batch, time, features)")
        before.append(Panel("Inputs", values, "channel", low=_low(values)))
    if outputs is not None:
        asked = np.ones(steps) if mask is None else _rows_of("mask", mask, steps, "(batch, time)")
        values = np.where(
            asked > 0, _rows_of("outputs", outputs, steps, "(batch, time, bits)"), np.nan
        )
        grey = "" if (asked > 0).all() else " (grey: no answer is asked for)"
        after.append(Panel(f"Outputs: the probability of a 1{grey}", values, "bit"))
        if targets is not None:
            wanted = _rows_of("targets", targets, steps, "(batch, time, bits)")
            after.append(Panel("Error: outputs less targets", values - wanted, "bit", low=-1))
    return before, after


def _rows_of(name: str, batch: Any, steps: int, shape: str) -> np.ndarray:
    """The first sequence of a batch, with time across."""
    values = to_numpy(batch).astype(np.float64)
    if values.ndim != shape.count(",") + 1 or values.shape[1] != steps or not len(values):
        raise ValueError(
            f"Argument `{name}` must have the shape {shape}, with a time of {steps}."
            f" Received: {name}.shape={values.shape}"
        )
    return values[0].T


def _low(values: np.ndarray) -> float:
    return -1.0 if np.nanmin(values, initial=0) < 0 else 0.0


def trace_panels(trace: Any) -> list[Panel]:
    """The panels of a trace's first sequence, for `plot_panels`.

    Args:
        trace: As in `plot_trace`.

    Returns:
        A panel each for the add vectors, the write weightings, the read weightings and the read
        vectors, as far as the trace has them.

    Raises:
        ValueError: The trace has nothing that can be drawn.
    """
    panels = [
        *_vectors(trace, "add_vector", "Add vector, what the machine writes"),
        *_weightings(trace, "write_weightings", "Write weighting, where it writes"),
        *_weightings(trace, "read_weightings", "Read weighting, where it reads"),
        *_vectors(trace, "read_vectors", "Read vector, what it reads"),
    ]
    if not panels:
        raise ValueError(
            "A trace that is drawn must have one of the fields `add_vector`, `write_weightings`,"
            f" `read_weightings` and `read_vectors`. Received: a `{type(trace).__name__}`"
        )
    return panels


def _weightings(trace: Any, field: str, title: str) -> Iterator[Panel]:
    """The panel of a weighting; several heads are lights of several colours."""
    if not hasattr(trace, field):
        return
    shown = used_locations(trace)
    weightings = _first(trace, field)[:, :, shown]
    high = np.nanmax(weightings, initial=_USED)
    ticks = {row: str(shown[row]) for row in some_rows(len(shown))}
    colours = _COLOURS[np.arange(weightings.shape[1]) % len(_COLOURS)]
    values, legend = weightings[:, 0].T, None
    if len(colours) > 1:
        values = np.einsum("thn,hc->ntc", np.nan_to_num(weightings) / high, colours).clip(0, 1)
        legend = {f"head {number}": colour for number, colour in enumerate(colours, start=1)}
    yield Panel(title, values, "location", 0, high, ticks, legend, _WEIGHTING_HEIGHT)


def _vectors(trace: Any, field: str, title: str) -> Iterator[Panel]:
    """The panel of a vector; those of several heads lie below each other."""
    if not hasattr(trace, field):
        return
    vectors = _first(trace, field)
    steps, heads, width = vectors.shape
    ticks = {width * head: f"head {head + 1}" for head in range(heads)} if heads > 1 else None
    values = vectors.reshape(steps, heads * width).T
    yield Panel(title, values, "component", -1, 1, ticks, height=_VECTOR_HEIGHT * (1 + (heads > 2)))


def _first(trace: Any, field: str) -> np.ndarray:
    """A field of a trace's first sequence. matplotlib draws no bfloat16."""
    return to_numpy(getattr(trace, field)[0]).astype(np.float64)


def some_rows(rows: int) -> list[int]:
    """The rows that get a label."""
    return np.unique(np.linspace(0, rows - 1, 2 if rows < 12 else 4).astype(int)).tolist()


def used_locations(trace: Any) -> np.ndarray:
    """The numbers of the locations that any head of a trace uses, and of those between.

    The memory is a ring, as heads shift from the last location to the first.
    """
    fields = ("read_weightings", "write_weightings")
    given = [_first(trace, field) for field in fields if hasattr(trace, field)]
    largest = np.max([np.nanmax(each, axis=(0, 1), initial=0) for each in given], axis=0)
    size, used = len(largest), np.flatnonzero(largest > _USED)
    if len(used) in (0, size):
        return np.arange(size)
    gap = np.argmax(np.diff(used, append=used[0] + size))
    first, last = used[(gap + 1) % len(used)], used[gap]
    return (first + np.arange((last - first) % size + 1)) % size


def plot_panels(panels: Sequence[Panel], steps: int, title: str = "") -> Figure:
    """Draws panels below each other, with time across.

    Args:
        panels: The panels, from the top.
        steps: Number of steps.
        title: The figure's title.

    Returns:
        The figure.

    Raises:
        ValueError: There is no panel.
    """
    if not panels:
        raise ValueError("Argument `panels` must hold a panel. Received: panels=[]")
    heights = [
        each.height or np.clip(_ROW_HEIGHT * len(each.values), _LEAST_HEIGHT, _MOST_HEIGHT)
        for each in panels
    ]
    top = _TOP + (_TOP if title else 0)
    height = top + sum(heights) + _BETWEEN * (len(panels) - 1) + _BOTTOM
    figure = Figure(figsize=(_WIDTH, height))
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=_LEFT / _WIDTH, y=1 - 0.15 / height, ha="left", va="top")
    width, floor = _WIDTH - _LEFT - _RIGHT, height - top
    for panel, panel_height in zip(panels, heights, strict=True):
        floor -= panel_height
        bottom, share = floor / height, panel_height / height
        axes = figure.add_axes((_LEFT / _WIDTH, bottom, width / _WIDTH, share))
        image = draw_panel(panel, axes, steps)
        axes.tick_params(labelbottom=False)
        beside = (_LEFT + width + 0.12) / _WIDTH, bottom, 0.12 / _WIDTH, share
        _explain_colours(panel, image, figure.add_axes(beside))
        floor -= _BETWEEN
    axes.tick_params(labelbottom=True)
    axes.set_xlabel("step", fontsize=9)
    return figure


def draw_panel(panel: Panel, axes: Axes, columns: int) -> AxesImage:
    """Draws a panel, with as many units across as there are `columns`, from 1 on."""
    rows, pixels = len(panel.values), axes.get_window_extent()
    fits = rows <= pixels.height and panel.values.shape[1] <= pixels.width
    image = axes.imshow(
        panel.values,
        cmap="RdBu_r" if panel.low < 0 else "viridis",
        vmin=panel.low,
        vmax=panel.high,
        aspect="auto",
        extent=(0.5, columns + 0.5, rows - 0.5, -0.5),
        interpolation="nearest" if fits else "antialiased",
    )
    axes.set_facecolor(_NO_ANSWER)
    axes.set_title(panel.title, loc="left", fontsize=10, pad=3)
    axes.set_ylabel(panel.rows, fontsize=9)
    axes.tick_params(labelsize=8, length=2)
    numbers = {row: str(row) for row in some_rows(rows)}
    ticks = numbers if panel.ticks is None else panel.ticks
    axes.set_yticks(list(ticks), list(ticks.values()))
    return image


def _explain_colours(panel: Panel, image: AxesImage, axes: Axes) -> None:
    """Draws a colour bar, or a colour for each line of the panel's legend."""
    if panel.legend is None:
        axes.figure.colorbar(image, cax=axes, ticks=[panel.low, panel.high], format="{x:.2g}")
    else:
        axes.imshow(np.array([*panel.legend.values()])[:, np.newaxis], aspect="auto")
        axes.set_yticks(range(len(panel.legend)), list(panel.legend))
        axes.yaxis.tick_right()
        axes.set_xticks([])
    axes.tick_params(labelsize=8, length=2)


def as_image(figure: Figure) -> np.ndarray:
    """A figure as `(height, width, 3)`, uint8, as TensorBoard shows it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
