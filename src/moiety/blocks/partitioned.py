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

from moiety.blocks.forms import form_of
from moiety.blocks.memory import walk_owned
from moiety.blocks.peers import come_home, keep, pass_on, passable
from moiety.blocks.shards import PARAMS, Away, Sections, Shards
from moiety.blocks.slices import deal_out, fold, hand_in
from moiety.core.axes import Axes, Part
from moiety.core.protocols import Method, jump
from moiety.core.rows import Open
from moiety.core.state import Job, Record, Share, State, Turn
from moiety.core.streams import SERVER, stream
from moiety.engine.work import one_thread, opened, work


def check(method: Method) -> None:
    """Refuse what cannot be played without a whole anywhere.

    Raises:
        ValueError: with the remedy.
    """
    form, solve = form_of(method.model), method.solve
    dealt_axes = set(getattr(method.split, "sizes", ()))
    for name, entries in method.model.axes.items():
        cut = dealt_axes.intersection(map(str, entries))
        if cut and form.dim(name) is None:
            raise ValueError(
                f"{name} is dealt along {cut}, but lies in "
                "no blocks: the network has no hidden layer; take engine='collective', or give "
                "net.hidden a layer"
            )
    kept = getattr(solve, "moments", "reset") == "keep" or bool(getattr(solve, "own", {}))
    if getattr(solve, "terms", ()):
        raise ValueError(
            f"{method.name} penalises the way from where a worker began, of which a rank in blocks "
            "keeps no copy; take engine='collective'"
        )
    if method.probe is not None or method.outer is not jump or kept:
        raise ValueError(
            f"{method.name} asks workers, steps at the server or leaves memory with workers, which "
            "needs the whole; take ist or gist with local.moments='reset' or 'carry', or "
            "engine='collective'"
        )


@dataclass(frozen=True)
class Partitioned:
    """Plays rounds on blocks.

    Args:
        method: deals the axes of an outline; its split and solver are used.
        open: opens the rows of a worker.
        seed: of the run.
        places: how many workers there are in a round, where fewer may turn up.
        peers: whether hands pass straight from worker to worker, where each rank has one.
    """

    method: Method
    open: Open
    seed: int
    peers: bool = False
    places: int = 0

    def begin(self, shards: Shards) -> Shards:
        """Draw the first values of our blocks."""
        return shards.begin(self.seed, self.method.solve)

    def shares(self, roster: Sequence[int], number: int) -> Mapping[int, Share]:
        """Deal the hands of a round; every rank comes to the same."""
        rng = stream(self.seed, number, SERVER, "split")
        turn = Turn(number, tuple(roster), {}, rng, self.places)
        return self.method.split(State({}, round=number), turn)

    def play(self, shards: Shards, roster: Sequence[int]) -> list[Record]:
        """Play one round; the blocks of ``shards`` change in place.

        Returns:
            What each worker of the roster tells about its work.
        """
        shares = self.shares(roster, shards.round)
        if self.peers and passable(shards, shares):
            told = self.pass_round(shards, shares)
        else:
            come_home(shards)
            shards.away = None
            told = self.deal_round(shards, shares)
        shards.round += 1
        return told

    def pass_round(self, shards: Shards, shares: Mapping[int, Share]) -> list[Record]:
        """Play a round in which every rank has a worker, and hands pass between them."""
        parts = [share.part for share in shares.values()]
        piece = pass_on(shards, parts) if shards.away else dealt(shards, parts)
        told, piece = self.train(shards, shares, list(shares), piece)
        shards.away = Away(parts, keep(shards, parts, piece))
        return told

    def deal_round(self, shards: Shards, shares: Mapping[int, Share]) -> list[Record]:
        """Play a round by way of the owners, as many workers at a time as there are ranks."""
        ranks, told = shards.ranks, list[Record]()
        came = {(section, name): [] for section, name, _ in shards.tensors()}
        workers = list(shares)
        for begin in range(0, len(workers), ranks.size):
            wave = workers[begin : begin + ranks.size]
            parts = [shares[worker].part for worker in wave]
            parts += [nothing(shards.model.axes)] * (ranks.size - len(wave))
            records, piece = self.train(shards, shares, wave, dealt(shards, parts))
            told += records
            for section, name, _ in shards.tensors():
                back = hand_in(shards, name, parts, piece[section].pop(name))
                came[section, name] += back[: len(wave)]
        for section, name, block in shards.tensors():
            fold(block, came.pop((section, name)), shards.dim(name, block))
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
        worker, slots = wave[rank], {s: t for s, t in piece.items() if s != PARAMS}
        job = Job(self.seed, shards.round, worker, shares[worker], piece[PARAMS], slots=slots)
        try:
            with one_thread():
                rows = opened(self.open, job)
                reply, _ = work(self.method.solve, job, rows, {}, walk_owned)
        except RuntimeError as error:
            return error, piece
        sent = {section: dict(tensors) for section, tensors in reply.slots.items()}
        return reply.record, {PARAMS: dict(reply.piece), **sent}


def dealt(shards: Shards, parts: Sequence[Part]) -> Sections:
    """Bring our worker's piece together from the owners of its slices."""
    piece: Sections = {}
    for section, name, block in shards.tensors():
        piece.setdefault(section, {})[name] = deal_out(shards, name, block, parts)
    return piece


def nothing(axes: Axes) -> Part:
    """Give the part of a rank without a worker: no index of any axis, dealt or shared."""
    named = {str(entry) for entries in axes.values() for entry in entries if entry is not None}
    return Part(dict.fromkeys(sorted(named), torch.empty(0).long()))
