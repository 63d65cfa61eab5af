"""A model of which no rank ever holds the whole: each stores one block of every dealt tensor.

Every rank is a server for its block and works for some workers (``k mod n`` for the k-th of a
round). All deal the same hands from the seed, so no index is sent: owners send each worker's rank
the slices of its piece, and get them back trained; ``2 (n - 1) / n`` of a piece leaves a rank in a
round. Owners fold what came back as ``core.fold`` does, some rows at a time. Tensors without a
dealt axis are small and stand whole at every rank. arXiv:1910.02120; spec of bytes: 9.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from moiety.core.axes import Axes, Part
from moiety.core.fold import Precision, Total, close, lift
from moiety.core.protocols import Method, jump
from moiety.core.rows import Open
from moiety.core.state import Job, Record, Share, State, Turn
from moiety.core.streams import SERVER, stream
from moiety.core.types import Params
from moiety.engine.owned import walk_owned
from moiety.engine.ranks import Ranks
from moiety.engine.work import one_thread, work
from moiety.models.normed import NormedMLP
from moiety.models.sharded import first_values

AT_ONCE, STRIPES = 1 << 13, 64
"""Numbers of a block that are folded at once, and into how many stripes a large block is cut: sums
and masses need a few times as much as a stripe."""


@dataclass
class Shards:
    """The blocks of one rank. They are changed in place: a second copy is what is to be saved.

    Args:
        model: shapes and axes, on the device ``meta``.
        ranks: who holds the others.
        params: our block of every tensor.
        round: rounds folded so far.
    """

    model: NormedMLP
    ranks: Ranks
    params: dict[str, Tensor] = field(default_factory=dict)
    round: int = 0

    @property
    def axes(self) -> Axes:
        """The axes of the model."""
        return self.model.axes

    def dim(self, name: str) -> int | None:
        """Name the dim along which a tensor lies in blocks; None where every rank has it whole."""
        entries = self.axes.get(name, ())
        return next((place for place, entry in enumerate(entries) if entry is not None), None)

    def block(self, name: str, rank: int) -> range:
        """Name the indices, along its dim, that a rank owns: as ``torch.chunk`` cuts."""
        dim = self.dim(name)
        assert dim is not None
        return block_of(self.model.params[name].shape[dim], rank, self.ranks.size)

    def begin(self, seed: int) -> Shards:
        """Draw the first values of our blocks."""
        for name, whole in self.model.params.items():
            dim = self.dim(name)
            units = range(whole.shape[0]) if dim is None else self.block(name, self.ranks.rank)
            self.params[name] = first_values(self.model, name, dim or 0, units, seed)
        return self


def block_of(size: int, rank: int, count: int) -> range:
    """Give a rank's share of some indices.

    >>> [list(block_of(7, rank, 3)) for rank in range(3)]
    [[0, 1, 2], [3, 4, 5], [6]]
    """
    step = -(-size // count)
    return range(min(size, rank * step), min(size, (rank + 1) * step))


def check(method: Method) -> None:
    """Refuse what cannot be played without a whole anywhere.

    Raises:
        ValueError: with the remedy.
    """
    if not isinstance(method.model, NormedMLP):
        raise ValueError(  # noqa: TRY004 (a choice of the user, as below)
            f"a {type(method.model).__name__} has no forward pass in blocks of units; take "
            "--net.kind normed, or engine='collective', which keeps the whole at every rank"
        )
    solve: object = method.solve
    kept = getattr(solve, "moments", "reset") != "reset" or bool(getattr(solve, "own", {}))
    if method.probe is not None or method.outer is not jump or kept:
        raise ValueError(
            f"{method.name} asks workers, steps at the server or keeps optimiser memory, which "
            "needs the whole; take ist with local.moments='reset', or engine='collective'"
        )


@dataclass(frozen=True)
class Slice:
    """Where a worker's piece meets a rank's block.

    Args:
        cut: dim of the block -> positions in the block, other dims -> positions in the whole.
        place: where along the dim of the block these lie in the piece.
        shape: of the slice.
    """

    cut: Mapping[int, Tensor]
    place: Tensor
    shape: tuple[int, ...]


def meet(shards: Shards, name: str, part: Part, rank: int) -> Slice:
    """Find where a part meets the block of a rank."""
    dim, own, cut = shards.dim(name), shards.block(name, rank), {}
    place, shape = torch.empty(0), list(shards.model.params[name].shape)
    for d, axis in enumerate(shards.axes[name]):
        if d == dim:
            kept = part.axes.get(str(axis), torch.arange(shape[d]))
            inside = (kept >= own.start) & (kept < own.stop)
            cut[d], place = kept[inside] - own.start, inside.nonzero()[:, 0]
            shape[d] = len(place)
        elif axis is not None and str(axis) in part.axes:
            cut[d] = part.axes[str(axis)]
            shape[d] = len(cut[d])
    return Slice(cut, place, tuple(shape))


def taken(tensor: Tensor, cut: Mapping[int, Tensor]) -> Tensor:
    """Cut a slice out of a block, by one copy."""
    if len(cut) == 2:
        return tensor[cut[0][:, None], cut[1]]
    for dim, kept in cut.items():
        tensor = tensor.index_select(dim, kept)
    return tensor


def deal_out(shards: Shards, name: str, parts: Sequence[Part]) -> Tensor:
    """Send every worker's rank its slices of a tensor; our worker's piece of it comes back.

    Args:
        shards: the blocks.
        name: of the tensor.
        parts: one for each rank, ``Part()`` with no rows where a rank has no worker.
    """
    if shards.dim(name) is None:
        return shards.params[name].clone()
    ranks, dim = shards.ranks, shards.dim(name)
    assert dim is not None
    mine = [meet(shards, name, parts[ranks.rank], rank) for rank in range(ranks.size)]
    sizes = [torch.Size(one.shape).numel() for one in mine]
    cuts = [meet(shards, name, part, ranks.rank).cut for part in parts]
    boxes = ranks.swap([taken(shards.params[name], cut).flatten() for cut in cuts], sizes)
    shape = list(mine[0].shape)
    shape[dim] = sum(one.shape[dim] for one in mine)
    piece = torch.empty(shape)
    for one, box in zip(mine, boxes, strict=True):
        piece.index_copy_(dim, one.place, box.view(one.shape))
    return piece


def hand_in(
    shards: Shards, name: str, parts: Sequence[Part], piece: Tensor
) -> list[tuple[Slice, Tensor]]:
    """Send trained slices to their owners; what came to us, one from each rank."""
    ranks, dim = shards.ranks, shards.dim(name)
    if dim is None:
        sizes = [piece.numel()] * ranks.size
        whole = Slice({}, torch.empty(0), tuple(piece.shape))
        return [(whole, box.view(piece.shape)) for box in ranks.spread(piece.flatten(), sizes)]
    mine = [meet(shards, name, parts[ranks.rank], rank) for rank in range(ranks.size)]
    flat = [piece.index_select(dim, one.place).flatten() for one in mine]
    del piece  # or it would be held twice while it travels
    theirs = [meet(shards, name, part, ranks.rank) for part in parts]
    boxes = ranks.swap(flat, [torch.Size(one.shape).numel() for one in theirs])
    return [(one, box.view(one.shape)) for one, box in zip(theirs, boxes, strict=True)]


def fold(block: Tensor, came: Sequence[tuple[Slice, Tensor]], dim: int) -> None:
    """Put the mean over holders into a block, in place, some of its indices at a time."""
    entries = tuple(f"d{d}" for d in range(block.ndim))
    some = max(AT_ONCE, block.numel() // STRIPES)
    stride = max(1, some * block.shape[dim] // max(1, block.numel()))
    for begin in range(0, block.shape[dim], stride):
        old = block.narrow(dim, begin, min(stride, block.shape[dim] - begin))
        total = Total()
        for one, tensor in came:
            kept = one.cut.get(dim, torch.arange(block.shape[dim]))
            inside = ((kept >= begin) & (kept < begin + old.shape[dim])).nonzero()[:, 0]
            axes = {f"d{d}": index for d, index in one.cut.items()}
            axes[f"d{dim}"] = kept[inside] - begin
            part = {"t": tensor.index_select(dim, inside)}
            lift(total, {"t": old}, {"t": entries}, Part(axes), part, Precision())
        old.copy_(close(total, {"t": old})[0]["t"])


@dataclass(frozen=True)
class Partitioned:
    """Plays rounds on blocks.

    Args:
        method: ``ist`` on an ``outline``; its split and solver are used.
        open: opens the rows of a worker.
        seed: of the run.
    """

    method: Method
    open: Open
    seed: int

    def shares(self, roster: Sequence[int], number: int) -> Mapping[int, Share]:
        """Deal the hands of a round; every rank comes to the same."""
        rng = stream(self.seed, number, SERVER, "split")
        return self.method.split(State({}, round=number), Turn(number, tuple(roster), {}, rng))

    def play(self, shards: Shards, roster: Sequence[int]) -> list[Record]:
        """Play one round; the blocks of ``shards`` change in place.

        Returns:
            What each worker of the roster tells about its work.
        """
        shares, ranks = self.shares(roster, shards.round), shards.ranks
        came: dict[str, list[tuple[Slice, Tensor]]] = {name: [] for name in shards.params}
        told: list[Record] = []
        workers = list(shares)
        for begin in range(0, len(workers), ranks.size):
            wave = workers[begin : begin + ranks.size]
            parts = [shares[worker].part for worker in wave]
            parts += [nothing(parts[0])] * (ranks.size - len(wave))
            piece = {name: deal_out(shards, name, parts) for name in shards.params}
            record, piece = self.train(shards, shares, wave, piece)
            for found in ranks.gather(record)[: len(wave)]:
                if not isinstance(found, Record):
                    raise found
                told.append(found)
            for name in list(piece):
                back = hand_in(shards, name, parts, piece.pop(name))
                came[name] += back[: len(wave)]
        for name, block in shards.params.items():
            fold(block, came.pop(name), shards.dim(name) or 0)
        shards.round += 1
        return told

    def train(
        self,
        shards: Shards,
        shares: Mapping[int, Share],
        wave: Sequence[int],
        piece: dict[str, Tensor],
    ) -> tuple[Record | Exception, dict[str, Tensor]]:
        """Do the job of our worker of a wave, if there is one for us."""
        rank = shards.ranks.rank
        if rank >= len(wave):
            return Record(), piece
        job = Job(self.seed, shards.round, wave[rank], shares[wave[rank]], piece)
        try:
            with one_thread():
                reply, _ = work(self.method.solve, job, self.open(job.worker), {}, walk_owned)
        except RuntimeError as error:
            return error, piece
        return reply.record, dict(reply.piece)


def nothing(part: Part) -> Part:
    """Give the part of a rank without a worker."""
    return replace(part, axes={axis: torch.empty(0).long() for axis in part.axes})


def whole_of(shards: Shards) -> Params:
    """Bring the whole together at every rank: for tests of small models alone."""
    told = shards.ranks.gather(shards.params)
    return {
        name: told[0][name] if dim is None else torch.cat([blocks[name] for blocks in told], dim)
        for name in shards.params
        for dim in (shards.dim(name),)
    }
