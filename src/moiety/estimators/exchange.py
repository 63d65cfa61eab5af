"""What went back and forth between the server and the machines.

Letters: M machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from joblib import delayed

from moiety.core.state import count_bytes
from moiety.estimators.machines import Exchange, OpenedShards, find_shard_classes, run_shard_jobs
from moiety.mixtures.logit import Array

SUPPORT = ("support", "labels", "weights")  # what of an answer are rows


@dataclass(frozen=True)
class ExchangeTraffic:
    """Rounds, bytes up and down."""

    rounds: int = 0
    up_bytes: int = 0
    down_bytes: int = 0


NO_TRAFFIC = ExchangeTraffic()


@dataclass(frozen=True)
class ExchangeLedger:
    """What was sent: rounds, bytes up and down, bytes of support rows; and seconds.

    The exchange in which machines settle the classes, if one was made, is a round. ``fit_s`` and
    ``fit_cpu_s`` hold the seconds of every local fit, by the clock and of the processor; a busy
    machine stretches only the first. ``refine_s`` is the longest pass of each refining round, and
    what the server does in between.
    """

    rounds: int
    up_bytes: int
    down_bytes: int
    support_bytes: int
    fit_s: tuple[float, ...]
    fit_cpu_s: tuple[float, ...]
    reduction_s: float
    reduction_cpu_s: float
    refine_s: float = 0.0

    @property
    def longest_fit_s(self) -> float:
        """Give the seconds of the longest local fit."""
        return max(self.fit_s)

    @property
    def longest_fit_cpu_s(self) -> float:
        """Give the processor's seconds for the longest local fit."""
        return max(self.fit_cpu_s)

    @property
    def learning_s(self) -> float:
        """Give the longest local fit plus the reduction, as if the machines ran side by side."""
        return self.longest_fit_s + self.reduction_s

    @property
    def learning_cpu_s(self) -> float:
        """Give the longest local fit plus the reduction, in time of the processor."""
        return self.longest_fit_cpu_s + self.reduction_cpu_s


@dataclass(frozen=True)
class Spent:
    """Seconds of the server's own, by the clock and of its processor."""

    seconds: float = 0.0
    cpu_s: float = 0.0


def make_exchange_ledger(
    agreement: ExchangeTraffic,
    exchanges: Sequence[Exchange],
    result_bytes: int,
    reduced: Spent,
    refined: Spent,
) -> ExchangeLedger:
    """Sum up an agreement, the exchange of fits, and refining rounds.

    Args:
        agreement: on classes.
        exchanges: of fits, then of sums.
        result_bytes: of the result, which goes to all machines in the end.
        reduced: what the server spent on the reduction.
        refined: what it spent on all refining rounds.
    """
    fits, *refinings = exchanges
    rows = sum(count_bytes({n: t for n, t in reply.answer.items() if n in SUPPORT})
               for reply in fits.replies)  # fmt: skip
    slowest = sum(max(work.seconds for work in one.works) for one in refinings)
    return ExchangeLedger(
        agreement.rounds + len(exchanges),
        agreement.up_bytes + sum(one.up_bytes for one in exchanges) - rows,
        agreement.down_bytes + sum(one.down_bytes for one in exchanges) + result_bytes,
        rows,
        tuple(work.seconds for work in fits.works),
        tuple(work.cpu_s for work in fits.works),
        reduced.seconds,
        reduced.cpu_s,
        slowest + refined.seconds,
    )


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
