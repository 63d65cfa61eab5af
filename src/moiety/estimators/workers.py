"""What one machine does with its shard.

Letters: N rows, d covariates, D = d + 1 columns, K experts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from moiety.estimators.shards import Raw, Shard
from moiety.ops.mixture.em import Sums, tally
from moiety.ops.mixture.fit import Rows, Search
from moiety.ops.mixture.learn import Learned, capped, learn, learn_stream, ready_rows, survey
from moiety.ops.mixture.logit import Array
from moiety.ops.mixture.model import Mixture
from moiety.ops.mixture.scale import Scale, rescaled
from moiety.ops.mixture.scene import Local


@dataclass(frozen=True)
class Task:
    """What every machine is asked: a search, the classes, support rows, and maybe a start."""

    search: Search
    classes: Any = None
    support: int = 0
    with_y: bool = False
    start: Mixture | None = None


@dataclass(frozen=True)
class Sent:
    """One machine's answer."""

    local: Local
    support: Rows
    with_y: bool
    log_likelihood: float
    iterations: int
    converged: bool
    constant: Array
    seconds: float
    cpu_s: float

    @property
    def sent_bytes(self) -> int:
        """Count the bytes of parameters, gate information, row count and log-likelihood."""
        experts = self.local.mixture.experts
        known = 0 if self.local.information is None else len(self.local.information)
        gate = self.local.mixture.gate[:, :-1].size
        return 8 * (gate + experts.size() + known * (known + 1) // 2 + 2)

    @property
    def support_bytes(self) -> int:
        """Count the bytes of support rows."""
        return 8 * (self.support[0].size + len(self.support[0]) * self.with_y)


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
    held = weights > 0
    if not held.all():
        x, y, weights = x[held], y[held], weights[held]
    return x, y.astype(np.float64), weights


def fit_shard(shard: Shard, task: Task, rng: np.random.Generator) -> Sent:
    """Fit one machine's rows, and draw its share of the support."""
    begun = time.perf_counter(), time.thread_time()

    def blocks() -> Iterator[Rows]:
        return (encoded(task.classes, block) for block in shard.blocks())

    start = task.start
    begin = None if start is None else lambda scale, _: rescaled(start, scale)
    if shard.in_memory:
        rows = next(blocks())
        search = capped(task.search, rows[0].shape[1] + 1, rows[2].sum())
        learned = learn(rows, search, rng, begin=begin)
        seen = rows
        taken = rng.choice(len(rows[0]), min(task.support, len(rows[0])), replace=False)
    else:
        found = survey(blocks, rng)
        search = capped(task.search, found.few[0].shape[1] + 1, found.found.rows)
        learned = learn_stream(blocks, found, search, rng, begin=begin)
        seen, taken = found.few, np.arange(min(task.support, len(found.few[0])))
    support = (seen[0][taken], seen[1][taken], seen[2][taken])
    return _sent(learned, support, task, begun)


def _sent(learned: Learned, support: Rows, task: Task, begun: tuple[float, float]) -> Sent:
    return Sent(
        learned.local(),
        support,
        task.with_y,
        learned.trace[-1],
        len(learned.trace) - 1,
        learned.fit.converged,
        ~learned.scale.kept,
        time.perf_counter() - begun[0],
        time.thread_time() - begun[1],
    )


def tally_shard(shard: Shard, classes: Any, mixture: Mixture, scale: Scale) -> Sums:
    """Sum over one machine's rows what an M-step needs; rows and mixture in standardised units."""
    blocks = (ready_rows(scale, encoded(classes, block)) for block in shard.blocks())
    return tally(mixture, blocks)


def classes_of(shard: Shard) -> Array:
    """Give the classes of one shard."""
    found = [np.unique(y[weights > 0]) for _, y, weights in shard.blocks()]
    return np.unique(np.concatenate(found))
