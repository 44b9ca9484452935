"""What a callback watches in the logs of an epoch."""

from __future__ import annotations

import math
import warnings
from typing import Any


def monitored(monitor: str, logs: dict[str, Any] | None) -> float:
    """The value of that name; where there is none infinity, and a warning says what there is."""
    value = (logs or {}).get(monitor)
    if value is None:
        warnings.warn(
            f"Argument `monitor` is not in the logs of this epoch. Received: monitor={monitor!r};"
            f" the logs have {sorted(logs or {})}",
            stacklevel=3,
        )
        return math.inf
    return value
