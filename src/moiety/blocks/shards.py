"""The blocks of one rank, of a model of which no rank ever holds the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from moiety.blocks.form import BlockForm
from moiety.blocks.forms import find_form
from moiety.core.axes import Axes, Part
from moiety.core.solver import Solve
from moiety.core.types import Params
from moiety.engine.ranks import Ranks

PARAMS = "params"
"""The section of the parameters; others are those of the optimiser's memory that travels."""

Sections = dict[str, dict[str, Tensor]]
"""Section -> name -> tensor."""


@dataclass(frozen=True)
class PassedPieces:
    """The pieces that workers keep between rounds, where subnets pass from worker to worker.

    Args:
        parts: of every rank's worker.
        piece: of ours; tensors that lie in no blocks are not among them.
        blocks_current: whether the blocks have been brought up to date since.
    """

    parts: Sequence[Part]
    piece: Sections
    blocks_current: bool = False


@dataclass
class Shards:
    """The blocks of one rank. They are changed in place: a second copy is what is to be saved.

    Args:
        model: shapes and axes, on the device ``meta``.
        ranks: who holds the others.
        sections: our block of every tensor.
        round: rounds folded so far.
        passed: what is newer than the blocks, and where.
    """

    model: Any
    ranks: Ranks
    sections: Sections = field(default_factory=lambda: {PARAMS: {}})
    round: int = 0
    passed: PassedPieces | None = None
    form: BlockForm = field(init=False)

    def __post_init__(self) -> None:
        self.form = find_form(self.model)

    @property
    def axes(self) -> Axes:
        """The axes of the model."""
        return self.model.axes

    @property
    def params(self) -> dict[str, Tensor]:
        """Our block of every parameter."""
        return self.sections[PARAMS]

    def tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        """Go through all our blocks: section, name, tensor."""
        for section, tensors in self.sections.items():
            for name, tensor in tensors.items():
                yield section, name, tensor

    def dim(self, name: str, tensor: Tensor) -> int | None:
        """Name the dim along which a tensor lies in blocks; None where every rank has it whole.

        What has no dims (a count of steps, in the optimiser's memory) is whole.
        """
        return self.form.dim(name) if tensor.ndim else None

    def block(self, name: str, rank: int) -> range:
        """Name the indices, along its dim, that a rank owns: as ``torch.chunk`` cuts."""
        dim = self.form.dim(name)
        assert dim is not None
        return find_block(self.model.params[name].shape[dim], rank, self.ranks.size)

    def owners(self, name: str) -> Tensor:
        """Say of each index along the dim of a parameter which rank owns it."""
        found = torch.empty(self.model.params[name].shape[self.form.dim(name)], dtype=torch.long)
        for rank in range(self.ranks.size):
            own = self.block(name, rank)
            found[own.start : own.stop] = rank
        return found

    def shape(self, name: str) -> list[int]:
        """Give the shape of our block of a parameter."""
        whole, dim = self.model.params[name].shape, self.form.dim(name)
        own = len(self.block(name, self.ranks.rank)) if dim is not None else 0
        return [own if d == dim else size for d, size in enumerate(whole)]

    def begin(self, seed: int, solve: Solve | None = None) -> Shards:
        """Draw the first values of our blocks.

        Args:
            seed: of the run.
            solve: brings the optimiser's memory, where it travels.
        """
        for name, whole in self.model.params.items():
            units = range(whole.shape[-1])
            if self.form.dim(name) is not None:
                units = self.block(name, self.ranks.rank)
            self.params[name] = self.form.first(name, units, seed)
        self.open_optimizer_state(solve)
        return self

    def open_optimizer_state(self, solve: Solve | None) -> None:
        """Start the travelling memory of the optimiser, where a solver has any."""
        optimizer_state = solve.first_optimizer_state(self.params) if solve is not None else {}
        assert PARAMS not in optimizer_state
        self.sections.update(
            {section: dict(tensors) for section, tensors in optimizer_state.items()}
        )


def find_block(size: int, rank: int, count: int) -> range:
    """Give a rank's share of some indices.

    >>> [list(find_block(7, rank, 3)) for rank in range(3)]
    [[0, 1, 2], [3, 4, 5], [6]]
    """
    step = -(-size // count)
    return range(min(size, rank * step), min(size, (rank + 1) * step))


def gather_whole(shards: Shards, section: str = PARAMS) -> Params:
    """Bring the whole together at every rank: for tests of small models alone."""
    told = shards.ranks.gather(shards.sections[section])
    return {
        name: told[0][name] if dim is None else torch.cat([blocks[name] for blocks in told], dim)
        for name, tensor in shards.sections[section].items()
        for dim in (shards.dim(name, tensor),)
    }
