"""What one worker does with its rows: fit them, and draw those on which experts are compared.

Letters: N rows, d covariates, D = d + 1 columns, S support rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.mixtures.degenerate import Ties, count_effective_rows, count_ties, find_starved
from moiety.mixtures.fit import RowArrays, Search
from moiety.mixtures.learn import (
    Algorithm,
    LearnedMixture,
    MakeStart,
    ReadRows,
    learn_rows,
    learn_stream,
    limit_search,
    survey_rows,
)
from moiety.mixtures.model import Mixture, add_constant
from moiety.mixtures.scale import standardise_mixture

SUPPORT_PER_COLUMN, LEAST_SUPPORT = 50, 2000  # support rows per column, and in all


@dataclass(frozen=True)
class WorkerRows:
    """Rows ``(x, y, weights)`` that are read as often as need be: one block if in memory."""

    read: ReadRows
    in_memory: bool = True


@dataclass(frozen=True)
class FitTask:
    """What every worker is asked: a search, support rows, and maybe a start.

    Args:
        search: starts, when EM stops, and the ridge.
        support: support rows in all; by default so many per column, which may be known to the
            workers alone.
        workers: that share the support.
        start: from which all begin.
        solve: another algorithm than the EM of this package.
        limited: whether a worker of few rows fits fewer experts.
        sends: what support is of: ``"rows"``, ``"normal"`` for draws from a normal with the moments
            of the rows, or ``"nothing"``.
    """

    search: Search
    support: int | None = None
    workers: int = 1
    start: Mixture | None = None
    solve: Algorithm | None = None
    limited: bool = True
    sends: str = "rows"

    def share_support(self, columns: int) -> int:
        """Give the support rows of one worker."""
        wanted = self.support or max(SUPPORT_PER_COLUMN * columns, LEAST_SUPPORT)
        return -(-wanted // self.workers)

    def limit(self, columns: int, rows: float) -> Search:
        """Give the search that these rows bear."""
        return limit_search(self.search, columns, rows) if self.limited else self.search


@dataclass(frozen=True)
class WorkerFit:
    """A fit, support rows, and how many rows of which weight there were, as they came.

    ``ties`` say on what experts collapsed, and ``starved`` [K] which rest on fewer rows than they
    have parameters; of a file, in a sample of its rows.
    """

    learned: LearnedMixture
    support: RowArrays
    count: float
    weight: float
    ties: tuple[Ties, ...]
    starved: np.ndarray


def compute_weight_factor(rows: float, weight: float) -> float:
    """Give what weights are multiplied by, so that they count at least the rows.

    Weights of a larger sum say that rows stand for several and stay as they are.

    >>> compute_weight_factor(10, 1.0), compute_weight_factor(10, 20.0)
    (10.0, 1.0)
    """
    return max(1.0, rows / weight)


def drop_zero_weights(rows: RowArrays) -> RowArrays:
    """Leave out rows of weight zero."""
    held = rows[2] > 0
    if not held.any():
        raise ValueError("all sample weights are zero; give some rows a positive weight")
    x, y, weights = rows if held.all() else tuple(part[held] for part in rows)
    return x, y, weights


def lift_weights(rows: RowArrays) -> tuple[RowArrays, float]:
    """Let the weights count at least the rows, and give what they were multiplied by."""
    x, y, weights = rows
    factor = compute_weight_factor(len(weights), weights.sum())
    return (x, y, weights * factor), factor


def fit_worker(rows: WorkerRows, task: FitTask, rng: np.random.Generator) -> WorkerFit:
    """Fit one worker's rows, and draw its share of the support.

    Raises:
        ValueError: if the start has other columns, or an algorithm that holds all rows is asked to
            read them in pieces.
    """
    if rows.in_memory:
        return _fit_in_memory(next(iter(rows.read())), task, rng)
    if task.solve is not None:
        raise ValueError(
            "algorithm='published' holds all rows; give arrays or frames, not files, or "
            "choose algorithm='em'"
        )
    found = survey_rows(rows.read, rng)
    columns = found.few[0].shape[1] + 1
    search, begin = task.limit(columns, found.found.rows), _make_begin(task.start, columns)
    learned = learn_stream(rows.read, found, search, rng, begin=begin)
    if task.sends == "rows":
        taken = np.arange(min(task.share_support(columns), len(found.few[0])))
        support = take_rows(found.few, taken)
    else:
        support = draw_support(found.few, task, rng)
    told = diagnose_fit(learned, found.few)
    return WorkerFit(learned, support, learned.rows, learned.rows, *told)


def _fit_in_memory(rows: RowArrays, task: FitTask, rng: np.random.Generator) -> WorkerFit:
    """Fit rows in memory, their weights lifted to their number."""
    count, weight = float(len(rows[0])), float(rows[2].sum())
    rows, _ = lift_weights(rows)
    columns = rows[0].shape[1] + 1
    search, begin = task.limit(columns, rows[2].sum()), _make_begin(task.start, columns)
    learned = learn_rows(rows, search, rng, begin=begin, solve=task.solve)
    if task.sends == "rows":
        size = min(task.share_support(columns), len(rows[0]))
        support = take_rows(rows, rng.choice(len(rows[0]), size, replace=False))
    else:
        support = draw_support(rows, task, rng)
    return WorkerFit(learned, support, count, weight, *diagnose_fit(learned, rows))


def diagnose_fit(learned: LearnedMixture, rows: RowArrays) -> tuple[tuple[Ties, ...], np.ndarray]:
    """Say on what experts collapsed, and which rest on fewer rows than they have parameters."""
    mixture, x_ND, y = learned.mixture, add_constant(rows[0]), rows[1]
    effective = count_effective_rows(mixture, x_ND, y)
    starved = find_starved(mixture, learned.mass, effective)
    return count_ties(mixture, x_ND, y, learned.floored), starved


def draw_support(rows: RowArrays, task: FitTask, rng: np.random.Generator) -> RowArrays:
    """Draw support from a normal with the rows' means and covariances, or give none of it."""
    x, _, weights = rows
    size = task.share_support(x.shape[1] + 1) if task.sends == "normal" else 0
    mean = np.average(x, axis=0, weights=weights)
    centred = (x - mean) * np.sqrt(weights / weights.sum())[:, None]
    root = np.linalg.qr(centred, mode="r")  # root' root is the covariance, singular or not
    drawn = mean + rng.standard_normal((size, len(root))) @ root
    return drawn, np.zeros(size), np.ones(size)


def take_rows(rows: RowArrays, taken: np.ndarray) -> RowArrays:
    """Take rows by position."""
    return rows[0][taken], rows[1][taken], rows[2][taken]


def _make_begin(start: Mixture | None, columns: int) -> MakeStart | None:
    """Give what makes the only start, where there is one."""
    if start is None:
        return None
    if start.gate.shape[0] != columns:
        raise ValueError(
            f"init has {start.gate.shape[0] - 1} covariates, but a shard has {columns - 1}; "
            "start from a mixture of the same columns"
        )
    return lambda scale, _: standardise_mixture(start, scale)
