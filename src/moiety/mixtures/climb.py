"""Climbing: EM from a start to a maximum.

Letters: D columns with the constant, K experts.

Where EM creeps, every step is followed by a leap: from three mixtures in a row the squared
extrapolation of Varadhan and Roland (2008, scheme S3) is tried, and taken where the objective does
not fall. A climb ends only after a plain step that gains nearly nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np

from moiety.mixtures.em import (
    DEFAULT_PRIOR,
    Prior,
    Sums,
    compute_penalised_likelihood,
    make_m_step,
)
from moiety.mixtures.leap import extrapolate
from moiety.mixtures.model import E, Mixture

ROUNDING = 1e-12  # a fall of the objective, relative, that is no fall
FIRST_LENGTH = 4.0  # of leaps, until longer ones are seen to lead upwards
PLAIN_STEPS = 5  # before the first leap: EM's first steps are long, and choose the maximum


@dataclass(frozen=True)
class Fit(Generic[E]):
    """A fitted mixture, the log-likelihoods around every M-step, and the last sums.

    ``before`` counts steps over the same rows that led to the start.
    """

    mixture: Mixture[E]
    trace: tuple[float, ...]
    sums: Sums
    converged: bool
    before: int = 0

    @property
    def steps(self) -> int:
        """Count the steps in all."""
        return self.before + len(self.trace) - 1


def run_em(
    sum_at: Callable[[Mixture[E]], Sums],
    start: Mixture[E],
    *,
    prior: Prior = DEFAULT_PRIOR,
    tol: float = 1e-8,
    max_iter: int = 500,
) -> Fit[E]:
    """Repeat E- and M-steps until a row gains at most ``tol`` per step on average.

    An emptied expert is revived; a climb that then ends lower goes on from where it was left.

    Args:
        sum_at: the pass over all rows; called once per step, and once more per halving and per
            leap that fails.
        start: where to begin.
        prior: ridge and variance floor.
        tol: the least gain in mean penalised log-likelihood that is worth another step.
        max_iter: the most steps, leaps among them.

    Raises:
        FloatingPointError: if the likelihood at the start is not finite.
    """
    at, left, revivals = _check_finite(_evaluate_at(sum_at, start, prior)), None, 3
    trace, converged, longest = [float(at.sums["loglik"])], False, FIRST_LENGTH
    while len(trace) <= max_iter:
        empty = at.sums["mass"].min() < start.gate.shape[0] + 1
        if empty and revivals and start.num_experts > 1:
            revivals -= 1
            left = _pick_better(left, at)
            at = _evaluate_at(sum_at, revive_expert(at.mixture, at.sums), prior)
        before, (at, gain) = at, _make_step(sum_at, at, prior)
        trace.append(float(at.sums["loglik"]))
        if gain <= tol * float(at.sums["rows"]):
            if left is None or left.value <= at.value:
                converged = True
                break
            at, left, revivals = left, None, 0
        elif prior.is_smooth and PLAIN_STEPS < len(trace) < max_iter:  # a step must follow
            leapt, longest = _leap(sum_at, before.mixture, at, prior, longest)
            trace += [float(leapt.sums["loglik"])] * (leapt.value > at.value)
            at = leapt
    ended = _pick_better(left, at)
    trace[-1] = float(ended.sums["loglik"])
    return Fit(ended.mixture, tuple(trace), ended.sums, converged)


@dataclass(frozen=True)
class Iterate(Generic[E]):
    """A mixture, its sums, the penalised log-likelihood there, and where known its M-step."""

    mixture: Mixture[E]
    sums: Sums
    value: float
    moved: Mixture[E] | None = None


def _evaluate_at(
    sum_at: Callable[[Mixture[E]], Sums], mixture: Mixture[E], prior: Prior
) -> Iterate[E]:
    sums = sum_at(mixture)
    return Iterate(mixture, sums, compute_penalised_likelihood(mixture, sums, prior))


def _check_finite(at: Iterate[E]) -> Iterate[E]:
    if not np.isfinite(at.value):
        raise FloatingPointError(f"the log-likelihood at the start is {at.value}")
    return at


def _pick_better(left: Iterate[E] | None, at: Iterate[E]) -> Iterate[E]:
    """Give the best place that a revival left, or the present one if it is as good."""
    return at if left is None or left.value <= at.value else left


def _make_step(
    sum_at: Callable[[Mixture[E]], Sums], at: Iterate[E], prior: Prior
) -> tuple[Iterate[E], float]:
    """Make an M-step, with a shorter one for the gate while the objective falls."""
    moved = at.moved
    for halving in range(8):
        if moved is None:
            moved = make_m_step(at.mixture, at.sums, prior, step_size=0.5**halving)
        trial, moved = _evaluate_at(sum_at, moved, prior), None
        gain = trial.value - at.value
        if gain >= -ROUNDING * abs(at.value):
            return trial, gain
    return at, 0.0


def _leap(
    sum_at: Callable[[Mixture[E]], Sums],
    before: Mixture[E],
    at: Iterate[E],
    prior: Prior,
    longest: float,
) -> tuple[Iterate[E], float]:
    """Try to leap ahead; give where that leads, and how long the next leap may be."""
    moved = make_m_step(at.mixture, at.sums, prior)
    ahead, length = extrapolate((before, at.mixture, moved), longest, prior.floor)
    if length > 1:
        with np.errstate(all="ignore"):
            trial = _evaluate_at(sum_at, ahead, prior)
        if trial.value > at.value:  # never where it is NaN
            return trial, longest * (4.0 if length == longest else 1.0)
        longest = max(FIRST_LENGTH, 0.25 * longest) if length == longest else longest
    return replace(at, moved=moved), longest


def revive_expert(mixture: Mixture[E], sums: Sums) -> Mixture[E]:
    """Replace the emptiest expert by a shifted copy of the one that leaves most unexplained."""
    empty = int(sums["mass"].argmin())
    squares = np.atleast_2d(sums["squares"])[0]  # the others are of spreads
    misfit = np.where(squares > 0, squares, sums["mass"])
    source = int(np.argmax(np.where(np.arange(len(misfit)) == empty, -np.inf, misfit)))
    order = np.arange(mixture.num_experts)
    order[empty] = source
    gate, experts = mixture.gate[:, order], mixture.experts.pick(order)
    shift = np.sqrt(squares[source] / sums["mass"][source]) or 1.0
    experts.coef.reshape(*gate.shape, -1)[0, empty, 0] += shift
    return replace(mixture, gate=gate - gate[:, -1:], experts=experts)
