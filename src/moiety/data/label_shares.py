"""Rows that know how their worker's labels are shared out over the classes.

Letters: B rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from moiety.core.rows import OpenRows, Rows, chunk_positions
from moiety.core.types import Batch
from moiety.tasks.losses import UNSCORED
from moiety.tasks.objectives import LOG_SHARES

LEAST_SHARE = 1e-6
"""A class that a worker lacks counts as this: its output hardly moves, and nothing is infinite."""


@dataclass(frozen=True)
class SharedColumn:
    """Rows with one column more, the same for all of them.

    Args:
        rows: beneath.
        name: of the column.
        value: of each row.
    """

    rows: Rows
    name: str
    value: Tensor

    @property
    def size(self) -> int:
        return self.rows.size

    def take(self, ids: Tensor, /) -> Batch:
        batch = self.rows.take(ids)
        value = self.value.to(next(iter(batch.values())).device)
        return {**batch, self.name: value.expand(len(ids), *value.shape)}


@dataclass
class LabelShares:
    """Open rows with the log of their worker's label shares beside them, for logit adjustment.

    The shares are a function of the data, so that losing them changes no number.

    Args:
        open: opens the rows beneath, with a class ``y`` each.
        classes: how many there are.
    """

    open: OpenRows
    classes: int
    kept: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, worker: int) -> Rows:
        rows = self.open(worker)
        if worker not in self.kept:
            self.kept[worker] = count_log_shares(rows, self.classes)
        return SharedColumn(rows, LOG_SHARES, self.kept[worker])


def count_log_shares(rows: Rows, classes: int) -> Tensor:
    """Count the log of the share of each class among some rows, [C].

    Raises:
        ValueError: for rows that have not one class each, such as the clusters of a graph.

    >>> from moiety.core.rows import TableRows
    >>> y = torch.tensor([0, 0, 0, 1])
    >>> count_log_shares(TableRows({"y": y}, torch.arange(4)), 2).exp().tolist()
    [0.75, 0.25]
    """
    labels = [rows.take(ids)["y"] for ids in chunk_positions(rows, 8192)]
    y = torch.cat(labels).cpu()
    if y.ndim != 1 or len(y) != rows.size:
        raise ValueError("local.prior='adjust' needs rows with one class each; say none")
    count_C = torch.bincount(y[y != UNSCORED], minlength=classes).double()
    share_C = (count_C / count_C.sum().clamp_min(1)).clamp_min(LEAST_SHARE)
    return share_C.log().float()
