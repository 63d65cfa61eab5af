"""Options that are numbers."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np


def check_whole_number(options: Any, name: str, least: int) -> None:
    """Refuse an option that is no whole number, or too small."""
    value = getattr(options, name)
    if not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def check_amount(options: Any, name: str) -> None:
    """Refuse an option that is no finite number of at least 0."""
    value = getattr(options, name)
    if not isinstance(value, Real) or not np.isfinite(float(value)) or float(value) < 0:
        raise ValueError(f"{name}={value!r} must be a finite number of at least 0")
