"""Exceptions that end a run early."""

from __future__ import annotations


class BadInput(ValueError):
    """The user's input does not allow a run to start or continue; the message says why."""


class StoppedBySignalError(Exception):
    """A signal ended training.

    Attributes:
        number: The signal's number.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number
