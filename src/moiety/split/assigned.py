"""Every worker gets a subnet of each axis, assigned afresh every round.

Yuan et al., *Independent Subnet Training*, arXiv:1910.02120. All draws come from the stream of
the round, so that every party can assign for itself and no index need be sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from moiety.core.axes import Part
from moiety.core.state import Share, State, Turn
from moiety.core.streams import SERVER, stream


class Assignment(Protocol):
    """Assigns the indices of one axis to some workers."""

    def __call__(self, size: int, num: int, rng: Generator, /) -> list[Tensor]:
        """Give ``num`` subnets of the indices below ``size``; each sorted, none empty."""
        ...

    def share(self, size: int, num: int, /) -> float:
        """Give the expected share of the axis in a subnet."""
        ...


def check_axis_size(size: int, num: int) -> None:
    """Refuse to assign fewer indices than there are workers."""
    if size < num:
        raise ValueError(
            f"an axis of {size} cannot be assigned to {num} workers; widen the model, take fewer "
            "workers a round, or assign with overlap (quota, bernoulli)"
        )


@dataclass(frozen=True)
class RoundRobin:
    """Permute, and give out one by one: subnets are disjoint, their sizes differ by at most one."""

    def __call__(self, size: int, num: int, rng: Generator, /) -> list[Tensor]:
        check_axis_size(size, num)
        order = torch.randperm(size, generator=rng)
        return [order[place::num].sort().values for place in range(num)]

    def share(self, size: int, num: int, /) -> float:
        del size
        return 1 / num


@dataclass(frozen=True)
class Chunk:
    """Permute, and cut into equal consecutive chunks; the workers must divide the axis."""

    def __call__(self, size: int, num: int, rng: Generator, /) -> list[Tensor]:
        check_axis_size(size, num)
        if size % num:
            raise ValueError(
                f"{num} workers do not divide an axis of {size} into equal chunks; use round_robin"
            )
        order = torch.randperm(size, generator=rng)
        return [subnet.sort().values for subnet in order.chunk(num)]

    def share(self, size: int, num: int, /) -> float:
        del size
        return 1 / num


@dataclass(frozen=True)
class Stratified:
    """Permute within equal blocks, one a server, and assign each block to all workers.

    Args:
        servers: number of blocks; 0 for as many as there are workers.
    """

    servers: int = 0

    def __call__(self, size: int, num: int, rng: Generator, /) -> list[Tensor]:
        check_axis_size(size, num)
        subnets: list[list[Tensor]] = [[] for _ in range(num)]
        given = 0
        for block in torch.arange(size).tensor_split(self.servers or num):
            order = block[torch.randperm(len(block), generator=rng)]
            for place in range(num):  # go on where the last block ended, so that none is short
                subnets[(place + given) % num].append(order[place::num])
            given += len(block)
        return [torch.cat(subnet).sort().values for subnet in subnets]

    def share(self, size: int, num: int, /) -> float:
        del size
        return 1 / num


@dataclass(frozen=True)
class Quota:
    """Assign round robin, then fill up every subnet with random indices that it lacks.

    Args:
        keep: share of the axis in a subnet; 0 for no more than a fair subnet.
        least: indices in a subnet at least.
    """

    keep: float = 0.0
    least: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= 1 or self.least < 1:
            raise ValueError(f"{self}: choose 0 <= keep <= 1 and least >= 1")

    def count(self, size: int, num: int) -> int:
        """Give the indices of a subnet."""
        return min(size, max(-(-size // num), round(self.keep * size), self.least))

    def __call__(self, size: int, num: int, rng: Generator, /) -> list[Tensor]:
        count, order = self.count(size, num), torch.randperm(size, generator=rng)
        subnets = []
        for place in range(num):
            mine = order[place::num]
            rest = order[~torch.isin(order, mine)]
            more = rest[torch.randperm(len(rest), generator=rng)][: count - len(mine)]
            subnets.append(torch.cat([mine, more]).sort().values)
        return subnets

    def share(self, size: int, num: int, /) -> float:
        return self.count(size, num) / size


@dataclass(frozen=True)
class Bernoulli:
    """Keep every index with a probability, independently: none, one or many may hold it.

    Args:
        keep: the probability.
    """

    keep: float

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"{self}: choose a probability in (0, 1]")

    def __call__(self, size: int, num: int, rng: Generator, /) -> list[Tensor]:
        return read_subnets(torch.rand(num, size, generator=rng) < self.keep, rng)

    def share(self, size: int, num: int, /) -> float:
        del size, num
        return self.keep


@dataclass(frozen=True)
class CategoricalAssignment:
    """Give every index to one worker, drawn independently: subnets differ in size."""

    def __call__(self, size: int, num: int, rng: Generator, /) -> list[Tensor]:
        owner = torch.randint(num, (size,), generator=rng)
        return read_subnets(owner[None] == torch.arange(num)[:, None], rng)

    def share(self, size: int, num: int, /) -> float:
        del size
        return 1 / num


def read_subnets(held: Tensor, rng: Generator) -> list[Tensor]:
    """Read subnets off a mask [workers, size]; an empty subnet gets one index at random."""
    spare = torch.randint(held.shape[1], (len(held), 1), generator=rng)
    return [row.nonzero()[:, 0] if row.any() else one for row, one in zip(held, spare, strict=True)]


@dataclass(frozen=True)
class Assigned:
    """Assign axes to the workers of a round, each axis on its own; an axis not named is shared.

    Args:
        sizes: axis -> length.
        assignments: axis -> how it is assigned.
        fixed: a seed, to assign once and for all instead of afresh (the ablation): worker w keeps
            subnet w modulo the number of subnets.
    """

    sizes: Mapping[str, int]
    assignments: Mapping[str, Assignment]
    fixed: int | None = None

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]:
        del state
        rng = turn.rng if self.fixed is None else stream(self.fixed, SERVER, "deal")
        return self.shares(turn.cohort, rng, turn.concurrency)

    def shares(
        self, cohort: Sequence[int], rng: Generator, concurrency: int = 0
    ) -> Mapping[int, Share]:
        """Assign to the workers of a cohort, who may be fewer than there are places."""
        num = max(concurrency, len(cohort))
        subnets = {
            axis: assignment(self.sizes[axis], num, rng)
            for axis, assignment in self.assignments.items()
        }
        seats = enumerate(cohort) if self.fixed is None else ((w % num, w) for w in cohort)
        return {
            worker: Share(Part({axis: subnet[seat] for axis, subnet in subnets.items()}))
            for seat, worker in seats
        }
