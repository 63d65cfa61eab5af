"""Products of two factors, as sums: stacks of factors, and the factors nearest to a stack.

Letters: O outputs, I inputs, R rank, S columns of a stack.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NOTHING = 1e-7
"""Share of the largest singular value below which a direction counts as none."""

FRESH = 3**-0.5
"""Length of a right row as it is drawn first, from U(-1/sqrt(I), 1/sqrt(I))."""


def stack_factors(pairs: Sequence[tuple[float, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Put factors beside each other: the product of the stacks is the weighed sum of products.

    Args:
        pairs: a weight, a left factor [O, r] and a right factor [r, I] of each; r may differ.

    Returns:
        Left [O, S] and right [S, I], in float64.

    >>> one = torch.ones(1, 1)
    >>> left, right = stack_factors([(0.5, one, 2 * one), (0.25, one, 4 * one)])
    >>> left @ right
    tensor([[2.]], dtype=torch.float64)
    """
    left = torch.cat([weight * b.double() for weight, b, _ in pairs], 1)
    return left, torch.cat([a.double() for _, _, a in pairs], 0)


def refactor_product(left: Tensor, right: Tensor, spare: Tensor) -> tuple[Tensor, Tensor]:
    """Find the factors of a given rank whose product is nearest to that of two stacks.

    Where the product's own rank is no larger, it stays as it is. Directions come by their weight,
    so the first r are the nearest factors of rank r. Both factors of a direction are of one length,
    but no right one is shorter than a fresh one, or it would hardly learn; a direction that is not
    needed has a left factor of 0 and the ``spare`` right one.

    Args:
        left: [O, S].
        right: [S, I].
        spare: [R, I].

    Returns:
        Left [O, R] and right [R, I], in the dtype of ``spare``.

    References:
        Eckart and Young, *The approximation of one matrix by another of lower rank*, 1936.
    """
    q_left, r_left = torch.linalg.qr(left.double().cpu())
    q_right, r_right = torch.linalg.qr(right.double().cpu().T)
    u, weight, v = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    most = weight.max() if weight.numel() else weight.new_zeros(())
    count = min(len(spare), int((weight > NOTHING * most).sum()))
    long = weight[:count].sqrt().clamp(min=FRESH)
    a = (long[:, None] * v[:count] @ q_right.T).to(spare)
    b = (q_left @ (u[:, :count] * (weight[:count] / long))).to(spare)
    if count:  # a sign of its own for each direction, or equal products would have several factors
        sign = a.gather(1, a.abs().argmax(1, keepdim=True)).sign()
        a, b = a * sign, b * sign.T
    rest = spare[count:]
    return torch.cat([b, b.new_zeros(len(b), len(rest))], 1), torch.cat([a, rest])
