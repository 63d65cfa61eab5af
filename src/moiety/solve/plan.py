"""The randomness of local training, drawn at once, as tensors."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def shuffle_rows(size: int, batch: int, epochs: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Shuffle the rows of every epoch and cut them into batches.

    Args:
        size: number of rows.
        batch: rows in a step; the last step of an epoch may have fewer.
        epochs: passes over the rows.
        rng: the stream to draw from.

    Returns:
        Positions [steps, batch] and weights [steps, batch] that sum to 1 in a step; a short batch
        ends with rows of weight 0.

    >>> rows, weights = shuffle_rows(3, 2, 1, torch.Generator().manual_seed(0))
    >>> rows.shape, weights.tolist()
    (torch.Size([2, 2]), [[0.5, 0.5], [1.0, 0.0]])
    """
    width = min(batch, size)
    order = torch.stack([torch.randperm(size, generator=rng) for _ in range(epochs)])
    padding = -size % width
    order = F.pad(order, (0, padding)) if padding else order
    return order.reshape(-1, width), make_equal_weights(size, width, epochs)


def shuffle_windows(
    size: int, batch: int, steps: int, window: int, rng: Generator
) -> tuple[Tensor, Tensor]:
    """Shuffle rows within windows, and the windows, so that few are open at a time.

    Batches run on from one pass over the rows to the next, so that none is short.

    Args:
        size: number of rows.
        batch: rows in a step.
        steps: how many to draw; only these are drawn.
        window: neighbouring rows that are shuffled together.
        rng: the stream to draw from.

    >>> rows, _ = shuffle_windows(8, 2, 4, 2, torch.Generator().manual_seed(0))
    >>> sorted(rows.flatten().tolist()), (rows // 2)[:, 0].equal((rows // 2)[:, 1])
    ([0, 1, 2, 3, 4, 5, 6, 7], True)
    """
    width, found, count = min(batch, size), [], 0
    while count < steps * width:
        for block in torch.randperm(-(-size // window), generator=rng).tolist():
            here = torch.arange(block * window, min(size, (block + 1) * window))
            found.append(here[torch.randperm(len(here), generator=rng)])
            count += len(here)
            if count >= steps * width:
                break
    order = torch.cat(found)[: steps * width]
    return order.reshape(steps, width), torch.full((steps, width), 1 / width)


@lru_cache(maxsize=64)
def make_equal_weights(size: int, width: int, epochs: int) -> Tensor:
    """Weigh the rows of a batch alike, [steps, width]; computed once for workers of one size."""
    steps = -(-size // width)
    weight = (torch.arange(steps * width) < size).float().reshape(steps, width)
    return (weight / weight.sum(1, keepdim=True)).repeat(epochs, 1)
