"""Ways to serve that look at a worker's unlabelled rows before they answer them.

Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from moiety.core.axes import Axes, take_piece
from moiety.core.protocols import Method, Serve, Transform
from moiety.core.rows import JoinedRows, OpenRows, Rows, chunk_positions
from moiety.core.types import Batch, Params

Answers = Iterable[tuple[Tensor, Tensor]]
"""Answers to the rows of some workers, and their targets."""

JUDGES, JUDGED = 100, 500
"""So many workers that train are looked at, at most, and so many rows of each."""

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
    """A way to serve that is fitted on validation rows, and then adapted to each worker.

    ``judges`` are workers that train, by whose rows it is seen how workers differ where validation
    rows are nobody's.
    """

    @property
    def judges(self) -> Mapping[int, Rows]: ...

    def fit(self, answers: Answers, judged: Answers = (), /) -> Serve:
        """Fit on the answers [N, ...] to validation rows and their targets [N], by worker.

        ``judged`` are likewise those of the judges.
        """
        ...

    def adapt(self, params: Params, axes: Axes, rows: Rows, /) -> Serve:
        """Adapt to a worker, whose inputs only are looked at."""
        ...


def appoint_judges(
    method: Method, validation: Mapping[int, Rows], rows: OpenRows, workers: Sequence[int]
) -> Method:
    """Let some workers that train judge how a method is served, where validation rows cannot.

    Args:
        method: any; one whose serving is not fitted is as it was.
        validation: worker -> rows; one sample of everybody says nothing of how workers differ.
        rows: of the workers that train.
        workers: those.
    """
    if not isinstance(method.serve, AdaptiveServe) or len(validation) != 1:
        return method
    serve: Any = method.serve
    step = max(1, -(-len(workers) // JUDGES))
    judges = {worker: thin_rows(rows(worker), JUDGED) for worker in workers[::step]}
    return replace(method, serve=replace(serve, judges=judges))


def thin_rows(rows: Rows, most: int) -> Rows:
    """Take rows evenly, about as many as asked at most; of fewer all."""
    step = -(-rows.size // most)
    return rows if step <= 1 else JoinedRows([rows], [torch.arange(0, rows.size, step)])


def dismiss_judges(method: Method) -> Method:
    """Let nobody who trains judge how a method is served: their rows may tell nothing of it."""
    if not isinstance(method.serve, AdaptiveServe):
        return method
    serve: Any = method.serve
    return replace(method, serve=replace(serve, judges={}))


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
