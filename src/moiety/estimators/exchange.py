"""What goes back and forth between the server and the machines.

Letters: M machines.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from moiety.estimators.opening import LazyShard
from moiety.estimators.server import count_sums_bytes, make_common_scale, make_pooled_steps
from moiety.estimators.shards import Shard
from moiety.estimators.workers import find_shard_classes, sum_shard
from moiety.mixtures.em import Prior, Sums
from moiety.mixtures.inputs import Support
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture
from moiety.mixtures.scale import StandardScale

OpenedShards = Sequence[Shard | LazyShard]


@dataclass(frozen=True)
class ExchangeTraffic:
    """Rounds, bytes up and down."""

    rounds: int = 0
    up_bytes: int = 0
    down_bytes: int = 0


NO_TRAFFIC = ExchangeTraffic()


@dataclass(frozen=True)
class Machines:
    """Shards, the classes, what weights are multiplied by, and how many are asked at once."""

    opened: OpenedShards
    classes: Any
    factor: float
    n_jobs: int | None


def run_shard_jobs(n_jobs: int | None, jobs: Iterable[Any]) -> list[Any]:
    """Run jobs by joblib's back end, and give their results in order."""
    return list(Parallel(n_jobs=n_jobs)(jobs))


def count_label_bytes(labels: Array) -> int:
    """Count the bytes of class names: of words as they are written, of numbers as stored."""
    if labels.dtype.kind in "OU":
        return sum(len(str(label).encode()) for label in labels)
    return labels.nbytes


def agree_on_classes(opened: OpenedShards, n_jobs: int | None) -> tuple[Array, ExchangeTraffic]:
    """Ask all machines for their classes, and tell all of them the union."""
    found = run_shard_jobs(n_jobs, (delayed(find_shard_classes)(shard) for shard in opened))
    union = np.unique(np.concatenate(found))
    up = sum(count_label_bytes(labels) for labels in found)
    return union, ExchangeTraffic(1, up, count_label_bytes(union) * len(opened))


def refine_on_machines(
    mixture: Mixture,
    support: Support,
    machines: Machines,
    *,
    prior: Prior,
    rounds: int,
) -> tuple[Mixture, int, float]:
    """Make pooled EM steps; give the mixture, the bytes that machines sent, and the seconds.

    The seconds are those of the longest tally of each round, as if machines worked side by side,
    and those of the server.
    """
    scale, counted, longest, asked = make_common_scale(mixture, support), [], [], []

    def ask(mixture: Mixture, scale: StandardScale) -> list[Sums]:
        begun = time.perf_counter()
        common = machines.classes, mixture, scale, machines.factor
        jobs = [delayed(sum_shard)(shard, *common) for shard in machines.opened]
        found = run_shard_jobs(machines.n_jobs, jobs)
        asked.append(time.perf_counter() - begun)
        longest.append(max(seconds for _, seconds in found))
        counted.append(sum(count_sums_bytes(sums) for sums, _ in found))
        return [sums for sums, _ in found]

    begun = time.perf_counter()
    moved = make_pooled_steps(mixture, scale, ask, rounds, prior=prior, x=support.x)
    alone = time.perf_counter() - begun - sum(asked)
    return moved, sum(counted), sum(longest) + alone
