"""What a query does: look at all rows, answer in a few numbers.

Letters: B rows, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

from moiety.core.state import Job, Plan, Update, make_empty_plan, require_rows
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.ops.top import count_covering, select_best
from moiety.solve.usage import Gate


@dataclass(frozen=True)
class TopScores:
    """Answer with the k experts of highest scores, summed over all rows. Labels are not read.

    Args:
        model: whose gate scores.
        k: how many.
        full: answer with all mean scores [E] instead, for a server that chooses under a capacity.
        shared: how many of the last indices everyone holds, so that they are not chosen among.
        cover: below 1, say besides how many of the last of them are ``spare`` [1], since those
            before have this share of the scores.
    """

    model: Gate
    k: int
    full: bool = False
    shared: int = 0
    cover: float = 1.0
    stackable: bool = True
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
        score_BE = self.model.log_gate(carry["params"], batch).exp()
        return {"score": score_BE.sum(0), "rows": batch["weight"].sum()}

    def finish(self, job: Job, plan: Plan, carry: Carry, statistics: Params, /) -> Update:
        mean_E = statistics["score"] / statistics["rows"]
        mean_E = mean_E[: len(mean_E) - self.shared]
        if self.full:
            return Update({}, answer={"score": mean_E.cpu()})
        answer = {"ids": select_best(mean_E, self.k).int()}
        if self.cover < 1:
            spare = (self.k - count_covering(mean_E, self.cover)).clamp(min=0)
            answer["spare"] = spare.int()[None]
        return Update({}, answer=answer)
