"""A model of which no rank ever holds the whole: each stores one block of every dealt tensor.

Every rank is a server for its block and works for some workers (``k mod n`` for the k-th of a
round). All deal the same hands from the seed, so no index is sent: owners send each worker's rank
the slices of its piece, and get them back trained; ``2 (n - 1) / n`` of a piece leaves a rank in a
round. Owners fold what came back as ``core.fold`` does, some rows at a time. With ``peers``, hands
pass straight from worker to worker where they can. Tensors without a dealt axis are small and stand
whole at every rank. arXiv:1910.02120; spec of bytes: 9.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from moiety.blocks.forms import find_form
from moiety.blocks.memory import run_owned_steps
from moiety.blocks.peers import average_shared, is_passable, pass_pieces, update_blocks
from moiety.blocks.shards import PARAMS, PassedPieces, Sections, Shards
from moiety.blocks.slices import fold_slices, return_slices, send_slices
from moiety.core.axes import Axes, Part
from moiety.core.protocols import Method, adopt_merged
from moiety.core.rows import OpenRows
from moiety.core.solver import Descent
from moiety.core.state import Job, Record, Share, State, Turn
from moiety.core.streams import SERVER, stream
from moiety.engine.work import open_job_rows, run_job, use_one_thread


def check_partitioned(method: Method) -> None:
    """Refuse what cannot be played without a whole anywhere.

    Raises:
        ValueError: with the remedy.
    """
    form, solve = find_form(method.model), method.solve
    dealt_axes = set(getattr(method.split, "sizes", ()))
    for name, entries in method.model.axes.items():
        cut = dealt_axes.intersection(map(str, entries))
        if cut and form.dim(name) is None:
            raise ValueError(
                f"{name} is dealt along {cut}, but lies in "
                "no blocks: the network has no hidden layer; take engine='collective', or give "
                "net.hidden a layer"
            )
    if isinstance(solve, Descent) and solve.needs_origin:
        raise ValueError(
            f"{method.name} penalises the way from where a worker began, of which a rank in blocks "
            "keeps no copy; take engine='collective'"
        )
    if method.query is not None or method.server is not adopt_merged or solve.keeps_memory:
        raise ValueError(
            f"{method.name} asks workers, steps at the server or leaves memory with workers, which "
            "needs the whole; take ist or gist with local.optimizer_state='reset' or 'send', or "
            "engine='collective'"
        )


@dataclass(frozen=True)
class Partitioned:
    """Plays rounds on blocks.

    Args:
        method: deals the axes of an outline; its split and solver are used.
        open: opens the rows of a worker.
        seed: of the run.
        concurrency: how many workers there are in a round, where fewer may turn up.
        peers: whether hands pass straight from worker to worker, where each rank has one.
    """

    method: Method
    open: OpenRows
    seed: int
    peers: bool = False
    concurrency: int = 0

    def begin(self, shards: Shards) -> Shards:
        """Draw the first values of our blocks."""
        return shards.begin(self.seed, self.method.solve)

    def shares(self, cohort: Sequence[int], number: int) -> Mapping[int, Share]:
        """Deal the hands of a round; every rank comes to the same."""
        rng = stream(self.seed, number, SERVER, "split")
        turn = Turn(number, tuple(cohort), {}, rng, self.concurrency)
        return self.method.split(State({}, round=number), turn)

    def play(self, shards: Shards, cohort: Sequence[int]) -> list[Record]:
        """Play one round; the blocks of ``shards`` change in place.

        Returns:
            What each worker of the roster tells about its work.
        """
        shares = self.shares(cohort, shards.round)
        if self.peers and is_passable(shards, shares):
            told = self.play_peers_round(shards, shares)
        else:
            update_blocks(shards)
            shards.passed = None
            told = self.play_owners_round(shards, shares)
        shards.round += 1
        return told

    def play_peers_round(self, shards: Shards, shares: Mapping[int, Share]) -> list[Record]:
        """Play a round in which every rank has a worker, and hands pass between them."""
        parts = [share.part for share in shares.values()]
        piece = pass_pieces(shards, parts) if shards.passed else receive_piece(shards, parts)
        told, piece = self.train(shards, shares, list(shares), piece)
        shards.passed = PassedPieces(parts, average_shared(shards, parts, piece))
        return told

    def play_owners_round(self, shards: Shards, shares: Mapping[int, Share]) -> list[Record]:
        """Play a round by way of the owners, as many workers at a time as there are ranks."""
        ranks, told = shards.ranks, list[Record]()
        came = {(section, name): [] for section, name, _ in shards.tensors()}
        workers = list(shares)
        for begin in range(0, len(workers), ranks.size):
            wave = workers[begin : begin + ranks.size]
            parts = [shares[worker].part for worker in wave]
            parts += [make_empty_part(shards.model.axes)] * (ranks.size - len(wave))
            records, piece = self.train(shards, shares, wave, receive_piece(shards, parts))
            told += records
            for section, name, _ in shards.tensors():
                back = return_slices(shards, name, parts, piece[section].pop(name))
                came[section, name] += back[: len(wave)]
        for section, name, block in shards.tensors():
            fold_slices(block, came.pop((section, name)), shards.dim(name, block))
        return told

    def train(
        self, shards: Shards, shares: Mapping[int, Share], wave: Sequence[int], piece: Sections
    ) -> tuple[list[Record], Sections]:
        """Do the job of our worker of a wave, if there is one for us; all hear of all."""
        mine, piece = self.job(shards, shares, wave, piece)
        told = []
        for found in shards.ranks.gather(mine)[: len(wave)]:
            if not isinstance(found, Record):
                raise found
            told.append(found)
        return told, piece

    def job(
        self, shards: Shards, shares: Mapping[int, Share], wave: Sequence[int], piece: Sections
    ) -> tuple[Record | Exception, Sections]:
        """Do a job; an error is told to all ranks before it is raised."""
        rank = shards.ranks.rank
        if rank >= len(wave):
            return Record(), piece
        worker, optimizer_state = wave[rank], {s: t for s, t in piece.items() if s != PARAMS}
        job = Job(
            self.seed,
            shards.round,
            worker,
            shares[worker],
            piece[PARAMS],
            optimizer_state=optimizer_state,
        )
        try:
            with use_one_thread():
                rows = open_job_rows(self.open, job)
                reply, _ = run_job(self.method.solve, job, rows, {}, run_owned_steps)
        except RuntimeError as error:
            return error, piece
        sent = {section: dict(tensors) for section, tensors in reply.optimizer_state.items()}
        return reply.record, {PARAMS: dict(reply.piece), **sent}


def receive_piece(shards: Shards, parts: Sequence[Part]) -> Sections:
    """Bring our worker's piece together from the owners of its slices."""
    piece: Sections = {}
    for section, name, block in shards.tensors():
        piece.setdefault(section, {})[name] = send_slices(shards, name, block, parts)
    return piece


def make_empty_part(axes: Axes) -> Part:
    """Give the part of a rank without a worker: no index of any axis, dealt or shared."""
    named = {str(entry) for entries in axes.values() for entry in entries if entry is not None}
    return Part(dict.fromkeys(sorted(named), torch.empty(0).long()))
