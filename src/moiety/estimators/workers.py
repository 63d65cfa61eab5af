"""What one machine does with its shard.

Letters: N rows, d covariates, D = d + 1 columns, K experts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moiety.estimators.opening import Columns, Lazy, present
from moiety.estimators.shards import Raw, Shard, lift
from moiety.mixtures.em import Sums, tally
from moiety.mixtures.fit import Rows, Search
from moiety.mixtures.learn import Learned, Solve, capped, learn, learn_stream, ready_rows, survey
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture
from moiety.mixtures.scale import Scale, rescaled
from moiety.mixtures.scene import Local

PER_COLUMN, LEAST = 50, 2000  # support rows per column, and in all


@dataclass(frozen=True)
class Task:
    """What every machine is asked: a search, the classes, support rows, and maybe a start.

    ``support`` rows are asked for in all; where it is None their number follows the columns, which
    may be known to the machines alone.
    """

    search: Search
    classes: Any = None
    support: int | None = None
    with_y: bool = False
    start: Mixture | None = None
    machines: int = 1
    solve: Solve | None = None

    def share(self, columns: int) -> int:
        """Give the support rows of one machine."""
        wanted = self.support or max(PER_COLUMN * columns, LEAST)
        return -(-wanted // self.machines)


@dataclass(frozen=True)
class Sent:
    """One machine's answer; ``count`` rows of ``weight`` in all, as they came."""

    local: Local
    support: Rows
    with_y: bool
    count: float
    weight: float
    log_likelihood: float
    iterations: int
    converged: bool
    constant: Array
    columns: Columns
    seconds: float
    cpu_s: float

    @property
    def sent_bytes(self) -> int:
        """Count the bytes of parameters, gate information, rows and log-likelihood."""
        experts = self.local.mixture.experts
        known = 0 if self.local.information is None else len(self.local.information)
        gate = self.local.mixture.gate[:, :-1].size
        return 8 * (gate + experts.size() + known * (known + 1) // 2 + 3)

    @property
    def support_bytes(self) -> int:
        """Count the bytes of support rows."""
        return 8 * (self.support[0].size + len(self.support[0]) * self.with_y)

    def weighing(self, factor: float) -> Sent:
        """Give what would have been sent if the weights had been multiplied by a factor."""
        ratio = factor * self.weight / self.local.rows
        known = self.local.information
        local = replace(
            self.local,
            rows=ratio * self.local.rows,
            information=None if known is None else ratio * known,
        )
        return replace(self, local=local, log_likelihood=ratio * self.log_likelihood)


def encoded(classes: Any, block: Raw) -> Rows:
    """Turn class names into indices, and leave out rows of weight zero."""
    x, y, weights = block
    if classes is not None:
        places = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
        strange = y[classes[places] != y]
        if len(strange):
            raise ValueError(
                f"class {strange[0]} is not among {classes.tolist()}; name all classes"
            )
        y = places
    elif y.dtype.kind not in "iufb":
        y = numbers(y)
    held = weights > 0
    if not held.all():
        x, y, weights = x[held], y[held], weights[held]
    return x, y.astype(np.float64), weights


def numbers(y: Array) -> Array:
    """Make numbers of responses that are stored as something else."""
    try:
        return y.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"responses such as {y[0]!r} are no numbers; choose the distributed classifier"
        ) from None


def fit_shard(source: Shard | Lazy, task: Task, rng: np.random.Generator) -> Sent:
    """Fit one machine's rows, and draw its share of the support."""
    begun = time.perf_counter(), time.thread_time()
    shard = present(source)

    def blocks() -> Iterator[Rows]:
        return (encoded(task.classes, block) for block in shard.blocks())

    if shard.in_memory:
        learned, seen, came = _at_once(next(blocks()), task, rng)
        size = min(task.share(seen[0].shape[1] + 1), len(seen[0]))
        taken = rng.choice(len(seen[0]), size, replace=False)
    else:
        if task.solve is not None:
            raise ValueError(
                "algorithm='published' holds all rows; give arrays or frames, not files, or "
                "choose algorithm='em'"
            )
        found = survey(blocks, rng)
        search = capped(task.search, found.few[0].shape[1] + 1, found.found.rows)
        begin = _begin(task, found.few[0].shape[1])
        learned = learn_stream(blocks, found, search, rng, begin=begin)
        seen, came = found.few, (learned.rows, learned.rows)
        taken = np.arange(min(task.share(seen[0].shape[1] + 1), len(seen[0])))
    support = (seen[0][taken], seen[1][taken], seen[2][taken])
    return Sent(
        learned.local(),
        support,
        task.with_y,
        *came,
        learned.trace[-1],
        len(learned.trace) - 1,
        learned.fit.converged,
        ~learned.scale.kept,
        shard.columns,
        time.perf_counter() - begun[0],
        time.thread_time() - begun[1],
    )


def _at_once(
    rows: Rows, task: Task, rng: np.random.Generator
) -> tuple[Learned, Rows, tuple[float, float]]:
    """Fit rows in memory with weights lifted to their number; give these and what came."""
    came = float(len(rows[0])), float(rows[2].sum())
    rows = (rows[0], rows[1], rows[2] * lift(*came))
    search = capped(task.search, rows[0].shape[1] + 1, rows[2].sum())
    begin = _begin(task, rows[0].shape[1])
    return learn(rows, search, rng, begin=begin, solve=task.solve), rows, came


def _begin(task: Task, width: int) -> Any:
    """Give what makes the only start, where the user named one."""
    start = task.start
    if start is None:
        return None
    if start.gate.shape[0] != width + 1:
        raise ValueError(
            f"init has {start.gate.shape[0] - 1} covariates, but a shard has {width}; "
            "start from a mixture of the same columns"
        )
    return lambda scale, _: rescaled(start, scale)


def tally_shard(
    source: Shard | Lazy, classes: Any, mixture: Mixture, scale: Scale, factor: float = 1.0
) -> tuple[Sums, float]:
    """Sum over one machine's rows what an M-step needs, and give the seconds it took.

    Rows and mixture in standardised units; weights are multiplied by ``factor``.
    """
    begun = time.perf_counter()
    blocks = ready_blocks(present(source), classes, scale, factor)
    return tally(mixture, blocks), time.perf_counter() - begun


def ready_blocks(shard: Shard, classes: Any, scale: Scale, factor: float) -> Iterator[Rows]:
    """Give standardised rows, their weights multiplied by a factor."""
    for block in shard.blocks():
        x, y, weights = encoded(classes, block)
        yield ready_rows(scale, (x, y, factor * weights))


def classes_of(source: Shard | Lazy) -> Array:
    """Give the classes of one shard."""
    found = [np.unique(y[weights > 0]) for _, y, weights in present(source).blocks()]
    return np.unique(np.concatenate(found))
