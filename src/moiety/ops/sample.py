"""Distinct numbers out of a large population, in time and memory of the sample alone."""

import torch
from torch import Generator


def sample(population: int, size: int, rng: Generator) -> list[int]:
    """Draw ``size`` distinct numbers below ``population``, every set of them equally likely.

    R. Floyd's algorithm: the place that a draw adds grows by one each time, and a draw that is
    taken already gives way to that place itself. No permutation of the population is made, so
    that ten of a million workers cost as much as ten of a hundred.

    Args:
        population: how many numbers there are.
        size: how many to draw.
        rng: the stream to draw from.

    Returns:
        The numbers, sorted.

    References:
        Bentley and Floyd, *A sample of brilliance*, Communications of the ACM 30(9), 1987.

    >>> sample(5, 5, torch.Generator().manual_seed(0))
    [0, 1, 2, 3, 4]
    >>> chosen = sample(10**9, 3, torch.Generator().manual_seed(0))
    >>> len(set(chosen)), max(chosen) < 10**9
    (3, True)
    """
    if not 0 <= size <= population:
        raise ValueError(f"{size=} cannot be drawn out of {population=} without repeats")
    taken: set[int] = set()
    for last in range(population - size, population):
        place = int(torch.randint(last + 1, (), generator=rng))
        taken.add(last if place in taken else place)
    return sorted(taken)
