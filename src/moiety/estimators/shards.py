"""Rows where they are: arrays, frames, files read in pieces, partitions of other libraries.

A shard is opened once and read as often as needed; nothing but one piece is held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from moiety.ops.mixture.logit import Array

PIECE = 16_384  # rows of a file read at once
Raw = tuple[Array, Any, Array]


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

    def blocks(self) -> Iterator[Raw]:
        """Give pieces ``(x, y, weights)``."""
        ...


@dataclass(frozen=True)
class Held:
    """Rows in memory."""

    rows: Raw
    columns: tuple[str, ...] | int
    in_memory: bool = True

    def blocks(self) -> Iterator[Raw]:
        """Give the rows as one piece."""
        yield self.rows


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file, read row group by row group."""

    path: Path
    target: str
    columns: tuple[str, ...]
    in_memory: bool = False

    def blocks(self) -> Iterator[Raw]:
        """Give pieces."""
        import pyarrow.parquet

        names = [*self.columns, self.target]
        with pyarrow.parquet.ParquetFile(self.path, pre_buffer=False) as file:
            for batch in file.iter_batches(PIECE, columns=names, use_threads=False):
                *x, y = (batch.column(name).to_numpy(zero_copy_only=False) for name in names)
                yield checked(self.path, np.column_stack(x), y, names=self.columns)


@dataclass(frozen=True)
class CsvFile:
    """A file of comma-separated values with a header, read in pieces."""

    path: Path
    target: str
    columns: tuple[str, ...]
    in_memory: bool = False

    def blocks(self) -> Iterator[Raw]:
        """Give pieces."""
        import pandas as pd

        with pd.read_csv(self.path, chunksize=PIECE) as frames:
            for frame in frames:
                for name in self.columns:
                    if frame[name].dtype.kind not in "iufb":
                        _refuse_kind(self.path, name, frame[name].dtype)
                x = frame[list(self.columns)].to_numpy()
                yield checked(self.path, x, frame[self.target], names=self.columns)


@dataclass(frozen=True)
class NpyFile:
    """A two-dimensional array on disk whose last column is the response."""

    path: Path
    columns: int
    in_memory: bool = False

    def blocks(self) -> Iterator[Raw]:
        """Give pieces."""
        values = np.load(self.path, mmap_mode="r")
        for at in range(0, len(values), PIECE):
            part = np.asarray(values[at : at + PIECE])
            yield checked(self.path, part[:, :-1], part[:, -1])


def checked(
    origin: Any, x: Any, y: Any, weights: Any = None, *, names: tuple[str, ...] = ()
) -> Raw:
    """Make arrays, and refuse what is not finite."""
    x = np.ascontiguousarray(x, dtype=np.float64)
    y = np.asarray(y)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 2 or y.shape != (len(x),) or weights.shape != y.shape:
        raise ValueError(
            f"{origin}: covariates {x.shape}, responses {y.shape} and weights "
            f"{weights.shape} do not belong together; give [N, d], [N], [N]"
        )
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
    if y.dtype.kind == "O" and any(value is None or value != value for value in y):
        raise ValueError(f"{origin}: missing responses; drop these rows")
    if (weights < 0).any():
        raise ValueError(f"{origin}: negative weights; give weights of at least 0")
    return x, y, weights


def open_shard(shard: Any, place: int, target: str) -> Shard:
    """Find out what a shard is.

    Args:
        shard: ``(X, y)``, ``(X, y, weights)``, a path, a frame, or a partition that can
            ``compute()`` or become a frame by ``to_pandas()``.
        place: its place among the shards, for messages.
        target: the name of the response where rows have names.
    """
    name = f"shard {place}"
    for maker in ("compute", "to_pandas"):
        made = getattr(shard, maker, None)
        if callable(made):
            return open_shard(made(), place, target)
    if isinstance(shard, (str, Path)):
        return open_file(Path(shard), target)
    if isinstance(shard, (tuple, list)) and len(shard) in (2, 3):
        names = getattr(shard[0], "columns", None)
        rows = checked(name, *shard)
        return Held(rows, rows[0].shape[1] if names is None else tuple(map(str, names)))
    names = getattr(shard, "columns", None)
    if names is None:
        raise ValueError(
            f"{name} is a {type(shard).__name__}; give (X, y), a path, a frame or a partition"
        )
    others = _without(name, tuple(map(str, names)), target)
    frame: Any = shard
    return Held(checked(name, frame[list(others)], frame[target]), others)


def _without(origin: Any, names: tuple[str, ...], target: str) -> tuple[str, ...]:
    if target not in names:
        raise ValueError(f"{origin} has no column {target!r}; name one of {list(names)} as target")
    return tuple(name for name in names if name != target)


def _refuse_kind(origin: Any, name: str, kind: Any) -> None:
    raise ValueError(
        f"{origin}: covariate {name!r} has the type {kind}; turn it into numbers, or leave it out"
    )


def _parquet_columns(path: Path, schema: Any, target: str) -> tuple[str, ...]:
    """Give the covariates: all columns but the response and what pandas stored as an index."""
    from pyarrow import types

    stored = (schema.pandas_metadata or {}).get("index_columns", [])
    index = {name for name in stored if isinstance(name, str) and name != target}
    names = _without(path, tuple(name for name in schema.names if name not in index), target)
    for name in names:
        kind = schema.field(name).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
            _refuse_kind(path, name, kind)
    return names


def open_file(path: Path, target: str) -> Shard:
    """Read a file's columns, and nothing else yet."""
    if not path.exists():
        raise ValueError(f"{path} does not exist; check the shard's path")
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return ParquetFile(
            path, target, _parquet_columns(path, pyarrow.parquet.read_schema(path), target)
        )
    if path.suffix == ".csv":
        import pandas as pd

        names = tuple(map(str, pd.read_csv(path, nrows=0).columns))
        bare = [name for name in names if name.startswith("Unnamed: ")]
        if bare:
            raise ValueError(
                f"{path} has a column without a name ({bare[0]!r}), such as a row index; "
                "write it with index=False, or name the column"
            )
        return CsvFile(path, target, _without(path, names, target))
    if path.suffix == ".npy":
        return NpyFile(path, np.load(path, mmap_mode="r").shape[1] - 1)
    raise ValueError(f"{path.name} has the ending {path.suffix!r}; give .parquet, .csv or .npy")


def agreed_columns(shards: list[Shard]) -> tuple[str, ...] | int:
    """Give the columns of all shards, which must be the same in the same order."""
    first = shards[0].columns
    for place, shard in enumerate(shards):
        if shard.columns != first:
            raise ValueError(
                f"shard {place} has the columns {shard.columns}, but shard 0 has {first}; "
                "give every shard the same columns in the same order"
            )
    return first
