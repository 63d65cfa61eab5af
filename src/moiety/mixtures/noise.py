"""A component of rows that follow no expert.

Letters: N rows, K experts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.logit import Array

FIRST_SHARE = 0.05  # of rows that follow no expert, where EM begins


@dataclass(frozen=True)
class Noise:
    """Responses anywhere in a range, evenly, whatever the covariates.

    Args:
        low: the least response.
        high: the largest.
        share: of rows.
        whole: responses are whole numbers.
    """

    low: float
    high: float
    share: float = FIRST_SHARE
    whole: bool = False

    def log_density(self, y: Array) -> Array:
        """Give the log density; nothing is outside the range."""
        inside = (y >= self.low) & (y <= self.high)
        return np.where(inside, -np.log(self.high - self.low + self.whole), -np.inf)

    def rescale(self, shift: float, factor: float) -> Noise:
        """Give the noise of ``shift + factor * y``."""
        return replace(self, low=shift + factor * self.low, high=shift + factor * self.high)

    def mean(self) -> float:
        """Give the mean."""
        return 0.5 * (self.low + self.high)

    def variance(self) -> float:
        """Give the variance."""
        width = self.high - self.low
        return ((width + 1) ** 2 - 1) / 12 if self.whole else width**2 / 12

    def cdf(self, y: Array) -> Array:
        """Give the chance of at most y."""
        place = np.floor(y) + 1 if self.whole else y
        return np.clip((place - self.low) / (self.high - self.low + self.whole), 0.0, 1.0)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw responses."""
        drawn = rng.uniform(self.low, self.high + self.whole, shape)
        return np.floor(drawn) if self.whole else drawn


def admit_noise(joint_NK: Array, value_N: Array, noise: Noise, y: Array) -> tuple[Array, Array]:
    """Give log joint densities of the experts' share, [N, K], and log densities of all, [N].

    Args:
        joint_NK: log densities without noise.
        value_N: their sums, as logarithms.
        noise: whose share is taken off.
        y: responses, [N].
    """
    with np.errstate(divide="ignore"):
        less, own = np.log1p(-noise.share), np.log(noise.share) + noise.log_density(y)
    return joint_NK + less, np.logaddexp(value_N + less, own)
