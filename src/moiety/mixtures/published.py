"""The fit of Gaussian experts as the authors' code makes it, for comparison.

It differs from :mod:`moiety.mixtures.em` in four ways: the gate is solved to the end in every
step; intercepts are updated with the old slopes and slopes with the new intercepts; a line search
follows on the experts alone; and it stops at a relative gain of 1e-6.

Letters: N rows, D columns with the constant, K experts, J = K - 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from moiety.mixtures.em import Fit, tally
from moiety.mixtures.experts import Gaussian
from moiety.mixtures.fit import STARTS, Rows, Search
from moiety.mixtures.logit import (
    Array,
    assemble,
    curvature,
    log_softmax,
    log_sum,
    solve,
    weighted_grams,
)
from moiety.mixtures.model import Mixture, canonical, centring, design, mapped, uncentring
from moiety.mixtures.scale import Scale, log_jacobian, stretched
from moiety.mixtures.start import features

SMALL = 2.2e-16
IRLS = 1e-8


@dataclass(frozen=True)
class Published:
    """A mixture in the rows' units, and the log-likelihood after every step."""

    mixture: Mixture[Gaussian]
    trace: tuple[float, ...]


def standardised(x: Array) -> tuple[Array, Array, Array]:
    """Standardise covariates by the unbiased spread: rows with the constant, mean, spread."""
    mean, spread = x.mean(0), x.std(0, ddof=1)
    return design((x - mean) / spread), mean, spread


def start_from_labels(x: Array, y: Array, labels: Array, parts: int) -> Mixture[Gaussian]:
    """Fit each label's rows by least squares, in standardised units; the gate is zero."""
    x_ND = standardised(x)[0]
    coef, variances = np.zeros((x_ND.shape[1], parts)), np.zeros(parts)
    for k in range(parts):
        rows = labels == k
        coef[:, k] = np.linalg.lstsq(x_ND[rows], y[rows], rcond=None)[0]
        variances[k] = np.mean((y[rows] - x_ND[rows] @ coef[:, k]) ** 2)
    return Mixture(np.zeros_like(coef), Gaussian(coef, variances))


def gate_to_the_end(x_ND: Array, shares_NK: Array, gate: Array) -> Array:
    """Solve the gate by Newton steps, each halved while it loses."""

    def value(weights: Array) -> float:
        return float((shares_NK * log_softmax(x_ND @ weights)).sum())

    free, old = gate.shape[1] - 1, value(gate)
    for _ in range(1000):
        probs = np.exp(log_softmax(x_ND @ gate))[:, :free]
        slope = x_ND.T @ (shares_NK[:, :free] - probs)
        information = assemble(weighted_grams(x_ND, curvature(probs)), free)
        step = np.zeros_like(gate)
        step[:, :free] = solve(information, slope.T.ravel()).reshape(free, -1).T
        trial = gate + step
        while value(trial) < old and np.abs(step).max() > SMALL:
            step = 0.5 * step
            trial = gate + step
        gate, new = trial, value(trial)
        if abs((new - old) / old) <= IRLS:
            break
        old = new
    return gate


def experts_in_two(x_ND: Array, y: Array, shares_NK: Array, old: Gaussian) -> Gaussian:
    """Update intercepts with the old slopes, then slopes with the new intercepts."""
    z, mass = x_ND[:, 1:], shares_NK.sum(0)
    first = (shares_NK * (y[:, None] - z @ old.coef[1:])).sum(0) / mass
    right = z.T @ (shares_NK * (y[:, None] - first))
    slopes = [solve(gram, right[:, k]) for k, gram in enumerate(weighted_grams(z, shares_NK))]
    coef = np.concatenate([first[None], np.stack(slopes, 1)])
    residual = y[:, None] - x_ND @ coef
    return Gaussian(coef, (shares_NK * residual**2).sum(0) / mass)


