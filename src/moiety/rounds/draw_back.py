"""Late replies are drawn back towards what the server has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from moiety.core.state import Job, Reply
from moiety.core.store import Store
from moiety.core.types import Params
from moiety.rounds.schedule import Schedule


@dataclass(frozen=True)
class DrawBack:
    """Draws late replies back towards what the server has, by the rule of the schedule.

    With s the weight of the staleness (commits since the job was cut) and the server's rate in
    it, x the server's piece now, x_0 the one that was sent and x_w what the worker made of it,
    the merge gets ``x + s (x_w - x)``, or ``x + s (x_w - x_0)`` where changes are applied. So a
    commit of one reply is FedAsync's convex combination, and a mean over K replies FedBuff's
    ``x + (1/K) sum s (x_w - x_0)``. A weight in the precision would do neither: a mean over
    holders divides it out again. Memory that travels with a piece gets ``x + s (x_w - x)``, s at
    most 1, in either case: a mean of squares must not fall below 0. The change of a worker's term
    of a mean over workers counts whole however late, or the mean would be of other terms.

    Args:
        schedule: the rule.
        round: that is committed.
        store: the server's model.
        optimizer_state: section -> the memory that travels.
        worker_means: sections of it that are means over workers.
    """

    schedule: Schedule
    round: int
    store: Store
    optimizer_state: Mapping[str, Store]
    worker_means: Mapping[str, int]

    def __call__(self, job: Job, reply: Reply) -> Reply:
        late, part = self.round - job.round, reply.share.part
        follow = self.schedule.weight(late)
        if follow == 1.0 and not (self.schedule.change and late):
            return reply  # as it is, to the bit
        here = self.store.take(part)
        since = job.piece if self.schedule.change else here
        optimizer_state = {}
        for name, tensors in reply.optimizer_state.items():
            held = self.optimizer_state[name].take(part)
            optimizer_state[name] = (
                tensors
                if name in self.worker_means
                else blend_pieces(held, held, tensors, min(follow, 1.0))
            )
        piece = blend_pieces(here, since, reply.piece, follow)
        return replace(reply, piece=piece, optimizer_state=optimizer_state)


def blend_pieces(here: Params, since: Params, there: Params, follow: float) -> Params:
    """Go from what is here a share of the way that was made since; integers are taken as told."""
    return {
        name: here[name] + follow * (tensor - since[name])
        if tensor.is_floating_point() and not tensor.is_meta  # a piece that is elsewhere
        else tensor
        for name, tensor in there.items()
    }
