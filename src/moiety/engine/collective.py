"""Jobs shared out over the ranks of ``torchrun``; every rank plays the same round.

Worker ``w`` lives at rank ``w mod n``, with its memory. Pieces either go to every rank, or stay
where they were made (tensors on the device ``meta`` stand for them elsewhere) until a
``ScatteredStore`` folds them. What is cut goes to every rank, as plain tensors. Of what is whole,
rank r adds up the r-th slice of all pieces, in job order, and the ranks exchange the means: a ring
all-reduce in bytes, ``2 (n - 1) / n`` of the model from every rank. Sums are those of ``Serial``,
bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from moiety.core.axes import Axes, Part, find_cuts, take_piece
from moiety.core.errors import WorkerError
from moiety.core.fold import Precision, Total, divide_sums, fold_piece
from moiety.core.rows import OpenRows
from moiety.core.solver import Solve
from moiety.core.state import Job, Reply, count_bytes, measure_change
from moiety.core.transfers import Transfers
from moiety.core.types import Memory, Params
from moiety.engine.ranks import Ranks, join_ranks
from moiety.engine.work import open_job_rows, run_job, run_steps_in_place, use_one_thread

JOBS_PER_RANK = 8
"""Jobs for each rank between two exchanges: so many pieces are held at once."""


@dataclass
class Collective:
    """Run jobs on several ranks; the numbers are those of ``Serial``, bit for bit.

    Args:
        open: opens the rows of a worker.
        memory: what the workers of this rank kept; ``gather_memory`` gives that of all.
        ranks: by default those that ``torchrun`` started.
        share_pieces: whether pieces go to every rank; otherwise a ``ScatteredStore`` folds them.
    """

    open: OpenRows
    memory: MutableMapping[int, Memory] = field(default_factory=dict)
    ranks: Ranks = field(default_factory=join_ranks)
    share_pieces: bool = True

    @property
    def transfers(self) -> Transfers:
        """What this rank sent to others and waited for."""
        return self.ranks.transfers

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        jobs = iter(jobs)
        with use_one_thread():
            while found := self.window(solve, islice(jobs, JOBS_PER_RANK * self.ranks.size)):
                yield from found

    def window(self, solve: Solve, jobs: Iterable[Job]) -> list[Reply]:
        """Run our jobs among some, and give the replies to all of them."""
        mine: dict[int, Any] = {}
        here: dict[int, Reply] = {}
        count, failed = 0, False
        for place, job in enumerate(jobs):
            count = place + 1
            if job.worker % self.ranks.size == self.ranks.rank and not failed:
                try:
                    here[place] = self.work(solve, job)
                    mine[place] = (
                        here[place] if self.share_pieces else strip_reply(job, here[place])
                    )
                except WorkerError as error:
                    mine[place], failed = error, True
        if not count:
            return []
        told: dict[int, Any] = {}
        for some in self.ranks.gather(mine):
            told.update(some)
        sent = sum(
            reply.up_bytes if self.share_pieces else count_bytes(reply.answer)
            for reply in here.values()
        )
        self.transfers.sent_bytes += sent * (self.ranks.size - 1)
        for place in sorted(told):
            if isinstance(told[place], WorkerError):
                raise told[place]
        return [here[place] if place in here else told[place] for place in range(count)]

    def work(self, solve: Solve, job: Job) -> Reply:
        """Run one job."""
        kept = self.memory.get(job.worker, {})
        reply, after = run_job(solve, job, open_job_rows(self.open, job), kept, run_steps_in_place)
        if after:
            self.memory[job.worker] = after
        return reply

    def close(self) -> None:
        """Hold nothing open: the ranks may play another run."""


def gather_memory(memory: MutableMapping[int, Memory], ranks: Ranks) -> dict[int, Memory]:
    """Give every rank what the workers of all ranks keep; each tells of its own."""
    own = {worker: kept for worker, kept in memory.items() if worker % ranks.size == ranks.rank}
    whole: dict[int, Memory] = {}
    for some in ranks.gather(own):
        whole.update(some)
    return dict(sorted(whole.items()))


def drop_numbers(tensors: Params) -> dict[str, Tensor]:
    """Give the shapes of some tensors, without their numbers."""
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}


def copy_bytes(tensor: Tensor) -> Tensor:
    """Give the bytes of a tensor, flat, on the CPU."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)


def strip_reply(job: Job, reply: Reply) -> Reply:
    """Leave the tensors of a piece behind, and say how far they went from those of the job."""
    optimizer_state = {
        section: drop_numbers(tensors) for section, tensors in reply.optimizer_state.items()
    }
    change = measure_change(job.piece, reply.piece)
    for tensors in reply.optimizer_state.values():
        change += 0.0 * measure_change({}, tensors)  # no number where one of these is none
    piece = drop_numbers(reply.piece)
    return replace(reply, piece=piece, optimizer_state=optimizer_state, change=change)


