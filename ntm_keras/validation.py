"""Checks of arguments."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ntm_keras.keras_compat import Tensor, dtype_name, ops, static_shape


def integer(name: str, value: Any, at_least: int) -> int:
    """The value as an int; a ValueError says what is allowed."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < at_least:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least {at_least}. "
            f"Received: {name}={value!r}"
        )
    return number


def fraction(name: str, value: Any) -> float:
    """The value as a float; a ValueError says what is allowed."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(
            f"Argument `{name}` must be a number from 0 to 1. Received: {name}={value!r}"
        )
    return float(value)


def number(name: str, value: Any, at_least: float) -> float:
    """The value as a float, which may be infinite; a ValueError says what is allowed."""
    if not _is_number(value) or not value >= at_least:
        raise ValueError(
            f"Argument `{name}` must be a number of at least {at_least:g}. "
            f"Received: {name}={value!r}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def function(name: str, value: Any) -> Any:
    """The value, if it can be called; a ValueError says what is allowed."""
    if not callable(value):
        raise ValueError(f"Argument `{name}` must be a function. Received: {name}={value!r}")
    return value


def boolean(name: str, value: Any) -> bool:
    """The value as a bool; a ValueError says what is allowed."""
    if not isinstance(value, (bool, int, np.bool_)) or value not in (0, 1):
        raise ValueError(f"Argument `{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """The value, if it is one of `allowed`; a ValueError says what is allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"Argument `{name}` must be one of {', '.join(map(repr, allowed))}. "
            f"Received: {name}={value!r}"
        )
    return value


def real(name: str, tensor: Any, dtype: Any) -> Tensor:
    """The tensor in that dtype; a ValueError if it holds neither real numbers nor booleans."""
    given = dtype_name(tensor.dtype)
    if not given.startswith(("float", "bfloat", "int", "uint", "bool")):
        raise ValueError(
            f"Argument `{name}` must hold real numbers or booleans. "
            f"Received: {name} of dtype {given}"
        )
    return ops.cast(tensor, dtype)


def mask(given: Any, sequences: Tensor) -> Tensor:
    """The mask of sequences as `(batch, time)`, bool; a ValueError if the shape does not fit.

    The mask may hold numbers, its batch axis may be 1, and it may have a third axis of length 1.
    """
    given = ops.cast(given, "bool")
    batch_size, time = sequences.shape[:2]
    allowed = [[size, time, *more] for size in (batch_size, 1) for more in ([], [1])]
    shape = static_shape(given)
    if not any(shape.is_compatible_with(each) for each in allowed):
        raise ValueError(
            f"Argument `mask` must have the shape (batch, time), here {(batch_size, time)}. "
            f"Received: mask of the shape {tuple(shape)}"
        )
    if shape.rank == 3:
        given = given[:, :, 0]
    sizes = ops.shape(sequences)[:2]
    return ops.reshape(ops.broadcast_to(given, [sizes[0], ops.shape(given)[1]]), sizes)
