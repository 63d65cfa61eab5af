"""What one machine does with its shard.

Letters: N rows, d covariates, D = d + 1 columns, K experts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moiety.estimators.opening import LazyShard, ShardColumns, materialise_shard
from moiety.estimators.shards import RawRows, Shard, compute_weight_factor
from moiety.mixtures.em import Sums, sum_rows
from moiety.mixtures.fit import RowArrays, Search
from moiety.mixtures.inputs import LocalFit
from moiety.mixtures.learn import (
    Algorithm,
    LearnedMixture,
    learn_rows,
    learn_stream,
    limit_search,
    standardise_rows,
    survey_rows,
)
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture
from moiety.mixtures.scale import StandardScale, standardise_mixture

SUPPORT_PER_COLUMN, LEAST_SUPPORT = 50, 2000  # support rows per column, and in all


@dataclass(frozen=True)
class ShardTask:
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
    solve: Algorithm | None = None

    def share(self, columns: int) -> int:
        """Give the support rows of one machine."""
        wanted = self.support or max(SUPPORT_PER_COLUMN * columns, LEAST_SUPPORT)
        return -(-wanted // self.machines)


@dataclass(frozen=True)
class ShardReply:
    """One machine's answer; ``count`` rows of ``weight`` in all, as they came."""

    local: LocalFit
    support: RowArrays
    with_y: bool
    count: float
    weight: float
    log_likelihood: float
    iterations: int
    converged: bool
    constant: Array
    columns: ShardColumns
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

    def weighing(self, factor: float) -> ShardReply:
        """Give what would have been sent if the weights had been multiplied by a factor."""
        ratio = factor * self.weight / self.local.rows
        known = self.local.information
        local = replace(
            self.local,
            rows=ratio * self.local.rows,
            information=None if known is None else ratio * known,
        )
        return replace(self, local=local, log_likelihood=ratio * self.log_likelihood)


def encode_shard_rows(classes: Any, block: RawRows) -> RowArrays:
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
        y = convert_responses(y)
    held = weights > 0
    if not held.all():
        x, y, weights = x[held], y[held], weights[held]
    return x, y.astype(np.float64), weights


def convert_responses(y: Array) -> Array:
    """Make numbers of responses that are stored as something else."""
    try:
        return y.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"responses such as {y[0]!r} are no numbers; choose the distributed classifier"
        ) from None


def fit_shard(source: Shard | LazyShard, task: ShardTask, rng: np.random.Generator) -> ShardReply:
    """Fit one machine's rows, and draw its share of the support."""
    begun = time.perf_counter(), time.thread_time()
    shard = materialise_shard(source)

    def blocks() -> Iterator[RowArrays]:
        return (encode_shard_rows(task.classes, block) for block in shard.blocks())

    if shard.in_memory:
        learned, seen, came = _fit_in_memory(next(blocks()), task, rng)
        size = min(task.share(seen[0].shape[1] + 1), len(seen[0]))
        taken = rng.choice(len(seen[0]), size, replace=False)
    else:
        if task.solve is not None:
            raise ValueError(
                "algorithm='published' holds all rows; give arrays or frames, not files, or "
                "choose algorithm='em'"
            )
        found = survey_rows(blocks, rng)
        search = limit_search(task.search, found.few[0].shape[1] + 1, found.found.rows)
        begin = _begin(task, found.few[0].shape[1])
        learned = learn_stream(blocks, found, search, rng, begin=begin)
        seen, came = found.few, (learned.rows, learned.rows)
        taken = np.arange(min(task.share(seen[0].shape[1] + 1), len(seen[0])))
    support = (seen[0][taken], seen[1][taken], seen[2][taken])
    return ShardReply(
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


def _fit_in_memory(
    rows: RowArrays, task: ShardTask, rng: np.random.Generator
) -> tuple[LearnedMixture, RowArrays, tuple[float, float]]:
    """Fit rows in memory with weights lifted to their number; give these and what came."""
    came = float(len(rows[0])), float(rows[2].sum())
    rows = (rows[0], rows[1], rows[2] * compute_weight_factor(*came))
    search = limit_search(task.search, rows[0].shape[1] + 1, rows[2].sum())
    begin = _begin(task, rows[0].shape[1])
    return learn_rows(rows, search, rng, begin=begin, solve=task.solve), rows, came


def _begin(task: ShardTask, width: int) -> Any:
    """Give what makes the only start, where the user named one."""
    start = task.start
    if start is None:
        return None
    if start.gate.shape[0] != width + 1:
        raise ValueError(
            f"init has {start.gate.shape[0] - 1} covariates, but a shard has {width}; "
            "start from a mixture of the same columns"
        )
    return lambda scale, _: standardise_mixture(start, scale)


def sum_shard(
    source: Shard | LazyShard,
    classes: Any,
    mixture: Mixture,
    scale: StandardScale,
    factor: float = 1.0,
) -> tuple[Sums, float]:
    """Sum over one machine's rows what an M-step needs, and give the seconds it took.

    Rows and mixture in standardised units; weights are multiplied by ``factor``.
    """
    begun = time.perf_counter()
    blocks = standardise_blocks(materialise_shard(source), classes, scale, factor)
    return sum_rows(mixture, blocks), time.perf_counter() - begun


def standardise_blocks(
    shard: Shard, classes: Any, scale: StandardScale, factor: float
) -> Iterator[RowArrays]:
    """Give standardised rows, their weights multiplied by a factor."""
    for block in shard.blocks():
        x, y, weights = encode_shard_rows(classes, block)
        yield standardise_rows(scale, (x, y, factor * weights))


def find_shard_classes(source: Shard | LazyShard) -> Array:
    """Give the classes of one shard."""
    found = [np.unique(y[weights > 0]) for _, y, weights in materialise_shard(source).blocks()]
    return np.unique(np.concatenate(found))
