"""Where the transport begins.

Letters: L local experts, M mixtures, K reduced experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moiety.mixtures.align import align_mixtures, average_mixture_parameters
from moiety.mixtures.em_starts import run_lloyd
from moiety.mixtures.logit import Array
from moiety.mixtures.model import E, Mixture
from moiety.mixtures.transport import TransportProblem


def choose_spread_experts(problem: TransportProblem[E], size: int, rng: np.random.Generator) -> E:
    """Take local experts far apart by k-means++ on the coefficients, then by Lloyd's steps."""
    coef = np.moveaxis(problem.experts.coef, 1, 0)
    points, mass = coef.reshape(len(coef), -1), problem.mass.sum(0)
    chosen = [int(rng.choice(len(points), p=mass / mass.sum()))]
    while len(chosen) < size:
        far = ((points[:, None] - points[chosen]) ** 2).sum(-1).min(1) * mass
        chance = far / far.sum() if far.sum() > 0 else mass / mass.sum()
        chosen.append(int(rng.choice(len(points), p=chance)))
    labels = ((points[:, None] - points[chosen]) ** 2).sum(-1).argmin(1)
    labels = run_lloyd(points, mass, labels, size, 20)
    picked = [_find_central(points, mass, labels == k, first) for k, first in enumerate(chosen)]
    return problem.experts.pick(np.array(picked))


def _find_central(points: Array, mass: Array, members: Array, fallback: int) -> int:
    """Give the member nearest to the members' mean."""
    if not members.any():
        return fallback
    centre = np.average(points[members], axis=0, weights=mass[members] + 1e-300)
    far = ((points[members] - centre) ** 2).sum(1)
    return int(np.flatnonzero(members)[far.argmin()])


def start_like_mixture(
    problem: TransportProblem[E],
    mixtures: Sequence[Mixture[E]],
    weights_M: Array,
    pattern: Mixture[E],
) -> list[E]:
    """Start at one of the mixtures, and at the average of those aligned with it."""
    x_SD, size = problem.x, pattern.num_experts
    u_S = problem.mass.sum(1)
    alike = [m.num_experts == size for m in mixtures]
    chosen = [m for m, use in zip(mixtures, alike, strict=True) if use]
    ordered = align_mixtures(x_SD, u_S, chosen, pattern.experts, problem.cost)
    return [
        pattern.experts,
        average_mixture_parameters(ordered, weights_M[np.array(alike)]).experts,
    ]
