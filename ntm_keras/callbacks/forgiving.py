"""Training goes on where its callbacks cannot write."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_end",
    "on_epoch_end",
    "on_train_end",
)


def forgiving(callback: Any, complain: Callable[[str], None]) -> Any:
    """Lets training go on where a callback cannot write: the disk is full, or no longer there.

    Args:
        callback: The callback. What it raises of `OSError` no longer ends the training.
        complain: Called with a line that says what failed, the first time.

    Returns:
        The same callback.
    """
    failed = False

    def without_failing(hook):
        @functools.wraps(hook)
        def call(*args, **kwargs):
            nonlocal failed
            try:
                hook(*args, **kwargs)
            except OSError as error:
                if not failed:
                    complain(f"{error}. Training goes on.")
                failed = True

        return call

    for name in _HOOKS:
        setattr(callback, name, without_failing(getattr(callback, name)))
    return callback
