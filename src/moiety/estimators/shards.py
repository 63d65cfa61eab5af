"""Rows where they are: arrays, frames, and files read in pieces.

A shard is opened once and read as often as needed; nothing but one piece is held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.sparse import issparse

from moiety.mixtures.logit import Array

PIECE = 16_384  # rows of a file read at once
RawRows = tuple[Array, Any, Array]


class Shard(Protocol):
    """Rows that can be read again and again."""

    @property
    def columns(self) -> tuple[str, ...] | int:
        """Give the names of the covariates, or their number where they have no names."""
        ...

    @property
    def in_memory(self) -> bool:
        """Tell whether the rows are held already."""
        ...

    def blocks(self) -> Iterator[RawRows]:
        """Give pieces ``(x, y, weights)``."""
        ...


@dataclass(frozen=True)
class HeldShard:
    """Rows in memory."""

    rows: RawRows
    columns: tuple[str, ...] | int
    in_memory: bool = True

    def blocks(self) -> Iterator[RawRows]:
        """Give the rows as one piece."""
        yield self.rows


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file, read row group by row group."""

    path: Path
    target: str
    columns: tuple[str, ...]
    in_memory: bool = False

    def blocks(self) -> Iterator[RawRows]:
        """Give pieces."""
        import pyarrow.parquet

        names = [*self.columns, self.target]
        with pyarrow.parquet.ParquetFile(self.path, pre_buffer=False) as file:
            for batch in file.iter_batches(PIECE, columns=names, use_threads=False):
                *x, y = (batch.column(name).to_numpy(zero_copy_only=False) for name in names)
                yield check_shard_arrays(self.path, np.column_stack(x), y, names=self.columns)


@dataclass(frozen=True)
class CsvFile:
    """A file of comma-separated values with a header, read in pieces."""

    path: Path
    target: str
    columns: tuple[str, ...]
    in_memory: bool = False

    def blocks(self) -> Iterator[RawRows]:
        """Give pieces."""
        import pandas as pd

        with pd.read_csv(self.path, chunksize=PIECE) as frames:
            for frame in frames:
                for name in self.columns:
                    if frame[name].dtype.kind not in "iufb":
                        refuse_kind(self.path, name, frame[name].dtype)
                x = frame[list(self.columns)].to_numpy()
                yield check_shard_arrays(self.path, x, frame[self.target], names=self.columns)


@dataclass(frozen=True)
class NpyFile:
    """A two-dimensional array on disk whose last column is the response."""

    path: Path
    columns: int
    in_memory: bool = False

    def blocks(self) -> Iterator[RawRows]:
        """Give pieces."""
        values = np.load(self.path, mmap_mode="r")
        for at in range(0, len(values), PIECE):
            part = np.asarray(values[at : at + PIECE])
            yield check_shard_arrays(self.path, part[:, :-1], part[:, -1])


def check_shard_arrays(
    origin: Any, x: Any, y: Any, weights: Any = None, *, names: tuple[Any, ...] = ()
) -> RawRows:
    """Make arrays, and refuse what is sparse or not finite."""
    if issparse(x):
        raise ValueError(f"{origin}: sparse covariates; give dense ones, as toarray() makes them")
    try:
        x = np.ascontiguousarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{origin}: covariates that are no numbers: {error}") from None
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 2 or y.shape != (len(x),) or weights.shape != y.shape:
        raise ValueError(
            f"{origin}: covariates {x.shape}, responses {y.shape} and weights "
            f"{weights.shape} do not belong together; give [N, d], [N], [N]"
        )
    refuse_holes(origin, (x, y, weights), names)
    if (weights < 0).any():
        raise ValueError(f"{origin}: negative weights; give weights of at least 0")
    return x, y, weights


def refuse_holes(origin: Any, rows: RawRows, names: tuple[Any, ...]) -> None:
    """Refuse what is missing or infinite."""
    x, y, weights = rows
    bad = np.flatnonzero(~np.isfinite(x).all(0))
    if len(bad):
        name = f" ({names[bad[0]]!r})" if names else ""
        value = x[~np.isfinite(x[:, bad[0]]), bad[0]][0]
        raise ValueError(
            f"{origin}: NaN or infinite values in covariate {bad[0]}{name}: {value}; "
            "drop or impute them"
        )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(f"{origin}: NaN or infinite responses; drop these rows")
    if y.dtype.kind == "O" and any(map(is_missing_label, y)):
        raise ValueError(f"{origin}: missing responses; drop these rows")
    if not np.isfinite(weights).all():
        raise ValueError(f"{origin}: NaN or infinite weights; give numbers of at least 0")


def is_missing_label(value: Any) -> bool:
    """Tell whether a label is None, NaN or NA; NA refuses to be compared."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def hold_rows(origin: str, rows: RawRows, columns: tuple[str, ...] | int) -> HeldShard:
    """Hold rows that count for something."""
    if not len(rows[0]):
        raise ValueError(f"{origin} has no rows; leave it out")
    if not rows[2].any():
        raise ValueError(f"{origin}: all weights are zero; give some rows weight, or leave it out")
    return HeldShard(rows, columns)


def agree_on_columns(
    columns: Sequence[tuple[str, ...] | int | None],
) -> tuple[str, ...] | int | None:
    """Give the columns of all shards that know them, which must be the same in the same order."""
    known = [(place, one) for place, one in enumerate(columns) if one is not None]
    for place, one in known[1:]:
        if one != known[0][1]:
            raise ValueError(
                f"shard {place} has the columns {one}, but shard {known[0][0]} has "
                f"{known[0][1]}; give every shard the same columns in the same order"
            )
    return known[0][1] if known else None


def refuse_kind(origin: Any, name: str, kind: Any) -> None:
    """Refuse a column that holds no numbers."""
    raise ValueError(
        f"{origin}: covariate {name!r} has the type {kind}; turn it into numbers, or leave it out"
    )
