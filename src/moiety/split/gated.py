"""Each worker gets the indices of an axis that the gate prefers for its rows.

Letters: W workers, E experts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from moiety.core.axes import Part
from moiety.core.state import Share, State, Turn
from moiety.core.types import Params
from moiety.ops.top import hold_shared

ANCHOR = "anchor"
"""The role of a worker that is tied to one index and teaches the gate."""


@dataclass(frozen=True)
class Gated:
    """Give each worker k indices of an axis, by what it answered.

    An answer holds the chosen ``ids`` [k], and maybe how many of the last of them are ``spare``
    [1]; or all ``score`` [E] where the server is to choose under a capacity. Workers with an anchor
    get their one index and are not asked.

    Args:
        axis: the axis to cut.
        k: indices per worker.
        anchors: worker -> its index.
        capacity: the most workers of a round that may hold an index, or None.
        random: choose k at random for workers that answered nothing.
        size: length of the axis; needed to choose at random, and where some is shared.
        shared: how many of its last indices everyone holds besides.
        explore: the chance that a worker gets random ones in a round, whatever it answered.
        closed: how many of those before the shared ones nobody gets.
        lend: give each open index that nobody of a round would hold to a worker at random, in place
            of the last of its choice, if another holds that.
    """

    axis: str
    k: int
    anchors: Mapping[int, int] = field(default_factory=dict)
    capacity: int | None = None
    random: bool = False
    size: int = 0
    shared: int = 0
    explore: float = 0.0
    closed: int = 0
    lend: bool = False

    @property
    def open(self) -> int:
        """Count the indices that may be chosen, the first ones."""
        return self.size - self.shared - self.closed

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]:
        del state
        held = self.choose(turn)
        held = self.lend_idle(turn, held) if self.lend else held
        return {
            worker: Share(self.cut(torch.tensor([self.anchors[worker]])), ANCHOR)
            if worker in self.anchors
            else Share(self.cut(held[worker].long().sort().values))
            for worker in turn.cohort
        }

    def cut(self, ids: Tensor) -> Part:
        """Cut chosen indices out, and those that everyone holds."""
        return Part({self.axis: hold_shared(ids, self.size, self.shared)})

    def draw(self, turn: Turn) -> Tensor:
        """Draw k indices for a worker."""
        return torch.randperm(self.open, generator=turn.rng)[: self.k]

    def choose(self, turn: Turn) -> Mapping[int, Tensor]:
        """Choose for the workers without an anchor."""
        free = [worker for worker in turn.cohort if worker not in self.anchors]
        if self.random:
            return {worker: self.draw(turn) for worker in free}
        if self.explore:
            stray_W = torch.rand(len(free), generator=turn.rng) < self.explore
            return {
                worker: self.draw(turn) if stray else read_choice(turn.answers[worker])
                for worker, stray in zip(free, stray_W, strict=True)
            }
        if self.capacity is None:
            return {worker: read_choice(turn.answers[worker]) for worker in free}
        if not free:
            return {}
        score_WE = torch.stack([turn.answers[worker]["score"] for worker in free])
        most = score_WE.shape[1] - self.closed
        kept = fill_by_score(score_WE[:, :most], self.k, self.capacity)
        return dict(zip(free, kept, strict=True))

    def lend_idle(self, turn: Turn, held: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """Give indices that nobody of the round would hold to workers without an anchor."""
        bound = [self.anchors[worker] for worker in turn.cohort if worker in self.anchors]
        lent = {worker: ids.tolist() for worker, ids in held.items()}
        holders = Counter([*bound, *(index for ids in lent.values() for index in ids)])
        free = [[*lent][place] for place in torch.randperm(len(lent), generator=turn.rng).tolist()]
        for idle in [index for index in range(self.open) if not holders[index]]:
            worker = next((one for one in free if holders[lent[one][-1]] > 1), None)
            if worker is not None:  # the index that it gives up has another holder
                holders[lent[worker].pop()] -= 1
                lent[worker].append(idle)
                free.remove(worker)
        return {worker: torch.tensor(ids) for worker, ids in lent.items()}


def read_choice(answer: Params) -> Tensor:
    """Read the indices that a worker is to hold, at least one.

    >>> read_choice({"ids": torch.tensor([4, 0, 1]), "spare": torch.tensor([1])}).tolist()
    [4, 0]
    """
    ids = answer["ids"]
    return ids[: max(1, len(ids) - int(answer["spare"]))] if "spare" in answer else ids


def fill_by_score(score_WE: Tensor, k: int, capacity: int) -> list[Tensor]:
    """Give each worker k indices, best scores first, no index to more than ``capacity``.

    Whoever would be left with fewer than k takes a full index over from a worker that can take
    another instead.

    >>> fill_by_score(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), 1, 1)
    [tensor([0]), tensor([1])]
    """
    workers, size = score_WE.shape
    if k > size:
        raise ValueError(f"{k=} indices per worker, but the axis has {size}; lower k")
    if workers * k > size * capacity:
        raise ValueError(
            f"{workers} workers with {k=} need {workers * k} places, but {size} indices with "
            f"{capacity=} have {size * capacity}; raise the capacity or lower k"
        )
    given: list[list[int]] = [[] for _ in range(workers)]
    load = [0] * size
    order = score_WE.flatten().argsort(descending=True, stable=True).tolist()
    for place in order:
        worker, index = divmod(place, size)
        if len(given[worker]) < k and load[index] < capacity:
            given[worker].append(index)
            load[index] += 1
    for worker in range(workers):
        while len(given[worker]) < k:
            swap_index(worker, given, load, score_WE, capacity)
    return [torch.tensor(mine) for mine in given]


def swap_index(
    worker: int, given: list[list[int]], load: list[int], score_WE: Tensor, capacity: int
) -> None:
    """Give a worker, in place, a full index whose holder takes one with room instead.

    An index with room is the worker's already, or it had got it. Fewer workers hold that one
    than a full one, so some holder of a full one lacks it: a swap is always there. The one that
    costs the least score is made.
    """
    room = [index for index, count in enumerate(load) if count < capacity]
    gain, other, wanted, left = max(
        (
            (
                float(score_WE[worker, full] - score_WE[holder, full] + score_WE[holder, free]),
                holder, full, free,
            )
            for holder, mine in enumerate(given)
            for full in mine
            for free in room
            if full not in given[worker] and free not in mine
        ),
        key=lambda found: found[0],
    )  # fmt: skip
    del gain
    given[other].remove(wanted)
    given[other].append(left)
    given[worker].append(wanted)
    load[left] += 1
