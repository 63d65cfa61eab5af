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

from moiety.mixtures.climb import Fit
from moiety.mixtures.em import sum_rows
from moiety.mixtures.em_starts import join_start_features
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.fit import STARTS, RowArrays, Search
from moiety.mixtures.logit import (
    Array,
    assemble_symmetric,
    curvature,
    log_softmax,
    log_sum_exp,
    solve_symmetric,
    weighted_grams,
)
from moiety.mixtures.model import (
    Mixture,
    add_constant,
    centring_matrix,
    map_covariates,
    sort_experts,
    uncentring_matrix,
)
from moiety.mixtures.scale import StandardScale, log_jacobian, rescale_response

SMALLEST_STEP = 2.2e-16
GATE_TOL = 1e-8


@dataclass(frozen=True)
class PublishedFit:
    """A mixture in the rows' units, and the log-likelihood after every step."""

    mixture: Mixture[GaussianExperts]
    trace: tuple[float, ...]


def standardise_unbiased(x: Array) -> tuple[Array, Array, Array]:
    """Standardise covariates by the unbiased spread: rows with the constant, mean, spread."""
    mean, spread = x.mean(0), x.std(0, ddof=1)
    return add_constant((x - mean) / spread), mean, spread


def make_published_start(x: Array, y: Array, labels: Array, parts: int) -> Mixture[GaussianExperts]:
    """Fit each label's rows by least squares, in standardised units; the gate is zero."""
    x_ND = standardise_unbiased(x)[0]
    coef, variances = np.zeros((x_ND.shape[1], parts)), np.zeros(parts)
    for k in range(parts):
        rows = labels == k
        coef[:, k] = np.linalg.lstsq(x_ND[rows], y[rows], rcond=None)[0]
        variances[k] = np.mean((y[rows] - x_ND[rows] @ coef[:, k]) ** 2)
    return Mixture(np.zeros_like(coef), GaussianExperts(coef, variances))


def solve_gate(x_ND: Array, shares_NK: Array, gate: Array) -> Array:
    """Solve the gate by Newton steps, each halved while it loses."""

    def value(weights: Array) -> float:
        return float((shares_NK * log_softmax(x_ND @ weights)).sum())

    free, old = gate.shape[1] - 1, value(gate)
    for _ in range(1000):
        probs = np.exp(log_softmax(x_ND @ gate))[:, :free]
        slope = x_ND.T @ (shares_NK[:, :free] - probs)
        information = assemble_symmetric(weighted_grams(x_ND, curvature(probs)), free)
        step = np.zeros_like(gate)
        step[:, :free] = solve_symmetric(information, slope.T.ravel()).reshape(free, -1).T
        trial = gate + step
        while value(trial) < old and np.abs(step).max() > SMALLEST_STEP:
            step = 0.5 * step
            trial = gate + step
        gate, new = trial, value(trial)
        if abs((new - old) / old) <= GATE_TOL:
            break
        old = new
    return gate


def update_experts_in_turn(
    x_ND: Array, y: Array, shares_NK: Array, old: GaussianExperts
) -> GaussianExperts:
    """Update intercepts with the old slopes, then slopes with the new intercepts."""
    z, mass = x_ND[:, 1:], shares_NK.sum(0)
    first = (shares_NK * (y[:, None] - z @ old.coef[1:])).sum(0) / mass
    right = z.T @ (shares_NK * (y[:, None] - first))
    slopes = [
        solve_symmetric(gram, right[:, k]) for k, gram in enumerate(weighted_grams(z, shares_NK))
    ]
    coef = np.concatenate([first[None], np.stack(slopes, 1)])
    residual = y[:, None] - x_ND @ coef
    return GaussianExperts(coef, (shares_NK * residual**2).sum(0) / mass)


