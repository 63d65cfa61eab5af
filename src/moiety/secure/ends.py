"""The two ends of a secure sum: who holds what is told, changes are numbers of a ring, sums a mean.

A job tells its worker what all others of the round hold, so that it knows in which cells enough
add up. Its reply has no piece: it answers with a vector a cell, the weight first. Where workers are
nodes, masks are added to these on the way; where all of them are in one process, they would cancel
before anybody looked, and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from moiety.core.axes import Axes, Part
from moiety.core.fold import Precision
from moiety.core.protocols import Merged, Split
from moiety.core.state import Job, Reply, Share, State, Turn, Update
from moiety.core.store import Store
from moiety.core.types import Params
from moiety.core.wire import Wire
from moiety.secure.cells import Cells, find_cells, lay_out
from moiety.secure.opening import count_exchange
from moiety.secure.ring import Scale, wrap
from moiety.solve.wrapped import FinishedJob


@dataclass(frozen=True)
class SumRule:
    """What is summed, and how.

    Args:
        least: workers that hold what is summed, at least.
        most: the largest change of a number.
        rows: the largest weight, where workers weigh as many as they have rows; 0 where all weigh
            alike.
        whole: the shapes of what is summed.
        axes: of the model.
    """

    least: int
    most: float
    rows: int
    whole: Params
    axes: Axes

    def find_cells(self, holders: Mapping[int, Part]) -> Cells:
        """Find the cells of a round."""
        return find_cells(self.whole, self.axes, holders)

    def scale(self, holders: Mapping[int, Part]) -> Scale:
        """Say how finely a round's numbers are told."""
        return Scale(self.most, max(1, self.rows), len(holders))

    def measure(self, share: Share) -> dict[str, int]:
        """Give the length of each vector of a worker, by the name of its cell."""
        cells = self.find_cells(share.holders)
        layout = lay_out(cells, self.whole, self.axes, share.part)
        sizes = zip(layout.cells, layout.sizes, strict=True)
        return {str(c): 1 + n for c, n in sizes if len(cells.holders[c]) >= self.least}


def is_of_form(answer: Params, asked: Mapping[str, int]) -> bool:
    """Say whether an answer has the vectors asked: by cell, of numbers of the ring."""
    forms = {name: (t.dtype, tuple(t.shape)) for name, t in answer.items()}
    return forms == {name: (torch.int32, (size,)) for name, size in asked.items()}


@dataclass(frozen=True)
class TellHolders:
    """A split that tells every worker what the others hold."""

    inner: Split

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]:
        shares = self.inner(state, turn)
        holders = {worker: share.part for worker, share in shares.items()}
        return {worker: replace(share, holders=holders) for worker, share in shares.items()}


@dataclass(frozen=True)
class SummedWire:
    """The server's end: it counts what keys and shares cost, and looks at forms alone.

    Args:
        rule: what is summed.
        inner: how pieces go down.
    """

    rule: SumRule
    inner: Wire

    def pack(self, job: Job, /) -> Job:
        job = self.inner.pack(job)
        return replace(job, beside_bytes=self.count_beside(job)[0]) if job.share.holders else job

    def count_beside(self, job: Job) -> tuple[int, int]:
        """Count the bytes of keys and shares that pass to a worker and back."""
        holders = job.share.holders
        cells = self.rule.find_cells(holders)
        return count_exchange(cells.holders, holders, job.worker, self.rule.least)

    def open(self, job: Job, /) -> Job:
        return self.inner.open(job)

    def read(self, job: Job, reply: Reply, /) -> Reply:
        if not job.share.holders or reply.fault:
            return self.inner.read(job, reply)
        if not reply.answer and not reply.piece:
            raise ValueError(
                "it has nothing to add up: a number that it learnt is not finite, or changed by "
                f"more than {self.rule.most:g} (secure.range), or its rows are more than "
                "secure.rows; lower local.lr, or raise these"
            )
        asked = self.rule.measure(job.share)
        if not is_of_form(reply.answer, asked) or reply.piece:
            raise ValueError(
                f"its vectors are not those of its cells, {asked} numbers of 32 bits by cell, or "
                f"it sends {len(reply.piece)} tensors in clear"
            )
        return reply


def find_sum_rule(wire: Wire) -> SumRule | None:
    """Say what is summed over a wire; nothing where replies pass each by itself."""
    return wire.rule if isinstance(wire, SummedWire) else None


