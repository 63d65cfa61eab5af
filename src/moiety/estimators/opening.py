"""Find out what a shard is, and open it where its rows are.

A partition of a lazy data frame is computed by the machine that fits it: until then it is only
named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from moiety.estimators.shards import (
    CsvFile,
    HeldShard,
    NpyFile,
    ParquetFile,
    Shard,
    check_shard_arrays,
    hold_rows,
    is_missing_label,
    refuse_kind,
)

MAKERS = ("compute", "to_pandas")
ShardColumns = tuple[str, ...] | int | None


@dataclass(frozen=True)
class LazyShard:
    """A partition that is yet to be computed; its columns, where it can tell them before."""

    partition: Any
    place: int
    target: Any
    columns: ShardColumns


def gather_shards(x: Any, y: Any, labels: Any, weights: Any) -> Any:
    """Give shards: those given as such, or rows split by whose they are."""
    if labels is not None and y is not None:
        return split_rows(x, y, labels, weights)
    if labels is not None:
        raise ValueError("shards= names whose each row is, but no y was given; give fit(X, y, ...)")
    if y is not None or weights is not None:
        raise ValueError(
            "a distributed fit takes the rows of each machine by themselves: give "
            "fit([(X_0, y_0), (X_1, y_1)]), one pair or path a machine, or fit(X, y, shards=labels)"
        )
    if x is None or isinstance(x, (str, Path)):
        raise ValueError(f"the shards are {x!r}; give a list, one pair or path a machine")
    if isinstance(x, Mapping):
        raise ValueError(  # noqa: TRY004 - as all refusals here
            f"the shards are a mapping of {list(x)[:3]}; give list(shards.values())"
        )
    if isinstance(x, tuple) and any(getattr(part, "ndim", 0) == 1 for part in x[1:2]):
        raise ValueError("the shards are one pair (X, y); give a list, fit([(X, y)])")
    return x


def split_rows(x: Any, y: Any, labels: Any, weights: Any = None) -> list[tuple[Any, ...]]:
    """Give the rows of every machine, in the order of their sorted labels.

    Args:
        x: covariates of all rows, [N, d], an array or a frame.
        y: responses, [N].
        labels: whose each row is, [N].
        weights: [N], or none.
    """
    labels = np.asarray(labels)
    missing = [at for at, one in enumerate(labels.ravel().tolist()) if is_missing_label(one)]
    if missing:
        raise ValueError(f"shards= names no machine for row {missing[0]}; drop such rows")
    parts = [x, y] if weights is None else [x, y, weights]
    if labels.ndim != 1 or {len(part) for part in parts} != {len(labels)}:
        sizes = [len(part) for part in parts]
        raise ValueError(f"shards has shape {labels.shape} for {sizes} rows; give a label a row")
    return [
        tuple(_safe_indexing(part, np.flatnonzero(labels == label)) for part in parts)
        for label in np.unique(labels)
    ]


def open_shard(shard: Any, place: int, target: Any) -> Shard | LazyShard:
    """Find out what a shard is.

    Args:
        shard: ``(X, y)``, ``(X, y, weights)``, a path, a frame, or a partition that can
            ``compute()`` or become a frame by ``to_pandas()``.
        place: its place among the shards, for messages.
        target: the name of the response where rows have names.
    """
    name = f"shard {place}"
    if find_maker(shard) is not None:
        return LazyShard(shard, place, target, foresee_columns(name, shard, target))
    if isinstance(shard, (tuple, list)) and any(find_maker(part) is not None for part in shard):
        return LazyShard(shard, place, target, None)
    if isinstance(shard, (str, Path)):
        return open_file(Path(shard), target)
    if isinstance(shard, (tuple, list)) and len(shard) in (2, 3):
        rows = check_shard_arrays(name, *shard)
        names = getattr(shard[0], "columns", None)
        known = rows[0].shape[1] if names is None else name_covariates(name, list(names))
        return hold_rows(name, rows, known)
    if getattr(shard, "columns", None) is None:
        raise ValueError(
            f"{name} is a {type(shard).__name__}; give (X, y), (X, y, weights), a path, a frame or "
            "a partition for each machine"
        )
    return open_frame(name, shard, target)


def materialise_shard(shard: Shard | LazyShard) -> Shard:
    """Open a shard for good; called by the machine that has it."""
    while isinstance(shard, LazyShard):
        whole = shard.partition
        parted = isinstance(whole, (tuple, list))
        made = tuple(map(compute_lazy_shard, whole)) if parted else compute_lazy_shard(whole)
        shard = open_shard(made, shard.place, shard.target)
    return shard


def compute_lazy_shard(part: Any) -> Any:
    """Compute a part that is yet to be computed."""
    maker = find_maker(part)
    return part if maker is None else maker()


def find_maker(shard: Any) -> Any:
    """Give the function that computes a partition, or None for what is there already."""
    makers = (getattr(shard, name, None) for name in MAKERS)
    return next((maker for maker in makers if callable(maker)), None)


def foresee_columns(origin: str, shard: Any, target: Any) -> ShardColumns:
    """Give the covariates of a partition that names its columns before it is computed."""
    for word in ("columns", "column_names"):
        names = getattr(shard, word, None)
        try:
            names = None if names is None else list(names)
        except TypeError:  # a delayed object has any attribute, and cannot be listed
            names = None
        if names is not None:
            return name_covariates(origin, drop_target_column(origin, names, target))
    return None


def name_covariates(origin: Any, names: list[Any]) -> tuple[str, ...] | int:
    """Give names of covariates that are words; of those that are numbers only the count."""
    words = sum(isinstance(name, str) for name in names)
    if 0 < words < len(names):
        raise ValueError(
            f"{origin} has columns named by words and by numbers, {names}; name all by words"
        )
    return tuple(names) if words else len(names)


def drop_target_column(origin: Any, names: list[Any], target: Any) -> list[Any]:
    """Leave the response out of the columns."""
    if target not in names:
        raise ValueError(f"{origin} has no column {target!r}; name one of {names} as target")
    return [name for name in names if name != target]


def open_frame(origin: str, frame: Any, target: Any) -> HeldShard:
    """Take the response out of a frame."""
    names = drop_target_column(origin, list(frame.columns), target)
    columns = name_covariates(origin, names)
    return hold_rows(
        origin, check_shard_arrays(origin, frame[names], frame[target], names=tuple(names)), columns
    )


def _parquet_columns(path: Path, schema: Any, target: str) -> tuple[str, ...]:
    """Give the covariates: all columns but the response and what pandas stored as an index."""
    from pyarrow import types

    stored = (schema.pandas_metadata or {}).get("index_columns", [])
    index = {name for name in stored if isinstance(name, str) and name != target}
    names = drop_target_column(path, [name for name in schema.names if name not in index], target)
    for name in names:
        kind = schema.field(name).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
            refuse_kind(path, name, kind)
    return tuple(names)


def open_file(path: Path, target: Any) -> Shard:
    """Read a file's columns, and nothing else yet."""
    openers = {".parquet": open_parquet, ".csv": open_csv, ".npy": open_npy}
    if not path.exists():
        raise ValueError(f"{path} does not exist; check the shard's path")
    if path.suffix not in openers:
        raise ValueError(f"{path.name} has the ending {path.suffix!r}; give .parquet, .csv or .npy")
    return openers[path.suffix](path, str(target))