def fit_published(
    x: Array, y: Array, start: Mixture[Gaussian], *, tol: float = 1e-6, max_iter: int = 1000
) -> Published:
    """Fit from a start in standardised units.

    Args:
        x: covariates, [N, d].
        y: responses, [N].
        start: see :func:`start_from_labels`.
        tol: the gain, absolute or relative, at which it stops.
        max_iter: the most steps.
    """
    x_ND, mean, spread = standardised(x)
    gate, experts = start.gate, start.experts
    log_gate = log_softmax(x_ND @ gate)
    log_own = experts.log_density(experts.lines(x_ND), y)
    value, trace = float(log_sum(log_gate + log_own).sum()), []
    for _ in range(max_iter):
        shares = np.exp(log_softmax(log_gate + log_own))
        gate = gate_to_the_end(x_ND, shares, gate)
        probs = np.exp(log_softmax(x_ND @ gate))
        log_gate = np.log(np.where(probs < SMALL, probs + SMALL, probs))
        moved = experts_in_two(x_ND, y, shares, experts)
        experts, log_own, new = _searched(x_ND, y, log_gate, (experts, moved), (1 + tol) * value)
        trace.append(new)
        gain, value = abs(new - value), new
        if gain <= tol or gain <= tol * abs(trace[-2] if len(trace) > 1 else value):
            break
    plain = canonical(mapped(Mixture(gate, experts), uncentring(mean, spread)))
    return Published(plain, tuple(trace))


def _searched(
    x_ND: Array, y: Array, log_gate: Array, ends: tuple[Gaussian, Gaussian], bar: float
) -> tuple[Gaussian, Array, float]:
    """Go to the second experts, or half the way, or a quarter: the first that passes the bar."""
    old, new = ends
    step = 1.0
    while True:
        experts = Gaussian(
            old.coef + step * (new.coef - old.coef),
            old.variances + step * (new.variances - old.variances),
        )
        log_own = experts.log_density(experts.lines(x_ND), y)
        value = float(log_sum(log_gate + log_own).sum())
        if value > bar or step == 0:
            return experts, log_own, value
        step *= 0.5


def solve_published(
    ready: Rows, scale: Scale, search: Search, rng: np.random.Generator, start: Mixture | None
) -> Fit:
    """Fit standardised rows as the authors' code does, from one start or the best of several.

    The response is put back in its own units, since the published stopping rule depends on them;
    ``tol``, ridge and variance floor of the search have no part in it.

    Raises:
        ValueError: where the weights differ.
        FloatingPointError: if no start ends at a finite likelihood.
    """
    x_ND, y, weights = ready
    if np.ptp(weights) > 1e-12 * weights.max():
        raise ValueError("algorithm='published' knows no weights; choose algorithm='em'")
    x, plain = x_ND[:, 1:], scale.shift + scale.factor * y
    begins = [_at(start, x, scale)] if start is not None else _starts(ready, plain, search, rng)
    with np.errstate(all="ignore"):
        found = [fit_published(x, plain, one, max_iter=search.max_iter) for one in begins]
    found = [one for one in found if np.isfinite(one.trace[-1])]
    if not found:
        raise FloatingPointError("no start of the published algorithm ends at a finite likelihood")
    best = max(found, key=lambda one: one.trace[-1])
    mixture = stretched(best.mixture, -scale.shift / scale.factor, 1 / scale.factor)
    trace = tuple(value + float(weights.sum()) * log_jacobian(scale) for value in best.trace)
    return Fit(mixture, trace, tally(mixture, [ready]), len(best.trace) < search.max_iter)


def _at(start: Mixture, x: Array, scale: Scale) -> Mixture:
    """Express a start in the units of the published fit."""
    _, mean, spread = standardised(x)
    return mapped(stretched(start, scale.shift, scale.factor), centring(mean, spread))


def _starts(
    ready: Rows, plain: Array, search: Search, rng: np.random.Generator
) -> Iterator[Mixture[Gaussian]]:
    """Make starts from labels, leaving out those with a label for too few rows to fit."""
    x_ND, y, weights = ready
    joined, least = features(x_ND, y, 0), x_ND.shape[1] + 1
    for own, make in zip(rng.spawn(search.num_starts), cycle(STARTS[search.start]), strict=False):
        labels = make(joined, weights, search.num_experts, own)
        if np.bincount(labels, minlength=search.num_experts).min() >= least:
            yield start_from_labels(x_ND[:, 1:], plain, labels, search.num_experts)
