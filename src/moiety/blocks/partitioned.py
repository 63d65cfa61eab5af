"""A model of which no rank ever holds the whole: each stores one block of every assigned tensor.

Every rank is a server for its block and works for some workers (``k mod n`` for the k-th of a
round). All assign the same subnets from the seed, so no index is sent: owners send each worker's
rank the slices of its piece, and get them back trained; ``2 (n - 1) / n`` of a piece leaves a rank
in a round. Owners fold what came back as ``core.fold`` does, some rows at a time. With ``peers``,
subnets pass straight from worker to worker where they can. Tensors without an assigned axis are
small and stand whole at every rank. arXiv:1910.02120; spec of bytes: 9.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from moiety.blocks.forms import find_form
from moiety.blocks.memory import run_owned_steps
from moiety.blocks.peers import average_shared, is_passable, pass_pieces, update_blocks
from moiety.blocks.protocols import AssignsAxes
from moiety.blocks.shards import PARAMS, PassedPieces, Sections, Shards
from moiety.blocks.slices import fold_slices, return_slices, send_slices
from moiety.core.axes import Axes, Part
from moiety.core.ledger import Round
from moiety.core.protocols import Method, adopt_merged
from moiety.core.rows import OpenRows
from moiety.core.solver import Descent
from moiety.core.state import Job, Record, Reply, Share, State, Turn
from moiety.core.streams import SERVER, stream
from moiety.core.wire import PLAIN_WIRE
from moiety.engine.work import open_job_rows, run_job, use_one_thread
from moiety.rounds.cohort import CohortRule
from moiety.rounds.meter import Meter, Stopwatch


def check_partitioned(method: Method) -> None:
    """Refuse what cannot be played without a whole anywhere.

    Raises:
        ValueError: with the remedy.
    """
    form, solve, split = find_form(method.model), method.solve, method.split
    if not isinstance(split, AssignsAxes):
        raise ValueError(  # noqa: TRY004 (a choice, no wrong type)
            f"{method.name} gives wholes, or parts that hang on the state, and a rank in "
            "blocks has neither; say --methods ist (graphs: gist), or --engine collective, which "
            "keeps the whole at every rank"
        )
    assigned = set(split.sizes)
    for name, entries in method.model.axes.items():
        cut = assigned.intersection(map(str, entries))
        if cut and form.dim(name) is None:
            raise ValueError(
                f"{name} is assigned along {cut}, but lies in "
                "no blocks: the network has no hidden layer; take engine='collective', or give "
                "the network a layer (--normed.hidden 64)"
            )
    if isinstance(solve, Descent) and solve.needs_origin:
        raise ValueError(
            f"{method.name} penalises the way from where a worker began, of which a rank in blocks "
            "keeps no copy; take engine='collective'"
        )
    if method.wire is not PLAIN_WIRE:
        raise ValueError(
            f"{method.name} has a wire, but ranks in blocks send blocks and no replies; leave wire "
            "out, or take engine='collective'"
        )
    if method.query is not None or method.server is not adopt_merged or solve.keeps_memory:
        raise ValueError(
            f"{method.name} asks workers, steps at the server or leaves memory with workers, which "
            "needs the whole; take ist or gist with local.optimizer_state='reset' or 'send', or "
            "engine='collective'"
        )


@dataclass(frozen=True)
class BlockRounds:
    """Rounds on blocks, which change in place.

    Args:
        method: assigns the axes of an abstract model; its split and solver are used.
        open: opens the rows of a worker.
        cohort: who takes part.
        seed: of the run.
        peers: whether subnets pass straight from worker to worker, where each rank has one.
        concurrency: how many workers there are in a round, where fewer may turn up.
    """

    method: Method
    open: OpenRows
    cohort: CohortRule
    seed: int
    peers: bool = False
    concurrency: int = 0

    def begin(self, shards: Shards) -> Shards:
        """Draw the first values of our blocks."""
        return shards.begin(self.seed, self.method.solve)

    def advance(self, shards: Shards, /) -> tuple[Shards, Round]:
        """Play one round; bytes down and up are those of the pieces, as in any ledger."""
        meter = Meter(Stopwatch(shards.ranks.transfers))
        with meter.watch.time("split"):
            shares = self.split(shards.round)
        with meter.watch.time("merge"):
            if self.peers and is_passable(shards, shares):
                told = self.play_peers_round(shards, shares, meter.watch)
            else:
                update_blocks(shards)
                shards.passed = None
                told = self.play_owners_round(shards, shares, meter.watch)
        for (worker, share), record in zip(shares.items(), told, strict=True):
            size = count_piece_bytes(shards, share.part)
            meter.down[worker], meter.up[worker] = size, size
            meter.record_work(Reply(worker, share, {}, record=record))
        shards.round += 1
        return shards, meter.make_round(self.method, State({}, round=shards.round))

    def split(self, number: int) -> Mapping[int, Share]:
        """Say who holds what in a round; every rank comes to the same."""
        cohort = tuple(self.cohort(number, self.seed))
        rng = stream(self.seed, number, SERVER, "split")
        turn = Turn(number, cohort, {}, rng, self.concurrency)
        return self.method.split(State({}, round=number), turn)

    def play_peers_round(
        self, shards: Shards, shares: Mapping[int, Share], watch: Stopwatch
    ) -> list[Record]:
        """Play a round in which every rank has a worker, and subnets pass between them."""
        parts = [share.part for share in shares.values()]
        piece = pass_pieces(shards, parts) if shards.passed else receive_piece(shards, parts)
        told, piece = self.train(shards, shares, list(shares), piece, watch)
        shards.passed = PassedPieces(parts, average_shared(shards, parts, piece))
        return told

    def play_owners_round(
        self, shards: Shards, shares: Mapping[int, Share], watch: Stopwatch
    ) -> list[Record]:
        """Play a round by way of the owners, as many workers at a time as there are ranks."""
        ranks, told = shards.ranks, list[Record]()
        came = {(section, name): [] for section, name, _ in shards.tensors()}
        workers = list(shares)
        for begin in range(0, len(workers), ranks.size):
            group = workers[begin : begin + ranks.size]
            parts = [shares[worker].part for worker in group]
            parts += [make_empty_part(shards.model.axes)] * (ranks.size - len(group))
            piece = receive_piece(shards, parts)
            records, piece = self.train(shards, shares, group, piece, watch)
            told += records
            for section, name, _ in shards.tensors():
                back = return_slices(shards, name, parts, piece[section].pop(name))
                came[section, name] += back[: len(group)]
        for section, name, block in shards.tensors():
            fold_slices(block, came.pop((section, name)), shards.dim(name, block))
        return told

    def train(
        self,
        shards: Shards,
        shares: Mapping[int, Share],
        group: Sequence[int],
        piece: Sections,
        watch: Stopwatch,
    ) -> tuple[list[Record], Sections]:
        """Do the job of our worker of a group, if there is one for us; all hear of all."""
        mine: Record | Exception = Record()
        if shards.ranks.rank < len(group):
            worker = group[shards.ranks.rank]
            with watch.time("work"):
                mine, piece = self.work(shards.round, worker, shares[worker], piece)
        told = []
        for found in shards.ranks.gather(mine)[: len(group)]:
            if not isinstance(found, Record):
                raise found
            told.append(found)
        return told, piece

    def work(
        self, number: int, worker: int, share: Share, piece: Sections
    ) -> tuple[Record | Exception, Sections]:
        """Do one job; an error is told to all ranks before it is raised."""
        state = {section: tensors for section, tensors in piece.items() if section != PARAMS}
        job = Job(self.seed, number, worker, share, piece[PARAMS], optimizer_state=state)
        try:
            with use_one_thread():
                rows = open_job_rows(self.open, job)
                reply, _ = run_job(self.method.solve, job, rows, {}, run_owned_steps)
        except RuntimeError as error:
            return error, piece
        sent = {section: dict(tensors) for section, tensors in reply.optimizer_state.items()}
        return reply.record, {PARAMS: dict(reply.piece), **sent}


def count_piece_bytes(shards: Shards, part: Part) -> int:
    """Count the bytes of a piece by its shapes, and of the optimizer state that goes with it."""
    total = 0
    for _, name, block in shards.tensors():
        size = block.element_size()
        whole = shards.model.params[name].shape if block.ndim else ()
        for length, axis in zip(whole, shards.axes[name] if block.ndim else (), strict=True):
            size *= len(part.axes[str(axis)]) if str(axis) in part.axes else length
        total += size
    return total


def receive_piece(shards: Shards, parts: Sequence[Part]) -> Sections:
    """Bring our worker's piece together from the owners of its slices."""
    piece: Sections = {}
    for section, name, block in shards.tensors():
        piece.setdefault(section, {})[name] = send_slices(shards, name, block, parts)
    return piece


def make_empty_part(axes: Axes) -> Part:
    """Give the part of a rank without a worker: no index of any axis, assigned or shared."""
    named = {str(entry) for entries in axes.values() for entry in entries if entry is not None}
    return Part(dict.fromkeys(sorted(named), torch.empty(0).long()))
