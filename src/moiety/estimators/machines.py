"""The engine of shards: a shard is a worker, and joblib's back end runs their jobs.

Letters: M machines, N rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from joblib import Parallel, delayed

from moiety.core.solver import Solve
from moiety.core.state import Job, Record, Reply, Update
from moiety.core.transfers import Transfers
from moiety.core.types import Memory
from moiety.engine.work import make_reply
from moiety.estimators.opening import LazyShard, ShardColumns, materialise_shard
from moiety.estimators.shards import RawRows, Shard, agree_on_columns
from moiety.mixtures.fit import RowArrays
from moiety.mixtures.logit import Array
from moiety.mixtures.worker import WorkerRows

OpenedShards = Sequence[Shard | LazyShard]


@runtime_checkable
class ReadsThrough(Solve, Protocol):
    """A solver that reads its rows block by block, as often as it must."""

    def read_through(self, job: Job, rows: WorkerRows, /) -> tuple[Update, Record]: ...


@dataclass(frozen=True)
class ShardWork:
    """What one machine made of its job, and the seconds it took, by the clock and its processor."""

    reply: Reply
    memory: Memory
    columns: ShardColumns
    seconds: float
    cpu_s: float


@dataclass(frozen=True)
class Exchange:
    """One round's jobs and replies, and the seconds that the server waited for them."""

    works: tuple[ShardWork, ...]
    down_bytes: int
    seconds: float
    cpu_s: float

    @property
    def replies(self) -> list[Reply]:
        """Give the replies."""
        return [work.reply for work in self.works]

    @property
    def up_bytes(self) -> int:
        """Count the bytes of all replies."""
        return sum(reply.up_bytes for reply in self.replies)


@dataclass
class ShardEngine:
    """Run jobs where the shards are, and keep what was exchanged.

    Args:
        opened: one shard per worker.
        classes: whose indices the responses become; None where they are numbers.
        n_jobs: machines worked on at once.
        memory: what workers kept.
        transfers: stays at nothing: what goes to a machine is counted in ``Exchange``.
        exchanges: of every round so far.
    """

    opened: OpenedShards
    classes: Any = None
    n_jobs: int | None = None
    memory: MutableMapping[int, Memory] = field(default_factory=dict)
    transfers: Transfers = field(default_factory=Transfers)
    exchanges: list[Exchange] = field(default_factory=list)

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        jobs, begun = list(jobs), (time.perf_counter(), time.thread_time())
        works: list[ShardWork] = run_shard_jobs(
            self.n_jobs,
            (delayed(run_shard_job)(solve, j, self.opened[j.worker], self.classes) for j in jobs),
        )
        spent = time.perf_counter() - begun[0], time.thread_time() - begun[1]
        self.memory.update({work.reply.worker: work.memory for work in works if work.memory})
        self.exchanges.append(Exchange(tuple(works), sum(j.down_bytes for j in jobs), *spent))
        known = {work.reply.worker: work.columns for work in works}
        agree_on_columns([known.get(worker) for worker in range(len(self.opened))])
        yield from (work.reply for work in works)

    def close(self) -> None:
        """Hold nothing open."""


def run_shard_jobs(n_jobs: int | None, jobs: Iterable[Any]) -> list[Any]:
    """Run jobs by joblib's back end, and give their results in order."""
    return list(Parallel(n_jobs=n_jobs)(jobs))


def run_shard_job(solve: Solve, job: Job, source: Shard | LazyShard, classes: Any) -> ShardWork:
    """Do one machine's job, on the shard opened there."""
    assert isinstance(solve, ReadsThrough)
    begun = time.perf_counter(), time.thread_time()
    shard = materialise_shard(source)
    update, record = solve.read_through(job, read_shard(shard, classes))
    spent = time.perf_counter() - begun[0], time.thread_time() - begun[1]
    reply = make_reply(job, update, replace(record, work_s=spent[0]))
    return ShardWork(reply, update.memory, shard.columns, *spent)


def read_shard(shard: Shard, classes: Any) -> WorkerRows:
    """Give a shard's rows as solvers read them."""

    def read() -> Iterator[RowArrays]:
        return (encode_shard_rows(classes, block) for block in shard.blocks())

    return WorkerRows(read, shard.in_memory)


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


def find_shard_classes(source: Shard | LazyShard) -> Array:
    """Give the classes of one shard."""
    found = [np.unique(y[weights > 0]) for _, y, weights in materialise_shard(source).blocks()]
    return np.unique(np.concatenate(found))
