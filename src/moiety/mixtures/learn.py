"""Fit a mixture to the rows of one machine.

Letters: N rows, d covariates, D = d + 1 columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.climb import Fit, run_em
from moiety.mixtures.degenerate import find_floored, measure_robust_variance
from moiety.mixtures.em import Prior, Sums, assemble_gate_information, sum_rows
from moiety.mixtures.fit import MapStarts, RowArrays, Search, choose_start, draw_starts, fit_rows
from moiety.mixtures.gates import reorder_information
from moiety.mixtures.inputs import LocalFit
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, centring_matrix, find_canonical_order, reorder_experts
from moiety.mixtures.scale import (
    Moments,
    StandardScale,
    compute_moments,
    log_jacobian,
    make_standard_scale,
    pool_moments,
    restore_units,
    standardise_pair,
)

ReadRows = Callable[[], Iterable[RowArrays]]
MakeStart = Callable[[StandardScale, RowArrays], Mixture]
Algorithm = Callable[[RowArrays, StandardScale, Search, np.random.Generator, Mixture | None], Fit]
SAMPLED_ROWS = 20_000  # rows of a stream on which starts are compared


@dataclass(frozen=True)
class LearnedMixture:
    """A mixture in the rows' units, the log-likelihood at every step, and the fit it came from.

    ``floored`` tells which experts rest on the least variance, ``mass`` how many rows each owns.
    """

    mixture: Mixture
    rows: float
    trace: tuple[float, ...]
    information: Array
    scale: StandardScale
    fit: Fit
    seconds: float
    floored: Array
    mass: Array

    def local(self) -> LocalFit:
        """Give what a machine sends."""
        return LocalFit(self.mixture, self.rows, self.information)


def limit_experts(num_experts: int, columns: int, classes: int, rows: float) -> int:
    """Give the most experts, up to those asked for, whose parameters do not outnumber the rows."""
    fits = [
        k for k in range(2, num_experts + 1) if count_needed_parameters(k, columns, classes) <= rows
    ]
    return max(fits, default=1)


def count_needed_parameters(num_experts: int, columns: int, classes: int) -> int:
    """Count the parameters of a gate and its experts.

    >>> count_needed_parameters(3, 3, 0), count_needed_parameters(2, 3, 3)
    (18, 15)
    """
    each = columns * (classes - 1) if classes else columns + 1
    return columns * (num_experts - 1) + num_experts * each


def learn_rows(
    rows: RowArrays,
    search: Search,
    rng: np.random.Generator,
    *,
    each: MapStarts = map,
    begin: MakeStart | None = None,
    solve: Algorithm | None = None,
) -> LearnedMixture:
    """Fit rows ``(x, y, weights)`` in memory; ``begin``, if given, makes the only start.

    ``solve`` is another algorithm than the EM of this package.
    """
    begun = time.perf_counter()
    scale = make_standard_scale(compute_moments(*rows), classes=int(search.fixed_units))
    ready = (*standardise_pair(scale, rows[0], rows[1]), rows[2])
    search = _express_search(search, scale, ready)
    start = None if begin is None else search.admit(begin(scale, ready))
    if solve is not None:
        fit = solve(ready, scale, search, rng, start)
    elif start is None:
        fit = fit_rows(ready, search, rng, each)
    else:
        fit = run_em_by_pass(lambda: [ready], start, search)
    return finish_fit(fit, scale, search.prior, time.perf_counter() - begun)


@dataclass(frozen=True)
class Survey:
    """What one pass tells: moments, and a uniform sample of the rows."""

    found: Moments
    few: RowArrays


def survey_rows(read: ReadRows, rng: np.random.Generator) -> Survey:
    """Pass over the rows once."""
    found, kept = None, []
    for block in read():
        if len(block[0]):
            part = compute_moments(*block)
            found = part if found is None else pool_moments(found, part)
            kept = _keep_sample(kept, block, rng)
    if found is None:
        raise ValueError("the shard has no rows; leave it out")
    order = np.argsort(kept[0])
    return Survey(found, (kept[1][order], kept[2][order], kept[3][order]))


def learn_stream(
    read: ReadRows,
    seen: Survey,
    search: Search,
    rng: np.random.Generator,
    *,
    begin: MakeStart | None = None,
) -> LearnedMixture:
    """Fit rows that do not fit in memory, with one pass over them per step."""
    begun = time.perf_counter()
    scale = make_standard_scale(seen.found, classes=int(search.fixed_units))
    few = standardise_rows(scale, seen.few)
    search = _express_search(search, scale, few)

    def passes() -> Iterator[RowArrays]:
        return (standardise_rows(scale, block) for block in read())

    if begin:
        start = search.admit(begin(scale, few))
    else:
        start = choose_start(few, draw_starts(few, search, rng), search).mixture
    fit = run_em_by_pass(passes, start, search)
    return finish_fit(fit, scale, search.prior, time.perf_counter() - begun)


def _express_search(search: Search, scale: StandardScale, rows: RowArrays) -> Search:
    """Express columns and noise in standardised units, and the least variance.

    That is measured by a robust spread: one wild response must not raise it. Of counts there is
    none. Responses that the law cannot give are refused.
    """
    if search.law is not None:
        search.law.check(rows[1])
    fixed = search.prior.free.fixed
    if fixed is not None and np.array(fixed)[1:][~scale.kept].any():
        raise ValueError("the offset is the same for all rows of a shard; leave it out")
    search = replace(search, prior=replace(search.prior, free=search.prior.free.express(scale)))
    if search.fixed_units:
        return search
    if search.noise is not None:
        noise = search.noise.rescale(-scale.shift / scale.factor, 1 / scale.factor)
        search = replace(search, noise=noise)
    robust = measure_robust_variance(rows[1], rows[2])
    return replace(search, prior=replace(search.prior, floor=search.prior.floor * (robust or 1.0)))


def _keep_sample(kept: list[Array], block: RowArrays, rng: np.random.Generator) -> list[Array]:
    """Keep the rows with the smallest random keys: a uniform sample of all seen so far."""
    fresh = [rng.random(len(block[0])), *block]
    if kept:
        fresh = [np.concatenate(pair) for pair in zip(kept, fresh, strict=True)]
    order = np.argsort(fresh[0])[:SAMPLED_ROWS]
    return [values[order] for values in fresh]


def standardise_rows(scale: StandardScale, rows: RowArrays) -> RowArrays:
    """Standardise a block."""
    return (*standardise_pair(scale, rows[0], rows[1]), rows[2])


def run_em_by_pass(read: ReadRows, start: Mixture, search: Search) -> Fit:
    """Climb from one start, with a pass over all standardised rows per step."""

    def sums(mixture: Mixture) -> Sums:
        return sum_rows(mixture, read())

    return run_em(sums, start, prior=search.prior, tol=search.tol, max_iter=search.max_iter)


def finish_fit(fit: Fit, scale: StandardScale, prior: Prior, seconds: float) -> LearnedMixture:
    """Express a fit in the rows' units, its experts in canonical order."""
    floored = find_floored(fit.mixture.experts, prior.floor)
    rows = float(fit.sums["rows"])
    trace = tuple(value - rows * log_jacobian(scale) for value in fit.trace)
    plain = restore_units(fit.mixture, scale)
    order = find_canonical_order(plain)
    information = _convert_information(assemble_gate_information(fit.mixture, fit.sums), scale)
    if len(order) > 1:
        information = reorder_information(information, order)
    mass = np.asarray(fit.sums["mass"])
    return LearnedMixture(
        reorder_experts(plain, order),
        rows,
        trace,
        information,
        scale,
        fit,
        seconds,
        floored[order],
        mass[order],
    )


def _convert_information(information: Array, scale: StandardScale) -> Array:
    """Express a gate's information in the rows' units; a column left out is not known at all."""
    columns = np.concatenate([[True], scale.kept])
    lift = centring_matrix(scale.mean, scale.spread) @ np.eye(len(columns))[columns]
    whole = np.kron(np.eye(len(information) // len(lift)), lift)
    return whole.T @ information @ whole


def limit_search(search: Search, columns: int, rows: float) -> Search:
    """Ask for no more experts than the rows can tell apart."""
    return replace(
        search, num_experts=limit_experts(search.num_experts, columns, search.classes, rows)
    )
