"""The highest of some scores."""

from torch import Tensor


def select_best(score_E: Tensor, k: int) -> Tensor:
    """Give the k highest, ties by lower index; on the CPU, [k].

    >>> import torch
    >>> select_best(torch.tensor([0.2, 0.4, 0.4]), 2).tolist()
    [1, 2]
    """
    return score_E.cpu().argsort(descending=True, stable=True)[:k]
