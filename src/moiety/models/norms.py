"""Norm over the rows of a batch, with statistics that calibration may fix.

Letters: B rows, C channels or units.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from moiety.core.types import Params

FoundStatistics = dict[str, Tensor]
"""Where a pass through the network writes the statistics that it meets."""

STATISTICS_SOURCES = ("recompute", "batch")
"""Where a whole network takes the statistics of its norms from in use."""


def normalise_channels(
    params: Params, name: str, z: Tensor, note: FoundStatistics | None = None
) -> Tensor:
    """Normalise channels by fixed statistics where there are some, else by the batch's own.

    Args:
        params: ``{name}.g`` and ``{name}.s`` scale and shift, where they are there;
            ``{name}.mean`` and ``{name}.var`` are fixed statistics.
        name: of the norm.
        z: [B, C] or [B, C, H, W].
        note: if given, the batch's own (biased) statistics are used, and written here.

    >>> import torch
    >>> normed = normalise_channels({}, "n", torch.tensor([[1.0], [3.0]]))
    >>> normed.round(decimals=3).flatten().tolist()
    [-1.0, 1.0]
    """
    mean, var = params.get(f"{name}.mean"), params.get(f"{name}.var")
    if mean is None and note is None:
        check_batch_rows(z)
    if note is not None:
        over = [0, *range(2, z.ndim)]
        mean, var = z.mean(over), z.var(over, correction=0)
        note[f"{name}.mean"], note[f"{name}.var"] = mean, var
    scale, shift = params.get(f"{name}.g"), params.get(f"{name}.s")
    return F.batch_norm(z, mean, var, scale, shift, training=mean is None)


def check_batch_rows(z: Tensor) -> None:
    """Refuse to take the statistics of channels, [B, C, ...], of which a batch has one value."""
    if z.numel() == z.shape[1]:
        raise ValueError(
            "a norm over the rows of a batch needs more than 1 value per channel, but got one row; "
            "give 2 rows or more at a time (in training local.batch), or fix the statistics for "
            "use (leave calibrate on; statistics='recompute' of the network)"
        )


def check_statistics(statistics: str) -> None:
    """Refuse a source of statistics that is not there."""
    if statistics not in STATISTICS_SOURCES:
        raise ValueError(f"{statistics=}; choose one of {STATISTICS_SOURCES}")