@dataclass(frozen=True)
class RingSender:
    """The worker's end: places of a wrapped solver."""

    rule: SumRule

    def end(self, update: Update, done: FinishedJob, /) -> Update:
        know = update.precision
        if know != Precision() or update.answer or update.optimizer_state or update.code:
            raise ValueError(
                "what it sends beside its piece (precisions, answers, memory, codes) is no sum; "
                "leave secure out"
            )
        rule, job = self.rule, done.job
        holders, weight = job.share.holders, done.plan.size if self.rule.rows else 1
        cells = rule.find_cells(holders)
        layout = lay_out(cells, rule.whole, rule.axes, job.share.part)
        names = [name for name in sorted(rule.whole) if name in update.piece]
        moved = [update.piece[n].double() - job.piece[n].double() for n in names]
        flat = torch.cat([change.detach().flatten() for change in moved])
        try:
            numbers = rule.scale(holders).write(flat, weight)
        except ValueError:  # said by the server's end, which sees that nothing came
            return replace(update, piece={})
        first = numbers.new_full((1,), weight)
        answer = {
            str(cell): torch.cat([first, vector])
            for cell, vector in layout.cut(numbers).items()
            if len(cells.holders[cell]) >= rule.least
        }
        beside = count_exchange(cells.holders, holders, job.worker, rule.least)[1]
        return replace(update, piece={}, answer=answer, beside_bytes=beside)


@dataclass(frozen=True)
class RingSum:
    """A merge that sees sums alone: of what enough hold, the mean change of those who replied."""

    rule: SumRule

    def weigh(self, reply: Reply, /) -> Precision:
        """Weigh all alike: weights are in the sums."""
        del reply
        return Precision()

    def begin(self, store: Store, /) -> OpenRingSum:
        return OpenRingSum(self.rule, store)


@dataclass(frozen=True)
class OpenRingSum:
    """Sums under way.

    Args:
        rule: what is summed.
        store: has the whole.
        totals: name of a cell -> the sum of its vectors so far.
        shares: of those who replied.
    """

    rule: SumRule
    store: Store
    totals: dict[str, Tensor] = field(default_factory=dict)
    shares: dict[int, Share] = field(default_factory=dict)

    def add(self, reply: Reply, /) -> None:
        self.shares[reply.worker] = reply.share
        for cell, vector in reply.answer.items():
            wide = vector.long()
            self.totals[cell] = self.totals[cell] + wide if cell in self.totals else wide

    def close(self) -> Merged:
        """Move what enough of those who replied held; all else keeps its value.

        Raises:
            ValueError: where too few replied.
        """
        rule, here = self.rule, self.shares.keys()
        if len(here) < rule.least:
            raise ValueError(
                f"{len(here)} replies were accepted, and a sum of fewer than secure.threshold="
                f"{rule.least} is not opened"
            )
        holders = next(iter(self.shares.values())).holders
        cells, scale = rule.find_cells(holders), rule.scale(holders)
        whole = self.store.take(Part())
        changes, held = dict[int, Tensor](), dict[int, Tensor]()
        for cell, who in enumerate(cells.holders):
            if len(here & {*who}) >= rule.least:
                total = wrap(self.totals[str(cell)])
                changes[cell] = scale.read(total[1:], int(total[0]))
                held[cell] = torch.ones_like(changes[cell])
        layout = lay_out(cells, rule.whole, rule.axes, Part())
        size = sum(t.numel() for t in rule.whole.values())
        none = torch.zeros(size, dtype=torch.float64, device=next(iter(whole.values())).device)
        return move_whole(whole, rule.whole, layout.join(changes, none), layout.join(held, none))


def move_whole(whole: Params, summed: Params, changes: Tensor, held: Tensor) -> Merged:
    """Add mean changes to the parameters that somebody held.

    Args:
        whole: the parameters.
        summed: names of those that are summed.
        changes: of these, sorted by name, flat.
        held: 1 where a change is known.
    """
    names = sorted(summed)
    sizes = [whole[name].numel() for name in names]
    merged, masks = dict(whole), {}
    for name, change, some in zip(names, changes.split(sizes), held.split(sizes), strict=True):
        old = whole[name]
        value = old.double() + change.view_as(old)
        value = value if old.is_floating_point() else value.round()
        masks[name] = some.view_as(old) > 0
        merged[name] = torch.where(masks[name], value.to(old.dtype), old)
    return Merged(merged, masks)