@dataclass(frozen=True)
class ScatteredStore:
    """The whole at every rank, folded in slices: each rank adds up one and gives it to the others.

    Args:
        ranks: who folds.
        params: the whole.
        axes: of the model.
        entries: what was added: pieces of other ranks are on the device ``meta``.
    """

    ranks: Ranks
    params: Params
    axes: Axes
    entries: list[tuple[Part, Params, Precision]] = field(default_factory=list)

    def take(self, part: Part, /) -> Params:
        return take_piece(self.params, self.axes, part)

    def add(self, part: Part, piece: Params, precision: Precision, /) -> None:
        self.entries.append((part, piece, precision))

    def close(self) -> tuple[Params, Params]:
        even = [name for name in self.params if self.is_even(name)]
        merged, held = self.fold_cut(frozenset(even))
        some = sum(know.scalar for _, _, know in self.entries) > 0
        for name, tensor in self.fold_slices(even).items():
            old = self.params[name]
            merged[name] = tensor.to(old.device) if some else old
            shape = [1] * tensor.ndim
            held[name] = torch.full(shape, fill_value=some, device=merged[name].device)
        return {name: merged[name] for name in self.params}, held

    def is_even(self, name: str) -> bool:
        """Say whether every piece has a parameter whole, known equally well in all entries."""
        whole = self.params[name]
        return (
            bool(self.entries)
            and whole.dtype == torch.float32
            and all(
                name in piece and know.flat(name) and not find_cuts(self.axes, part, name, whole)
                for part, piece, know in self.entries
            )
        )

    def fold_cut(self, even: frozenset[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Fold what is cut: every rank gets every piece and folds alike."""
        total = Total()
        for place, piece in sorted(self.gather_pieces(even).items()):
            part, _, know = self.entries[place]
            fold_piece(total, self.params, self.axes, part, piece, know)
        merged, held = divide_sums(total, self.params)
        return dict(merged), dict(held)

    def gather_pieces(self, even: frozenset[str]) -> dict[int, dict[str, Tensor]]:
        """Give every rank what is cut of every piece, by its place among the entries."""
        if len(even) == len(self.params):
            return {}
        cut = [{n: t for n, t in piece.items() if n not in even} for _, piece, _ in self.entries]
        flat = [copy_bytes(tensor) for place in self.places for tensor in cut[place].values()]
        order = self.ranks.gather(self.places)
        sizes = [sum(count_bytes(cut[place]) for place in places) for places in order]
        boxes = self.ranks.gather_flat(torch.cat([torch.empty(0, dtype=torch.uint8), *flat]), sizes)
        found: dict[int, dict[str, Tensor]] = {}
        for places, box in zip(order, boxes, strict=True):
            kept = [(place, name, t) for place in places for name, t in cut[place].items()]
            parcels = box.split([count_bytes({"": t}) for _, _, t in kept])
            for (place, name, like), parcel in zip(kept, parcels, strict=True):
                # A copy, for numbers want their own alignment.
                tensor = parcel.clone().view(like.dtype).view(like.shape)
                found.setdefault(place, {})[name] = tensor.to(self.params[name].device)
        return found

    @property
    def places(self) -> list[int]:
        """The places, among the entries, of the pieces that are here."""
        return [
            place
            for place, (_, piece, _) in enumerate(self.entries)
            if not any(tensor.is_meta for tensor in piece.values())
        ]

    def fold_slices(self, names: list[str]) -> dict[str, Tensor]:
        """Fold what is whole: slice r of every piece goes to rank r, and the mean of it to all."""
        if not names:
            return {}
        pieces = [self.entries[place][1] for place in self.places]
        ours = [torch.cat([p[name].detach().cpu().flatten() for name in names]) for p in pieces]
        old = [self.params[name] for name in names]
        length, size = sum(tensor.numel() for tensor in old), self.ranks.size
        lengths = [len(some) for some in torch.empty(length, device="meta").tensor_split(size)]
        order = self.ranks.gather(self.places)
        cut = [piece.split(lengths) for piece in ours]
        parcels = [torch.cat([torch.empty(0), *(c[to] for c in cut)]) for to in range(size)]
        mine = lengths[self.ranks.rank]
        boxes = self.ranks.all_to_all(parcels, [mine * len(some) for some in order])
        slices: dict[int, Tensor] = {}
        for some, box in zip(order, boxes, strict=True):
            slices.update(zip(some, box.view(len(some), mine), strict=True))
        whole = torch.cat(self.ranks.gather_flat(self.mean(slices, mine), lengths))
        parts = whole.split([tensor.numel() for tensor in old])
        return {n: p.view_as(t).clone() for n, p, t in zip(names, parts, old, strict=True)}

    def mean(self, slices: dict[int, Tensor], length: int) -> Tensor:
        """Weigh and add slices in job order, as ``Total`` does, and divide."""
        sums, mass = torch.zeros(length), torch.zeros(1)
        for place, (_, _, know) in enumerate(self.entries):
            sums.add_(slices[place] if know.scalar == 1.0 else slices[place] * know.scalar)
            mass.add_(know.scalar)
        return sums / torch.where(mass > 0, mass, 1.0)
