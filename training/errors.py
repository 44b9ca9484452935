"""What ends a run before its time."""

from __future__ import annotations


class BadInput(ValueError):
    """A run cannot be made, or go on, with what the user gave; the message says why."""


class StoppedBySignalError(Exception):
    """Training was asked to end; `number` is the signal's."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number
