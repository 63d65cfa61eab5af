"""The option of rows that follow no expert."""

from __future__ import annotations

from typing import Any

import numpy as np

from moiety.mixtures.logit import Array
from moiety.mixtures.noise import Noise


def choose_noise(noise: Any, y: Array, *, whole: bool) -> Noise | None:
    """Give the noise that an option asks for.

    Args:
        noise: None, ``"range"`` for the range of y, or a least and a largest response.
        y: responses, [N].
        whole: whether they are whole numbers.
    """
    if noise is None:
        return None
    if isinstance(noise, str) and noise == "range":
        low, high = float(y.min()), float(y.max())
    else:
        try:
            low, high = (float(end) for end in noise)
        except (TypeError, ValueError):
            raise ValueError(f"{noise=} is not known; give None, 'range', or (low, high)") from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"noise has the range {low} to {high}; give finite numbers, low < high")
    return Noise(low, high, whole=whole)
