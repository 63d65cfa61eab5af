"""The randomness of local training, drawn at once, as tensors."""

from functools import lru_cache

import torch
from torch import Generator, Tensor


def shuffled(size: int, batch: int, epochs: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Shuffle the rows of every epoch and cut them into batches.

    Args:
        size: number of rows.
        batch: rows in a step; the last step of an epoch may have fewer.
        epochs: passes over the rows.
        rng: the stream to draw from.

    Returns:
        Positions [steps, batch] and weights [steps, batch] that sum to 1 in a step; a short batch
        ends with rows of weight 0.

    >>> rows, weights = shuffled(3, 2, 1, torch.Generator().manual_seed(0))
    >>> rows.shape, weights.tolist()
    (torch.Size([2, 2]), [[0.5, 0.5], [1.0, 0.0]])
    """
    width = min(batch, size)
    steps = -(-size // width)
    order = torch.zeros(epochs, steps * width, dtype=torch.long)
    for epoch in range(epochs):
        order[epoch, :size] = torch.randperm(size, generator=rng)
    return order.reshape(-1, width), equal(size, width, epochs)


@lru_cache(maxsize=64)
def equal(size: int, width: int, epochs: int) -> Tensor:
    """Weigh the rows of a batch alike, [steps, width]; computed once for workers of one size."""
    steps = -(-size // width)
    weight = (torch.arange(steps * width) < size).float().reshape(steps, width)
    return (weight / weight.sum(1, keepdim=True)).repeat(epochs, 1)
