"""Covariates that are no data, on which experts can be compared.

Letters: S rows, d covariates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moiety.estimators.base import make_numpy_generator
from moiety.mixtures.logit import Array


def draw_covariates(low: Any, high: Any, rows: int = 2000, *, random_state: Any = None) -> Array:
    """Draw covariates evenly from stated ranges, [S, d].

    They say nothing of any row. Where few rows of the fits lie, experts are compared too, so that
    ranges should be those in which most rows are.

    Args:
        low: the least value of each covariate, [d].
        high: the largest, [d].
        rows: S.
        random_state: seed.

    >>> draw_covariates([0, -1], [1, 1], 4, random_state=0).shape
    (4, 2)
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if low.ndim != 1 or low.shape != high.shape or not (low < high).all():
        raise ValueError(f"{low=} and {high=} are no ranges; give each covariate low < high")
    return make_numpy_generator(random_state).uniform(low, high, (rows, len(low)))
