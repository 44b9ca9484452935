"""Pictures of a trace: arrays of uint8, `(height, width, 3)`, drawn with NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# From low to high. SEQUENTIAL for weightings, DIVERGING for signed values.
SEQUENTIAL = ("#0d0221", "#3b0f70", "#8c2981", "#de4968", "#fe9f6d", "#fcfdbf")
DIVERGING = ("#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b")

_BORDER = 4

DESCRIPTIONS = {
    "read_weightings": "Where each read head reads: memory locations down, time across, heads side "
    "by side. Dark 0, bright the largest weight.",
    "write_weightings": "Where each write head writes: memory locations down, time across, heads "
    "side by side. Dark 0, bright the largest weight.",
    "read_vectors": "What each read head reads: components down, time across, heads side by side. "
    "Blue -1, white 0, red 1.",
    "add_vectors": "What each write head adds: components down, time across, heads side by side. "
    "Blue -1, white 0, red 1.",
    "memory": "The memory after the last step: locations down, components across. Blue -1, "
    "white 0, red 1.",
}
ANSWERS = (
    "From left to right: target, output, and output minus target, in the steps that count; bits "
    "down, time across. Target and output dark 0, bright 1; error blue -1, white 0, red 1."
)


def heatmap(
    values: np.ndarray,
    low: float = 0.0,
    high: float = 1.0,
    palette: Sequence[str] = SEQUENTIAL,
    size: tuple[int, int] = (256, 384),
) -> np.ndarray:
    """A matrix as a picture, with one block of pixels for each number.

    Args:
        values: `(rows, columns)`.
        low: This number and all below get the first colour of the palette.
        high: This number and all above get the last colour of the palette.
        palette: Colours as `#rrggbb`, evenly spaced from `low` to `high`.
        size: The approximate height and width in pixels. All blocks have the same size, at least
            one pixel.

    Returns:
        `(height, width, 3)`, uint8.
    """
    values = np.asarray(values, np.float64)
    colours = np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in palette])
    level = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    stops = np.linspace(0, 1, len(palette))
    picture = np.stack([np.interp(level, stops, channel) for channel in colours.T], axis=-1)
    rows, columns = (
        max(1, round(pixels / count)) for pixels, count in zip(size, values.shape, strict=True)
    )
    return picture.round().astype(np.uint8).repeat(rows, axis=0).repeat(columns, axis=1)


def stack(pictures: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """Pictures one below another (`axis` 0) or side by side (1), with white borders between.

    They must have the same size along the other axis.
    """
    border_shape = list(pictures[0].shape)
    border_shape[axis] = _BORDER
    border = np.full(border_shape, 255, np.uint8)
    parts = [part for picture in pictures for part in (border, picture)]
    return np.concatenate(parts[1:], axis=axis)


def draw_trace(trace: Any) -> dict[str, np.ndarray]:
    """Draws a trace's first sequence: weightings, vectors and memory. See `DESCRIPTIONS`.

    The trace of another machine may lack some of these: then the others are drawn.

    Raises:
        ValueError: The trace has nothing that can be drawn.
    """
    drawn = {
        name: draw(getattr(trace, field)[0])
        for name, (field, draw) in _DRAWN.items()
        if hasattr(trace, field)
    }
    if not drawn:
        fields = ", ".join(f"`{field}`" for field, _ in _DRAWN.values())
        raise ValueError(
            f"A trace that is drawn must have one of the fields {fields}."
            f" Received: a `{type(trace).__name__}`"
        )
    return drawn


def _weightings_over_time(weightings: np.ndarray) -> np.ndarray:
    return _heads_over_time(weightings, 0, np.max(weightings), SEQUENTIAL)


def _heads_over_time(
    values: np.ndarray, low: float, high: float, palette: Sequence[str]
) -> np.ndarray:
    """`(time, heads, rows)` as a picture with time across, heads side by side."""
    heads = np.moveaxis(values, 1, 0)
    return stack([heatmap(head.T, low, high, palette) for head in heads], axis=1)


def _vectors_over_time(vectors: np.ndarray) -> np.ndarray:
    return _heads_over_time(vectors, -1, 1, DIVERGING)


def _last_memory(memory: np.ndarray) -> np.ndarray:
    return heatmap(memory[-1], -1, 1, DIVERGING)


# From the name of a picture to the field of a trace, and the function that draws it.
_DRAWN: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "read_weightings": ("read_weightings", _weightings_over_time),
    "write_weightings": ("write_weightings", _weightings_over_time),
    "read_vectors": ("read_vectors", _vectors_over_time),
    "add_vectors": ("add_vector", _vectors_over_time),
    "memory": ("memory", _last_memory),
}


def draw_answers(targets: Any, answers: Any, mask: Any = None) -> np.ndarray:
    """Draws the first sequence's target, output and error, side by side. See `ANSWERS`.

    Args:
        targets: `(batch, time, bits)`, 0 or 1.
        answers: `(batch, time, bits)`, probabilities.
        mask: `(batch, time)`, 1 in the steps to draw; by default, all steps are drawn.
    """
    counts = np.zeros(len(targets[0]), bool) if mask is None else np.asarray(mask[0]) > 0
    if not counts.any():
        counts = ~counts
    target, answer = (np.asarray(each[0])[counts].T for each in (targets, answers))
    size = (192, 192)
    return stack(
        [
            heatmap(target, size=size),
            heatmap(answer, size=size),
            heatmap(answer - target, -1, 1, DIVERGING, size),
        ],
        axis=1,
    )
