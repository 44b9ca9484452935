"""What arguments may be."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


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
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:
        raise ValueError(
            f"Argument `{name}` must be a number from 0 to 1. Received: {name}={value!r}"
        )
    return float(value)


def boolean(name: str, value: Any) -> bool:
    """The value as a bool; a ValueError says what is allowed."""
    if value not in (True, False):
        raise ValueError(f"Argument `{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """The value, if it is one of those; a ValueError says what is allowed."""
    if value not in allowed:
        raise ValueError(
            f"Argument `{name}` must be one of {', '.join(map(repr, allowed))}. "
            f"Received: {name}={value!r}"
        )
    return value


def real(name: str, tensor: Any, dtype: Any) -> tf.Tensor:
    """The tensor in that dtype; a ValueError if it holds no real numbers and no truth values."""
    given = tf.as_dtype(tensor.dtype)
    if not (given.is_floating or given.is_integer or given.is_bool):
        raise ValueError(
            f"Argument `{name}` must hold real numbers or truth values. "
            f"Received: {name} of dtype {given.name}"
        )
    return tf.cast(tensor, dtype)
