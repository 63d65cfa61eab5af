"""Extrapolation of EM's steps.

Letters: D columns with the constant, K experts.

References:
    Varadhan and Roland (2008), Scandinavian Journal of Statistics 35: the scheme S3 of SQUAREM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moiety.mixtures.logit import Array
from moiety.mixtures.model import E, Mixture

LEAST = 1e-300  # of the turn of a path that is straight
LEAST_SHARE = 1e-9  # of noise, that has log-odds


def extrapolate(
    places: Sequence[Mixture[E]], longest: float, floor: float
) -> tuple[Mixture[E], float]:
    """Leap ahead of three mixtures, each a step of EM from the one before.

    Args:
        places: the three.
        longest: the most steps, roughly, that a leap is worth.
        floor: the least variance.

    Returns:
        The mixture, and the length of the leap; 1 where it is the third of the three.
    """
    first, second, third = (pack_mixture(place) for place in places)
    step, bend = second - first, third - 2 * second + first
    turn = float(np.sqrt(bend @ bend))
    length = min(max(float(np.sqrt(step @ step)) / max(turn, LEAST), 1.0), longest)
    ahead = first + 2 * length * step + length**2 * bend
    return unpack_mixture(places[-1], ahead, floor), length


def pack_mixture(mixture: Mixture) -> Array:
    """Lay out what is free in one vector; shares of noise as log-odds."""
    parts = [mixture.gate[:, :-1].ravel(), mixture.experts.pack()]
    if mixture.noise is not None:
        share = min(max(mixture.noise.share, LEAST_SHARE), 1 - LEAST_SHARE)
        parts.append(np.log([share / (1 - share)]))
    return np.concatenate(parts)


def unpack_mixture(like: Mixture[E], values: Array, floor: float) -> Mixture[E]:
    """Give the mixture of a vector; spreads stay near those of another, and at least at a floor."""
    gate, noise = like.gate.copy(), like.noise
    free = gate[:, :-1].size
    gate[:, :-1] = values[:free].reshape(len(gate), -1)
    if noise is not None:
        noise = replace(noise, share=float(1 / (1 + np.exp(-values[-1]))))
        values = values[:-1]
    return Mixture(gate, like.experts.unpack(values[free:], floor), noise)
