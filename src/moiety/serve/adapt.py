"""Ways to serve that look at a worker's unlabelled rows before they answer them.

Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from moiety.core.axes import Axes, take_piece
from moiety.core.protocols import Serve, Transform
from moiety.core.rows import Rows, chunk_positions
from moiety.core.types import Batch, Params

CHUNK = 2048
"""Rows that are answered at once."""


@dataclass(frozen=True)
class SeenRows:
    """Rows seen through a frozen function, each time anew.

    Args:
        rows: beneath.
        transform: adds columns.
    """

    rows: Rows
    transform: Transform

    @property
    def size(self) -> int:
        return self.rows.size

    def take(self, ids: Tensor, /) -> Batch:
        return self.transform(self.rows.take(ids))


@runtime_checkable
class AdaptiveServe(Serve, Protocol):
    """A way to serve that is fitted on validation rows, and then adapted to each worker."""

    def fit(self, answers: Iterable[tuple[Tensor, Tensor]], /) -> Serve:
        """Fit on the answers [N, ...] to validation rows and their targets [N], by worker."""
        ...

    def adapt(self, params: Params, axes: Axes, rows: Rows, /) -> Serve:
        """Adapt to a worker, whose inputs only are looked at."""
        ...


def adapt_serve(serve: Serve, params: Params, axes: Axes, rows: Rows) -> Serve:
    """Adapt a way to serve to a worker's rows; one that adapts to nobody is as it was."""
    return serve.adapt(params, axes, rows) if isinstance(serve, AdaptiveServe) else serve


def answer_rows(serve: Serve, params: Params, axes: Axes, rows: Rows) -> Tensor:
    """Answer all rows of a worker, [N, ...]; labels are not looked at."""
    with torch.no_grad():
        part = serve.choose(params, rows)
        piece = take_piece(params, axes, part)
        taken = (rows.take(ids) for ids in chunk_positions(rows, CHUNK))
        return torch.cat([serve.scores(piece, batch, part.axes) for batch in taken])
