"""The highest of some scores."""

import torch
from torch import Tensor


def select_best(score_E: Tensor, k: int) -> Tensor:
    """Give the k highest, ties by lower index; on the CPU, [k].

    >>> import torch
    >>> select_best(torch.tensor([0.2, 0.4, 0.4]), 2).tolist()
    [1, 2]
    """
    return score_E.cpu().argsort(descending=True, stable=True)[:k]


def hold_shared(ids_K: Tensor, size: int, shared: int) -> Tensor:
    """Add to chosen indices of an axis its last ones, which everyone holds.

    >>> import torch
    >>> hold_shared(torch.tensor([2, 0]), 5, 1).tolist()
    [2, 0, 4]
    """
    return torch.cat([ids_K, torch.arange(size - shared, size, dtype=ids_K.dtype)])