def refuse_empty(path: Path, rows: int) -> None:
    """Refuse a file without rows."""
    if not rows:
        raise ValueError(f"{path} has no rows; leave it out")


def open_parquet(path: Path, target: str) -> ParquetFile:
    """Read the schema."""
    import pyarrow.parquet

    columns = _parquet_columns(path, pyarrow.parquet.read_schema(path), target)
    refuse_empty(path, pyarrow.parquet.read_metadata(path).num_rows)
    return ParquetFile(path, target, columns)


def open_csv(path: Path, target: str) -> CsvFile:
    """Read the header."""
    import pandas as pd

    first = pd.read_csv(path, nrows=1)
    names = [str(name) for name in first.columns]
    bare = [name for name in names if name.startswith("Unnamed: ")]
    if bare:
        raise ValueError(
            f"{path} has a column without a name ({bare[0]!r}), such as a row index; "
            "write it with index=False, or name the column"
        )
    columns = tuple(drop_target_column(path, names, target))
    refuse_empty(path, len(first))
    return CsvFile(path, target, columns)


def open_npy(path: Path, target: str) -> NpyFile:
    """Read the shape; the last column is the response."""
    del target
    shape = np.load(path, mmap_mode="r").shape
    if len(shape) != 2 or shape[1] < 2:
        raise ValueError(
            f"{path} holds an array of shape {shape}; give covariates and, last, the response"
        )
    refuse_empty(path, shape[0])
    return NpyFile(path, shape[1] - 1)
