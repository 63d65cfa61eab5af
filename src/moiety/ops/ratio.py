"""The log ratio of two densities, as a line fitted to rows of both.

Letters: N rows, M rows of the other, D features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS, STILL = 50, 1e-8
"""Newton ends after so many steps at the latest, or when no coefficient moves by more."""

FLAT = 1e-3
"""The ridge on the constant: it keeps rows that a line tells apart perfectly finite."""


def fit_log_ratio(x_ND: Tensor, other_MD: Tensor, *, ridge: float = 1.0) -> tuple[Tensor, Tensor]:
    """Fit ``log p(x) / q(x)`` as a line, by logistic regression of rows of p against rows of q.

    Both sides count alike, however many rows they have, and together as many as there are; the
    penalty is ``ridge / 2`` times the squared slope. The optimum is unique; Newton finds it.

    Args:
        x_ND: rows of p.
        other_MD: rows of q.
        ridge: how much slopes are drawn to 0.

    Returns:
        Slope [D] and constant [], float64.

    Raises:
        ValueError: without rows of one side.

    >>> slope, constant = fit_log_ratio(torch.ones(4, 1), -torch.ones(4, 1), ridge=1.0)
    >>> bool(slope > 0), bool(constant.abs() < 1e-6)
    (True, True)
    """
    if not len(x_ND) or not len(other_MD):
        raise ValueError(f"{len(x_ND)} rows against {len(other_MD)}; give at least one of each")
    count = len(x_ND) + len(other_MD)
    rows = F.pad(torch.cat([x_ND, other_MD]).double(), (0, 1), value=1.0)
    own = torch.cat([torch.ones(len(x_ND)), torch.zeros(len(other_MD))]).to(rows)
    weight = torch.where(own > 0, count / 2 / len(x_ND), count / 2 / len(other_MD))
    penalty = torch.full((rows.shape[1],), float(ridge)).to(rows)
    penalty[-1] = FLAT
    line = torch.zeros_like(penalty)
    for _ in range(STEPS):
        share = torch.sigmoid(rows @ line)
        slope = rows.T @ (weight * (share - own)) + penalty * line
        curve = (rows.T * (weight * share * (1 - share))) @ rows + penalty.diag()
        step = torch.linalg.solve(curve, slope)
        line = line - step
        if step.abs().max() < STILL:
            break
    return line[:-1], line[-1]
