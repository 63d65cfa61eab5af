"""A worker's data, opened where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from moiety.core.streams import stream
from moiety.core.types import Batch


class Rows(Protocol):
    """Rows that a worker can read by position."""

    @property
    def size(self) -> int: ...

    def take(self, ids: Tensor, /) -> Batch: ...


OpenRows = Callable[[int], Rows]
"""Opens the rows of a worker by its number."""


@dataclass(frozen=True)
class TableRows:
    """Some rows of a table held in memory; the table is shared, never copied.

    Args:
        table: columns, each [N, ...].
        index: positions of these rows in the table, [size].

    >>> rows = TableRows({"x": torch.arange(10.0)}, torch.tensor([7, 3, 5]))
    >>> rows.size, rows.take(torch.tensor([0, 2]))["x"].tolist()
    (3, [7.0, 5.0])
    """

    table: Mapping[str, Tensor]
    index: Tensor

    @property
    def size(self) -> int:
        return self.index.shape[0]  # the len of a tensor is slow

    def take(self, ids: Tensor, /) -> Batch:
        where = self.index[ids]
        # index_select copies whole rows, several times faster than indexing does.
        return {
            name: column.index_select(0, where.to(column.device))
            for name, column in self.table.items()
        }


def is_rowwise(rows: Rows) -> bool:
    """Say whether a batch has one entry a row, so that it may be stacked; a subgraph has not."""
    if isinstance(rows, TableRows):
        return True
    return all(len(column) == 1 for column in rows.take(torch.zeros(1, dtype=torch.long)).values())


CALIBRATION_ROWS = 2048
"""Training rows that are enough to calibrate a whole."""


@dataclass(frozen=True)
class JoinedRows:
    """Some rows of several owners, one owner after the other.

    Args:
        sources: the rows of each.
        picks: positions of those taken, of each.
    """

    sources: Sequence[Rows]
    picks: Sequence[Tensor]

    @property
    def size(self) -> int:
        return sum(len(pick) for pick in self.picks)

    def take(self, ids: Tensor, /) -> Batch:
        owner = torch.cat([torch.full_like(p, place) for place, p in enumerate(self.picks)])[ids]
        where = torch.cat(list(self.picks))[ids]
        asked = [place for place in range(len(self.sources)) if (owner == place).any()]
        parts = [self.sources[place].take(where[owner == place]) for place in asked]
        back = owner.argsort(stable=True).argsort()
        return {
            name: torch.cat([part[name] for part in parts])[back.to(column.device)]
            for name, column in parts[0].items()
        }


def sample_rows(open_rows: OpenRows, workers: Sequence[int], count: int, seed: int) -> JoinedRows:
    """Draw about ``count`` rows over workers, the same from each; from 64 of them at most."""
    rng = stream(seed, "some workers")
    order = torch.randperm(len(workers), generator=rng)[:64].tolist()
    sources = [open_rows(workers[place]) for place in sorted(order)]
    each = -(-count // len(sources))
    picks = [
        torch.randperm(rows.size, generator=stream(seed, "some rows", place))[:each]
        for place, rows in enumerate(sources)
    ]
    return JoinedRows(sources, picks)


def take_all_rows(rows: Rows, limit: int | None = None) -> Batch:
    """Take every row, or the first ``limit``."""
    return rows.take(torch.arange(rows.size if limit is None else min(limit, rows.size)))


def chunk_positions(rows: Rows, size: int) -> list[Tensor]:
    """Positions of all rows, in order, in chunks of at most ``size``."""
    return list(torch.arange(rows.size).split(size))


MOST_NUMBERS = 2**26
"""Numbers that the answers of one chunk have at most: of a language model each row has millions."""


def fit_chunk(size: int, numbers: int) -> int:
    """Say how many rows are answered at a time, at most ``size``, of so many numbers each.

    >>> fit_chunk(2048, 10), fit_chunk(2048, 64 * 49152)
    (2048, 21)
    """
    return max(1, min(size, MOST_NUMBERS // max(1, numbers)))


def split_batch(batch: Batch, count: int, dim: int = 0) -> list[Batch]:
    """Cut a batch into at most ``count`` smaller ones along its rows; ``seed`` goes to each.

    Raises:
        ValueError: if the batch has not one entry a row.
    """
    if count == 1:
        return [batch]
    shared = {name: batch[name] for name in ("seed",) if name in batch}
    sizes = {name: column.shape[dim] for name, column in batch.items() if name not in shared}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"a batch with columns of lengths {sizes} (a subgraph) cannot be computed in pieces; "
            "set accumulate=1"
        )
    split = {name: column.chunk(count, dim) for name, column in batch.items() if name not in shared}
    num = len(next(iter(split.values())))
    return [{**{n: c[i] for n, c in split.items()}, **shared} for i in range(num)]


@dataclass
class TransformedRows:
    """Rows seen through a frozen function, computed once per worker and kept.

    The cache is a pure function of the data, so it is no state: losing it changes no number.

    Args:
        open: opens the rows beneath.
        transform: adds columns to a batch, e.g. the embedding of the frozen common expert.
        most: number of workers whose columns are kept.
    """

    open: OpenRows
    transform: Callable[[Batch], Batch]
    most: int = 4096
    kept: dict[int, Rows] = field(default_factory=dict)

    def __call__(self, worker: int) -> Rows:
        if worker not in self.kept:
            while len(self.kept) >= self.most:
                self.kept.pop(next(iter(self.kept)))
            self.kept[worker] = transform_rows(self.open(worker), self.transform)
        return self.kept[worker]


def transform_rows(rows: Rows, transform: Callable[[Batch], Batch], size: int = 1024) -> Rows:
    """See all rows through ``transform`` at once, ``size`` rows at a time."""
    if not rows.size:
        return rows
    with torch.no_grad():
        seen = [dict(transform(rows.take(ids))) for ids in chunk_positions(rows, size)]
    table = {name: torch.cat([part[name] for part in seen]) for name in seen[0]}
    return TableRows(table, torch.arange(rows.size))
