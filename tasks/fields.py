"""Dataclass fields that check their values and can become flags.

The metadata of each field holds

* `kind`: "limit", "number", "switch", "choice" or "text";
* `description`: the field's help text;
* `group`: its group in --help;
* `must_be`: the allowed values, in words;
* `fits`: a function that says whether a value is allowed;
* `bounds` for a limit, `allowed` for a choice.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

# The largest limit, and the longest sequence: larger numbers are typing errors.
LARGEST = 100_000


def limit(
    default: int,
    description: str,
    at_least: int = 1,
    at_most: int = LARGEST,
    *,
    group: str = "",
) -> Any:
    """A field that is a whole number between two bounds."""

    def fits(value: Any) -> bool:
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return is_whole and at_least <= value <= at_most

    must_be = f"a whole number from {at_least} to {at_most}"
    return _field("limit", default, description, group, must_be, fits, bounds=(at_least, at_most))


def number(
    default: float | None,
    description: str,
    must_be: str,
    fits: Callable[[float], bool],
    *,
    group: str = "",
) -> Any:
    """A field that is a finite number, or None if that is its default."""

    def is_allowed(value: Any) -> bool:
        if value is None:
            return default is None
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and fits(float(value))

    return _field("number", default, description, group, must_be, is_allowed)


def switch(default: bool, description: str, *, group: str = "") -> Any:
    """A field that is True or False."""
    return _field(
        "switch",
        default,
        description,
        group,
        "True or False",
        lambda value: isinstance(value, bool),
    )


def choice(allowed: list[str], description: str, *, group: str = "") -> Any:
    """A field that is one of these words, by default the first."""
    return _field(
        "choice",
        allowed[0],
        description,
        group,
        f"one of {allowed}",
        lambda value: isinstance(value, str) and value in allowed,
        allowed=allowed,
    )


def text(description: str, default: str | None = "", *, group: str = "") -> Any:
    """A field that is any text, or None if that is its default."""
    return _field(
        "text",
        default,
        description,
        group,
        "a string",
        lambda value: isinstance(value, str) or (value is None and default is None),
    )


def _field(
    kind: str,
    default: Any,
    description: str,
    group: str,
    must_be: str,
    fits: Callable[[Any], bool],
    **more: Any,
) -> Any:
    metadata = {
        "kind": kind,
        "description": description,
        "group": group,
        "must_be": must_be,
        "fits": fits,
        **more,
    }
    return dataclasses.field(default=default, metadata=metadata)


def checked(field: dataclasses.Field, value: Any) -> Any:
    """The value of a field, converted to a built-in type.

    Raises:
        ValueError: The field does not allow this value.
    """
    if not field.metadata["fits"](value):
        must_be = field.metadata["must_be"]
        raise ValueError(f"{field.name} must be {must_be}. Received: {value!r}")
    types = {"limit": int, "number": float, "switch": bool, "choice": str, "text": str}
    return None if value is None else types[field.metadata["kind"]](value)
