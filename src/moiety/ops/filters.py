"""Filters ranked by their norms: which to keep, and how far two rankings are apart.

Letters: F filters.
"""

from __future__ import annotations

import torch
from torch import Tensor


def compute_filter_norms(weight: Tensor) -> Tensor:
    """Give the l2 norm of each filter of a convolution [F, in, k, k], [F]."""
    return weight.flatten(1).norm(dim=1)


def select_filters(norm_F: Tensor, count: int, *, small: bool = False) -> Tensor:
    """Keep the filters of the largest norms, or of the smallest; sorted positions, [count].

    >>> select_filters(torch.tensor([1.0, 3.0, 2.0]), 2).tolist()
    [1, 2]
    """
    return norm_F.argsort(descending=not small, stable=True)[:count].sort().values


def measure_ticket_distance(norm_F: Tensor, other_F: Tensor, keep: int | None = None) -> float:
    """Measure how differently two networks rank the filters of a layer by norm.

    sum over ranks i of the reference's kept filters of |ln i - ln j| / i, where j is the rank of
    the same filter in the other network, and one more than ``keep`` if it is not kept there.

    Args:
        norm_F: norms in the reference.
        other_F: norms in the other network.
        keep: filters that count, the largest; None for all.

    References:
        Wang, Dun, Liao, Jermaine and Kyrillidis, *LOFT: Finding Lottery Tickets through
        Filter-wise Training*, arXiv:2210.16169.

    >>> round(measure_ticket_distance(torch.tensor([3.0, 2.0]), torch.tensor([2.0, 3.0])), 4)
    1.0397
    """
    keep = len(norm_F) if keep is None else keep
    order = norm_F.argsort(descending=True, stable=True)[:keep]
    rank = other_F.argsort(descending=True, stable=True).argsort() + 1
    there = rank[order].clamp_max(keep + 1).double()
    here = torch.arange(1, keep + 1, dtype=torch.double)
    return float(((here.log() - there.log()).abs() / here).sum())
