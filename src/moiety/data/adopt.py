"""Rows of a worker as people have them: columns, frames, data sets of torch or Hugging Face."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from moiety.core.rows import Rows, TableRows
from moiety.core.types import Batch

KINDS = (
    "give TableRows, a mapping from columns to tensors or arrays ({'x': ..., 'y': ...}), the tuple "
    "(x, y) of them, a frame, a torch Dataset or a Hugging Face data set"
)


@runtime_checkable
class Table(Protocol):
    """Rows by number: a torch ``Dataset``, a data set of Hugging Face, a list of pairs."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: Any, /) -> Any: ...


@runtime_checkable
class Frame(Protocol):
    """A data frame, of pandas or another library."""

    @property
    def columns(self) -> Iterable[Any]: ...
    def __getitem__(self, name: Any, /) -> Any: ...
    def __dataframe__(self) -> Any: ...


@runtime_checkable
class OwnRows(Protocol):
    """Rows that say their size and are taken by positions, as ``moiety.core.rows.Rows``."""

    @property
    def size(self) -> int: ...
    def take(self, ids: Tensor, /) -> Batch: ...


def adopt_rows(source: object) -> Rows:
    """Make rows of what a worker has.

    Data sets of torch and of Hugging Face are read once, row by row, into memory. A row is a
    mapping from columns to values, or a pair of input and target (columns ``x`` and ``y``); where
    a mapping has no ``y``, ``label`` or ``labels`` is taken for it. The tuple ``(x, y)`` of tensors
    or arrays is those columns. Numbers that are no tensors become tensors, floating-point ones in
    single precision.

    Raises:
        TypeError: for what is no rows.
        ValueError: for columns that are none, with the column and the remedy.

    >>> rows = adopt_rows({"x": np.zeros((3, 2)), "y": [0, 1, 1]})
    >>> rows.size, rows.take(torch.tensor([2]))["y"]
    (3, tensor([1]))
    >>> adopt_rows([(0.5, 1), (0.25, 0)]).take(torch.tensor([1]))
    {'x': tensor([0.2500]), 'y': tensor([0])}
    """
    source = pair_columns(source)
    if isinstance(source, TableRows):
        return source
    if isinstance(source, Mapping):
        return table_rows({str(name): to_column(str(name), one) for name, one in source.items()})
    if isinstance(source, Frame):
        return adopt_rows({name: source[name] for name in source.columns})
    if isinstance(source, IterableDataset):
        raise TypeError(
            f"{type(source).__name__} has no rows by number; read it into a list: list(data)"
        )
    if isinstance(source, Tensor | np.ndarray):
        raise TypeError(f"{type(source).__name__} alone has no target; {KINDS}")
    if isinstance(source, OwnRows):
        return source
    if isinstance(source, Table) and not isinstance(source, str):
        return read_dataset_rows(source)
    raise TypeError(f"{type(source).__name__} is no rows; {KINDS}")


def pair_columns(source: object) -> object:
    """Name the columns of a tuple of inputs and targets; anything else is as it is."""
    if not isinstance(source, tuple) or len(source) != 2:
        return source
    x, y = source
    return {"x": x, "y": y} if isinstance(x, Tensor | np.ndarray) else source


def table_rows(columns: Mapping[str, Tensor]) -> TableRows:
    """Make rows of whole columns.

    Raises:
        ValueError: for columns of unequal lengths, or none.
    """
    sizes = {name: len(column) if column.ndim else 0 for name, column in columns.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"columns have lengths {sizes}; give one entry a row in every column")
    return TableRows(columns, torch.arange(next(iter(sizes.values()))))


def read_dataset_rows(source: Table) -> TableRows:
    """Read all rows of a data set, one by one."""
    if not len(source):
        return TableRows({}, torch.arange(0))
    rows = [split_row(source[place]) for place in range(len(source))]
    first = rows[0].keys()
    for place, row in enumerate(rows):
        if row.keys() != first:
            raise ValueError(
                f"row {place} has the columns {sorted(row)}, but row 0 has {sorted(first)}"
            )
    return table_rows({name: stack_column(name, [row[name] for row in rows]) for name in first})


def split_row(row: Any) -> Mapping[str, Any]:
    """Name the columns of a row.

    Raises:
        ValueError: if it is neither a mapping nor a pair.
    """
    if isinstance(row, Mapping):
        target = next((name for name in ("label", "labels") if name in row), "y")
        if "y" in row or target == "y":
            return row
        return {"y" if name == target else name: value for name, value in row.items()}
    if isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 2:
        return {"x": row[0], "y": row[1]}
    raise ValueError(
        f"a row is {shorten_row(row)}; make it a pair (input, target), or a mapping from columns "
        "to numbers"
    )


def shorten_row(row: Any) -> str:
    """Say what a row is."""
    many = isinstance(row, Sequence) and not isinstance(row, str)
    return f"a {type(row).__name__} of {len(row)}" if many else f"a {type(row).__name__}"


def stack_column(name: str, values: Iterable[Any]) -> Tensor:
    """Stack the values of a column.

    Raises:
        ValueError: if they have different shapes.
    """
    tensors = [to_column(name, value) for value in values]
    shapes = sorted({tuple(one.shape) for one in tensors})
    if len(shapes) > 1:
        raise ValueError(
            f"column {name!r} has rows of shapes {shapes[:4]}; pad or crop them to one shape"
        )
    return torch.stack(tensors)


def to_column(name: str, value: Any) -> Tensor:
    """Make a tensor of numbers; those that are no tensor in single precision.

    Raises:
        ValueError: for what is no numbers.
    """
    if isinstance(value, Tensor):
        return value
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)  # rows of unequal lengths
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"column {name!r} holds {describe_values(value)}, not numbers of one shape; encode it "
            "(tokenise text, pad, make images arrays), or leave the column out"
        )
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.tensor(array.astype(np.float32) if array.dtype.kind == "f" else array)


def describe_values(value: Any) -> str:
    """Name the type of a value, or of the first of several."""
    first = value
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return type(first).__name__


@dataclass(frozen=True)
class MovedRows:
    """Rows whose batches are moved to a device.

    Args:
        rows: as they are.
        device: where batches go.
    """

    rows: Rows
    device: str

    @property
    def size(self) -> int:
        return self.rows.size

    def take(self, ids: Tensor, /) -> Batch:
        return {name: column.to(self.device) for name, column in self.rows.take(ids).items()}


def move_rows(workers: Mapping[int, Rows], device: str) -> dict[int, Rows]:
    """Move rows to a device: a table that several share once, other rows as they are read."""
    tables: dict[int, Mapping[str, Tensor]] = {}
    moved: dict[int, Rows] = {}
    for worker, rows in workers.items():
        if not isinstance(rows, TableRows):
            moved[worker] = MovedRows(rows, device)
            continue
        if id(rows.table) not in tables:
            tables[id(rows.table)] = {name: one.to(device) for name, one in rows.table.items()}
        moved[worker] = TableRows(tables[id(rows.table)], rows.index)
    return moved
