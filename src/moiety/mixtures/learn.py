"""Fit a mixture to the rows of one machine.

Letters: N rows, d covariates, D = d + 1 columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.em import Fit, Sums, climb, gate_information, tally
from moiety.mixtures.fit import Map, Rows, Search, best_start, draw_starts, fit_rows
from moiety.mixtures.gates import reordered_information
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, canonical_order, centring, reorder
from moiety.mixtures.scale import (
    Moments,
    Scale,
    log_jacobian,
    moments,
    pooled,
    scale_of,
    scaled,
    unscaled,
)
from moiety.mixtures.scene import Local

Read = Callable[[], Iterable[Rows]]
Begin = Callable[[Scale, Rows], Mixture]
Solve = Callable[[Rows, Scale, Search, np.random.Generator, Mixture | None], Fit]
KEPT = 20_000  # rows of a stream on which starts are compared


@dataclass(frozen=True)
class Learned:
    """A mixture in the rows' units, the log-likelihood at every step, and the fit it came from."""

    mixture: Mixture
    rows: float
    trace: tuple[float, ...]
    information: Array
    scale: Scale
    fit: Fit
    seconds: float

    def local(self) -> Local:
        """Give what a machine sends."""
        return Local(self.mixture, self.rows, self.information)


def affordable(num_experts: int, columns: int, classes: int, rows: float) -> int:
    """Give the most experts, up to those asked for, whose parameters do not outnumber the rows."""
    fits = [k for k in range(2, num_experts + 1) if parameters(k, columns, classes) <= rows]
    return max(fits, default=1)


def parameters(num_experts: int, columns: int, classes: int) -> int:
    """Count the parameters of a gate and its experts.

    >>> parameters(3, 3, 0), parameters(2, 3, 3)
    (18, 15)
    """
    each = columns * (classes - 1) if classes else columns + 1
    return columns * (num_experts - 1) + num_experts * each


def learn(
    rows: Rows,
    search: Search,
    rng: np.random.Generator,
    *,
    each: Map = map,
    begin: Begin | None = None,
    solve: Solve | None = None,
) -> Learned:
    """Fit rows ``(x, y, weights)`` in memory; ``begin``, if given, makes the only start.

    ``solve`` is another algorithm than the EM of this package.
    """
    begun = time.perf_counter()
    scale = scale_of(moments(*rows), classes=search.classes)
    ready = (*scaled(scale, rows[0], rows[1]), rows[2])
    start = None if begin is None else begin(scale, ready)
    if solve is not None:
        fit = solve(ready, scale, search, rng, start)
    elif start is None:
        fit = fit_rows(ready, search, rng, each)
    else:
        fit = run(lambda: [ready], start, search)
    return finished(fit, scale, time.perf_counter() - begun)


@dataclass(frozen=True)
class Survey:
    """What one pass tells: moments, and a uniform sample of the rows."""

    found: Moments
    few: Rows


def survey(read: Read, rng: np.random.Generator) -> Survey:
    """Pass over the rows once."""
    found, kept = None, []
    for block in read():
        if len(block[0]):
            part = moments(*block)
            found = part if found is None else pooled(found, part)
            kept = _kept(kept, block, rng)
    if found is None:
        raise ValueError("the shard has no rows; leave it out")
    order = np.argsort(kept[0])
    return Survey(found, (kept[1][order], kept[2][order], kept[3][order]))


def learn_stream(
    read: Read,
    seen: Survey,
    search: Search,
    rng: np.random.Generator,
    *,
    begin: Begin | None = None,
) -> Learned:
    """Fit rows that do not fit in memory, with one pass over them per step."""
    begun = time.perf_counter()
    scale = scale_of(seen.found, classes=search.classes)
    few = ready_rows(scale, seen.few)

    def passes() -> Iterator[Rows]:
        return (ready_rows(scale, block) for block in read())

    start = begin(scale, few) if begin else best_start(few, draw_starts(few, search, rng), search)
    return finished(run(passes, start, search), scale, time.perf_counter() - begun)


def _kept(kept: list[Array], block: Rows, rng: np.random.Generator) -> list[Array]:
    """Keep the rows with the smallest random keys: a uniform sample of all seen so far."""
    fresh = [rng.random(len(block[0])), *block]
    if kept:
        fresh = [np.concatenate(pair) for pair in zip(kept, fresh, strict=True)]
    order = np.argsort(fresh[0])[:KEPT]
    return [values[order] for values in fresh]


def ready_rows(scale: Scale, rows: Rows) -> Rows:
    """Standardise a block."""
    return (*scaled(scale, rows[0], rows[1]), rows[2])


def run(read: Read, start: Mixture, search: Search) -> Fit:
    """Climb from one start, with a pass over all standardised rows per step."""

    def sums(mixture: Mixture) -> Sums:
        return tally(mixture, read())

    return climb(sums, start, prior=search.prior, tol=search.tol, max_iter=search.max_iter)


def finished(fit: Fit, scale: Scale, seconds: float) -> Learned:
    """Express a fit in the rows' units, its experts in canonical order."""
    rows = float(fit.sums["rows"])
    trace = tuple(value - rows * log_jacobian(scale) for value in fit.trace)
    plain = unscaled(fit.mixture, scale)
    order = canonical_order(plain)
    information = _in_units(gate_information(fit.mixture, fit.sums), scale)
    if len(order) > 1:
        information = reordered_information(information, order)
    return Learned(reorder(plain, order), rows, trace, information, scale, fit, seconds)


def _in_units(information: Array, scale: Scale) -> Array:
    """Express a gate's information in the rows' units; a column left out is not known at all."""
    columns = np.concatenate([[True], scale.kept])
    lift = centring(scale.mean, scale.spread) @ np.eye(len(columns))[columns]
    whole = np.kron(np.eye(len(information) // len(lift)), lift)
    return whole.T @ information @ whole


def capped(search: Search, columns: int, rows: float) -> Search:
    """Ask for no more experts than the rows can tell apart."""
    return replace(
        search, num_experts=affordable(search.num_experts, columns, search.classes, rows)
    )
