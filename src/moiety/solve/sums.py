"""Sum over a worker's rows what one EM step of all workers needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from moiety.core.state import Job, Plan, Record, Update, make_empty_plan, require_rows
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.mixtures.em import sum_rows
from moiety.mixtures.fit import RowArrays
from moiety.mixtures.learn import standardise_rows
from moiety.mixtures.scale import StandardScale
from moiety.mixtures.worker import WorkerRows
from moiety.models.mixture import FREE, MixtureForm, pack_sums
from moiety.solve.em import read_batch


@dataclass(frozen=True)
class PooledSums:
    """Answer the sums of all rows at the mixture received; nothing is learnt.

    Args:
        scale: the units in which the mixture is, and in which all add.
        factor: what the weights of rows are multiplied by.
        form: how the mixture lies in tensors.
    """

    scale: StandardScale
    factor: float = 1.0
    form: MixtureForm = FREE
    stackable: bool = False
    needs_statistics: bool = True
    keeps_memory: bool = False

    def first_optimizer_state(self, params: Params, /) -> Memory:
        return {}

    def plan(self, size: int, job: Job, /) -> Plan:
        require_rows(size)
        return make_empty_plan()

    def start(self, job: Job, memory: Memory, /) -> Carry:
        return {"params": dict(job.piece)}

    def statistics(self, carry: Carry, batch: Batch, role: str, /) -> Params:
        return self.sum(carry["params"], [read_batch(batch)])

    def finish(self, job: Job, plan: Plan, carry: Carry, statistics: Params, /) -> Update:
        return Update({}, answer=statistics)

    def read_through(self, job: Job, rows: WorkerRows, /) -> tuple[Update, Record]:
        """Do a job on rows that are read block by block."""
        sums = self.sum(job.piece, rows.read())
        return Update({}, answer=sums), Record(model_version=job.round)

    def sum(self, params: Params, blocks: Iterable[RowArrays]) -> Params:
        """Sum over blocks."""
        mixture = self.form.read(params)
        ready = (standardise_rows(self.scale, (x, y, self.factor * w)) for x, y, w in blocks)
        return pack_sums(sum_rows(mixture, ready))