def fit_published(
    x: Array, y: Array, start: Mixture[GaussianExperts], *, tol: float = 1e-6, max_iter: int = 1000
) -> PublishedFit:
    """Fit from a start in standardised units.

    Args:
        x: covariates, [N, d].
        y: responses, [N].
        start: see :func:`start_from_labels`.
        tol: the gain, absolute or relative, at which it stops.
        max_iter: the most steps.
    """
    x_ND, mean, spread = standardise_unbiased(x)
    gate, experts = start.gate, start.experts
    log_gate = log_softmax(x_ND @ gate)
    log_own = experts.log_density(experts.lines(x_ND), y)
    value, trace = float(log_sum_exp(log_gate + log_own).sum()), []
    for _ in range(max_iter):
        shares = np.exp(log_softmax(log_gate + log_own))
        gate = solve_gate(x_ND, shares, gate)
        probs = np.exp(log_softmax(x_ND @ gate))
        log_gate = np.log(np.where(probs < SMALLEST_STEP, probs + SMALLEST_STEP, probs))
        moved = update_experts_in_turn(x_ND, y, shares, experts)
        experts, log_own, new = _search_line(x_ND, y, log_gate, (experts, moved), (1 + tol) * value)
        trace.append(new)
        gain, value = abs(new - value), new
        if gain <= tol or gain <= tol * abs(trace[-2] if len(trace) > 1 else value):
            break
    plain = sort_experts(map_covariates(Mixture(gate, experts), uncentring_matrix(mean, spread)))
    return PublishedFit(plain, tuple(trace))


def _search_line(
    x_ND: Array,
    y: Array,
    log_gate: Array,
    ends: tuple[GaussianExperts, GaussianExperts],
    bar: float,
) -> tuple[GaussianExperts, Array, float]:
    """Go to the second experts, or half the way, or a quarter: the first that passes the bar."""
    old, new = ends
    step = 1.0
    while True:
        experts = GaussianExperts(
            old.coef + step * (new.coef - old.coef),
            old.variances + step * (new.variances - old.variances),
        )
        log_own = experts.log_density(experts.lines(x_ND), y)
        value = float(log_sum_exp(log_gate + log_own).sum())
        if value > bar or step == 0:
            return experts, log_own, value
        step *= 0.5


def solve_published(
    ready: RowArrays,
    scale: StandardScale,
    search: Search,
    rng: np.random.Generator,
    start: Mixture | None,
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
    begins = (
        [_convert_start(start, x, scale)]
        if start is not None
        else _make_starts(ready, plain, search, rng)
    )
    with np.errstate(all="ignore"):
        found = [fit_published(x, plain, one, max_iter=search.max_iter) for one in begins]
    found = [one for one in found if np.isfinite(one.trace[-1])]
    if not found:
        raise FloatingPointError("no start of the published algorithm ends at a finite likelihood")
    best = max(found, key=lambda one: one.trace[-1])
    mixture = rescale_response(best.mixture, -scale.shift / scale.factor, 1 / scale.factor)
    trace = tuple(value + float(weights.sum()) * log_jacobian(scale) for value in best.trace)
    return Fit(mixture, trace, sum_rows(mixture, [ready]), len(best.trace) < search.max_iter)


def _convert_start(start: Mixture, x: Array, scale: StandardScale) -> Mixture:
    """Express a start in the units of the published fit."""
    _, mean, spread = standardise_unbiased(x)
    return map_covariates(
        rescale_response(start, scale.shift, scale.factor), centring_matrix(mean, spread)
    )


def _make_starts(
    ready: RowArrays, plain: Array, search: Search, rng: np.random.Generator
) -> Iterator[Mixture[GaussianExperts]]:
    """Make starts from labels, leaving out those with a label for too few rows to fit."""
    x_ND, y, weights = ready
    joined, least = join_start_features(x_ND, y, 0), x_ND.shape[1] + 1
    for own, make in zip(rng.spawn(search.num_starts), cycle(STARTS[search.start]), strict=False):
        labels = make(joined, weights, search.num_experts, own)
        if np.bincount(labels, minlength=search.num_experts).min() >= least:
            yield make_published_start(x_ND[:, 1:], plain, labels, search.num_experts)
