"""Laws whose link is the canonical one and that have no spread beside their line."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from moiety.mixtures.experts import StepOptions
from moiety.mixtures.law import Derivatives, hold_line
from moiety.mixtures.logit import Array


class CanonicalLaw(ABC):
    """Exponential families of one parameter: mean and variance say all that EM asks of spreads."""

    @abstractmethod
    def mean(self, lines: Array, spreads: Array, /) -> Array:
        """Give the mean."""

    @abstractmethod
    def variance(self, lines: Array, spreads: Array, /) -> Array:
        """Give the variance."""

    def begin(self, variance_K: Array, /) -> Array:
        return np.zeros((0, len(variance_K)))

    def hold(self, lines: Array, /) -> Array:
        return hold_line(lines)

    def move(self, spreads: Array, sums: Array, change_K: Array, options: StepOptions, /) -> Array:
        return spreads

    def hold_spreads(self, spreads: Array, floor: float, /) -> Array:
        return spreads

    def soften(self, spreads: Array, /) -> Array:
        return spreads

    def is_floored(self, spreads: Array, floor: float, /) -> Array:
        return np.zeros(spreads.shape[1], bool)

    def differentiate(self, lines: Array, y: Array, spreads: Array, /) -> Derivatives:
        none = np.zeros((0, *np.broadcast_shapes(lines.shape, y.shape)))
        gap = y - self.mean(lines, spreads)
        return Derivatives(gap, self.variance(lines, spreads), none, none, none[None])
