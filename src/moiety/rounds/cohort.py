"""Who takes part in a round; every draw is addressed by seed and round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from moiety.core.streams import SERVER, hash_address, stream
from moiety.ops.sample import sample_distinct


class CohortRule(Protocol):
    """Names the workers of a round, sorted."""

    def __call__(self, round_index: int, seed: int, /) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class UniformCohort:
    """Draw ``size`` of the workers 0 .. population - 1, without replacement."""

    population: int
    size: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.population:
            raise ValueError(
                f"{self.size} workers a round of {self.population}; choose 1 to {self.population}"
            )

    def __call__(self, round_index: int, seed: int, /) -> tuple[int, ...]:
        rng = stream(seed, round_index, SERVER, "roster")
        return tuple(sorted(sample_distinct(self.population, self.size, rng)))


@dataclass(frozen=True)
class FixedCohort:
    """The same workers in every round."""

    workers: tuple[int, ...]

    def __call__(self, round_index: int, seed: int, /) -> tuple[int, ...]:
        return self.workers


@dataclass(frozen=True)
class StratifiedCohort:
    """Draw some of each group, e.g. anchors and others, as DDOME does.

    Args:
        groups: the workers of each group.
        sizes: how many to draw of each.
    """

    groups: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        for group, size in zip(self.groups, self.sizes, strict=True):
            if not 0 <= size <= len(group):
                raise ValueError(f"cannot draw {size} workers a round of a group of {len(group)}")
        if not sum(self.sizes):
            raise ValueError(f"{self.sizes=} draws nobody; choose at least one worker a round")

    def __call__(self, round_index: int, seed: int, /) -> tuple[int, ...]:
        drawn: list[int] = []
        for place, (group, size) in enumerate(zip(self.groups, self.sizes, strict=True)):
            rng = stream(seed, round_index, SERVER, "roster", place)
            drawn += [group[i] for i in sample_distinct(len(group), size, rng)]
        return tuple(sorted(drawn))


@dataclass(frozen=True)
class AvailableCohort:
    """Draw ``size`` of the workers that are available in a round; fewer if fewer are.

    Args:
        population: number of workers.
        size: workers a round at most.
        chance: probability that a worker is available in a round, by its number.
    """

    population: int
    size: int
    chance: Callable[[int], float]

    def __call__(self, round_index: int, seed: int, /) -> tuple[int, ...]:
        rng = stream(seed, round_index, SERVER, "roster")
        order = sample_distinct(self.population, min(self.population, 64 * self.size), rng)
        # What is drawn is a fair set, but in no fair order.
        mixed = torch.randperm(len(order), generator=rng).tolist()
        here = [order[i] for i in mixed if self.is_available(order[i], round_index, seed)]
        if not here:
            raise ValueError(
                f"no worker is available in round {round_index + 1}; raise the chance of it"
            )
        return tuple(sorted(here[: self.size]))

    def is_available(self, worker: int, round_index: int, seed: int) -> bool:
        """Say whether a worker is there in a round."""
        return hash_address(seed, round_index, worker, "available") / 2**63 < self.chance(worker)


def spread_chances(workers: Sequence[int], low: float, high: float) -> Callable[[int], float]:
    """Spread chances of availability evenly over workers, from ``low`` to ``high``."""
    step = (high - low) / max(1, len(workers) - 1)
    return {worker: low + step * place for place, worker in enumerate(workers)}.__getitem__
