"""Special functions of arrays, by torch, so that no extra is needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from moiety.mixtures.logit import Array


def _apply(function: Callable[..., torch.Tensor], values: Array) -> Array:
    return function(torch.from_numpy(np.ascontiguousarray(values, np.float64))).numpy()


def log_gamma(values: Array) -> Array:
    """Give the logarithm of the gamma function.

    >>> log_gamma(np.array([1.0, 5.0])).round(4).tolist()
    [0.0, 3.1781]
    """
    return _apply(torch.lgamma, values)


def digamma(values: Array) -> Array:
    """Give its first derivative."""
    return _apply(torch.digamma, values)


def trigamma(values: Array) -> Array:
    """Give its second derivative."""
    return _apply(lambda tensor: torch.special.polygamma(1, tensor), values)
