"""The two ends of a coded wire: the server's, and the worker's, which remembers what it left out.

What is coded are trained numbers of floating point, where the code is smaller than they are.
Buffers, integers, memory that travels, weights and answers pass as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moiety.core.axes import Axes, Part, add_at_positions, find_cuts, take_piece
from moiety.core.state import CODED, Job, Reply, Update
from moiety.core.streams import stream
from moiety.core.types import Carry, Memory, Params
from moiety.solve.wrapped import FinishedJob
from moiety.wire.chain import Chain, OpenStream, decode_tensors, encode_tensors

LEFT = "left"
"""The section of a worker's memory: what it could not send yet, on the axes of the whole."""

UP, DOWN = "wire.up", "wire.down"
"""Purposes of the streams from which codes draw."""


def open_streams(job: Job, purpose: str) -> OpenStream:
    """Open the streams of a job's tensors, by their names."""
    return lambda name: stream(job.seed, job.round, job.worker, purpose, name)


@dataclass(frozen=True)
class CodedWire:
    """The server's end.

    Where the way up is coded as a difference, that is added to the piece that the server has, not
    to the code of it that the worker saw: what the way down rounds off moves where workers begin,
    and never enters the model.

    Args:
        up: of replies; None sends them as they are.
        down: of jobs and questions; None sends them as they are.
        whole: the shapes of all parameters.
        axes: of the model.
        trained: names of the parameters that may be coded.
    """

    up: Chain | None
    down: Chain | None
    whole: Params
    axes: Axes
    trained: frozenset[str]

    def choose(self, chain: Chain, tensors: Params) -> dict[str, Tensor]:
        """Choose the tensors that are coded."""
        return {n: t for n, t in tensors.items() if n in self.trained and chain.shrinks(t)}

    def pack(self, job: Job, /) -> Job:
        if self.down is None:
            return job
        chosen = self.choose(self.down, job.piece)
        return replace(job, code=encode_tensors(self.down, chosen, open_streams(job, DOWN)))

    def open(self, job: Job, /) -> Job:
        if self.down is None or not job.code:
            return job
        coded = job.code.get(CODED, {})
        here = coded.keys() <= job.piece.keys()  # at a node there are the codes alone
        forms = job.piece if here else take_piece(self.whole, self.axes, job.share.part)
        found = decode_tensors(self.down, job.code, {name: forms[name] for name in coded})
        return replace(job, piece={n: found[n] if n in found else job.piece[n] for n in forms})

    def read(self, job: Job, reply: Reply, /) -> Reply:
        if reply.fault or (reply.answer and not reply.piece and not reply.code):
            return reply
        if self.up is None:
            if reply.code:
                raise ValueError("it is coded, but no code was agreed on for replies")
            return reply
        forms = self.choose(self.up, job.piece)
        plain = [name for name in forms if name in reply.piece]
        if plain:
            raise ValueError(f"{plain[:3]} are not coded")
        found = decode_tensors(self.up, reply.code, forms)
        if self.up.delta:
            found = {name: job.piece[name] + change for name, change in found.items()}
        return replace(reply, piece={**reply.piece, **found})


@dataclass(frozen=True)
class CodedSender:
    """The worker's end: places of a wrapped solver.

    With a chain that leaves entries out, ``x`` what the worker made of the piece ``x_0``, ``e``
    what it remembers and ``Q`` the code: it sends ``Q(x - x_0 + e)`` and remembers
    ``x - x_0 + e - Q(x - x_0 + e)``. So all that was sent and what is remembered are together all
    that changed. Memory lies on the whole: what was left out of a unit waits until its worker
    holds that unit again.

    Args:
        wire: the server's end.
        chain: of replies.
    """

    wire: CodedWire
    chain: Chain

    def begin(self, carry: Carry, job: Job, memory: Memory, /) -> Carry:
        if not self.chain.drops:
            return carry
        names = self.wire.choose(self.chain, job.piece)
        zeros = {n: t.new_zeros(self.wire.whole[n].shape) for n, t in names.items()}
        return {**carry, LEFT: {**zeros, **memory.get(LEFT, {})}}

    def end(self, update: Update, done: FinishedJob, /) -> Update:
        job, sent = done.job, done.job.piece
        chosen = self.wire.choose(self.chain, update.piece)
        if self.chain.delta:
            chosen = {name: tensor - sent[name] for name, tensor in chosen.items()}
        memory = update.memory
        left = done.carry[LEFT] if self.chain.drops else {}
        part = job.share.part
        if left:
            here = take_piece({n: left[n] for n in chosen}, self.wire.axes, part)
            chosen = {name: tensor + here[name] for name, tensor in chosen.items()}
        code = encode_tensors(self.chain, chosen, open_streams(job, UP))
        if left:
            got = decode_tensors(self.chain, code, chosen)
            rest = {name: tensor - got[name] for name, tensor in chosen.items()}
            memory = {**memory, LEFT: self.remember(left, part, rest)}
        plain = {n: t for n, t in update.piece.items() if n not in chosen}
        return replace(update, piece=plain, code=code, memory=memory)

    def remember(self, left: Params, part: Part, rest: Mapping[str, Tensor]) -> Params:
        """Lay what is left of a piece where it lies in the whole."""
        found = dict(left)
        for name, tensor in rest.items():
            where = find_cuts(self.wire.axes, part, name, left[name])
            found[name] = put_at_positions(left[name], where, tensor) if where else tensor
        return found


def put_at_positions(whole: Tensor, where: list[tuple[int, Tensor]], tensor: Tensor) -> Tensor:
    """Give a whole with other values at the positions kept of each cut dim.

    >>> put_at_positions(torch.ones(3), [(0, torch.tensor([0, 2]))], torch.zeros(2)).tolist()
    [0.0, 1.0, 0.0]
    """
    held = torch.zeros_like(whole)
    add_at_positions(held, where, torch.ones_like(tensor))
    laid = torch.zeros_like(whole)
    add_at_positions(laid, where, tensor)
    return torch.where(held > 0, laid, whole)
