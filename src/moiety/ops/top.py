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


def count_covering(score_E: Tensor, cover: float) -> Tensor:
    """Count the fewest of the highest scores that have a share of their sum, int64 [].

    >>> import torch
    >>> [int(count_covering(torch.tensor([0.3, 0.6, 0.1]), share)) for share in (0.5, 0.8, 0.99)]
    [1, 2, 3]
    """
    have_E = score_E.cpu().sort(descending=True).values.cumsum(0)
    return 1 + (have_E[:-1] < cover * have_E[-1]).sum()


def hold_shared(ids_K: Tensor, size: int, shared: int) -> Tensor:
    """Add to chosen indices of an axis its last ones, which everyone holds.

    >>> import torch
    >>> hold_shared(torch.tensor([2, 0]), 5, 1).tolist()
    [2, 0, 4]
    """
    return torch.cat([ids_K, torch.arange(size - shared, size, dtype=ids_K.dtype)])
