"""Draw a few of many."""

import torch
from torch import Generator


def sample_distinct(population: int, size: int, rng: Generator) -> list[int]:
    """Draw ``size`` distinct numbers below ``population`` uniformly, in time and memory O(size).

    Floyd's algorithm; Bentley and Floyd, *A sample of brilliance*, 1987.

    Raises:
        ValueError: if more are asked for than there are.

    >>> sample_distinct(10**6, 3, torch.Generator().manual_seed(0)) == sample_distinct(
    ...     10**6, 3, torch.Generator().manual_seed(0))
    True
    """
    if not 0 <= size <= population:
        raise ValueError(f"cannot draw {size} of {population}; choose at most {population}")
    tops = torch.arange(population - size, population)
    draws = (torch.rand(size, generator=rng, dtype=torch.float64) * (tops + 1)).long().tolist()
    chosen: dict[int, None] = {}
    for top, draw in zip(tops.tolist(), draws, strict=True):
        chosen[top if draw in chosen else draw] = None
    return list(chosen)
