"""Tables of the user: which columns are what, and their values in tensors."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moiety.core.extras import import_extra
from moiety.core.files import refuse_damage
from moiety.data.classes import decode_label, encode_labels, read_csv_labels
from moiety.data.dataset import Dataset
from moiety.data.limits import check_unpacked_size

TARGETS = ("y", "label", "target", "class")
WORKER = "worker"


@dataclass(frozen=True)
class Columns:
    """What the user said of columns: the target, the group, and whether labels are wanted.

    ``usual_target`` is the target where it is there, and nothing is amiss where it is not.
    """

    target: str | None = None
    group: str | None = None
    labels: bool = True
    usual_target: str | None = None

    def choose(
        self, path: Path, names: Sequence[str], usual: Sequence[str] = TARGETS
    ) -> tuple[str | None, str | None]:
        """Choose the columns of labels (None where unwanted or absent) and of workers."""
        group = self.group or (WORKER if WORKER in names else None)
        self.check(path, names, "group", self.group)
        if not self.labels:
            return None, group
        self.check(path, names, "target", self.target)
        found = [name for name in usual if name in names]
        found = [self.usual_target] if self.usual_target in names else found
        if self.target is None and len(found) > 1:
            raise ValueError(f"{path} has columns {found}; say which is the label by target=...")
        return self.target or (found[0] if found else None), group

    def check(self, path: Path, names: Sequence[str], role: str, name: str | None) -> None:
        """Refuse a named column that is not there."""
        if name is not None and name not in names:
            raise ValueError(f"{path} has no column {role}={name!r}; it has {list(names)}")

    def kept(self, path: Path, names: Sequence[str]) -> tuple[list[str], str | None, str | None]:
        """Choose the columns of features, the label and the group; unwanted labels are left out."""
        check_column_names(path, names)
        label, group = self.choose(path, names)
        never = {label, group, self.target, self.usual_target} | (
            set() if self.labels or self.target else {*TARGETS}
        )
        features = [name for name in names if name not in never]
        if not features:
            raise ValueError(f"{path} has columns {list(names)}, none of them features; add some")
        return features, label, group


def check_column_names(path: Path, names: Sequence[str]) -> None:
    """Refuse columns without a name of their own."""
    twins = sorted(name for name, count in Counter(names).items() if count > 1)
    if twins:
        raise ValueError(f"{path} has several columns named {twins}; give each its own name")
    if any(not name.strip() or name.startswith("__index_level_") for name in names):
        raise ValueError(
            f"{path} has columns {list(names)}, one without a name (pandas writes its index so); "
            "write it with index=False, or name it"
        )


def read_csv(path: Path, columns: Columns) -> Dataset:
    """Read comma-separated values with a header; unwanted labels are not converted.

    Labels and workers are read as the bytes they are, so that none is changed by a cast.
    """
    arrow: Any = import_extra("pyarrow", "reading CSV files")
    arrow_csv: Any = import_extra("pyarrow.csv", "reading CSV files")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not CSV in UTF-8 ({error}); save it so") from error
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise ValueError(f"{path} has the one column {names[0]!r}; separate columns by commas")
    features, label, group = columns.kept(path, names)
    as_they_are = [name for name in (label, group) if name is not None]
    options = arrow_csv.ConvertOptions(
        include_columns=[*features, *as_they_are],
        column_types=dict.fromkeys(as_they_are, arrow.binary()),
    )
    with refuse_damage(f"{path} cannot be read as CSV", "mend that line"):
        table = arrow_csv.read_csv(path, convert_options=options)
    return table_to_dataset(path, table, (features, label, group), read_csv_column)


def read_csv_column(path: Path, table: Any, name: str) -> np.ndarray:
    """Values of a column that was read as bytes."""
    values = table.column(name).to_pylist()
    text = [decode_label(path, name, row, value or b"") for row, value in enumerate(values, 1)]
    return read_csv_labels(text)


def read_parquet(path: Path, columns: Columns) -> Dataset:
    """Read Parquet; only the wanted columns are read."""
    parquet: Any = import_extra("pyarrow.parquet", "reading Parquet files")
    with (
        refuse_damage(f"{path} cannot be read as Parquet", "write it anew"),
        parquet.ParquetFile(path) as file,
    ):
        names, num_rows = file.schema_arrow.names, file.metadata.num_rows
    features, label, group = columns.kept(path, names)
    chosen = [*features, *(name for name in (label, group) if name is not None)]
    check_unpacked_size(path, num_rows * len(chosen) * 8)
    with (
        refuse_damage(f"{path} cannot be read as Parquet", "write it anew"),
        parquet.ParquetFile(path) as file,
    ):
        table = file.read(columns=chosen)
    return table_to_dataset(path, table, (features, label, group), read_label_values)


def table_to_dataset(
    path: Path,
    table: Any,
    kept: tuple[Sequence[str], str | None, str | None],
    read_labels: Callable[[Path, Any, str], np.ndarray],
) -> Dataset:
    """Bring a table of Arrow to tensors.

    Args:
        path: the file.
        table: what was read of it.
        kept: the columns of features, the label and the group.
        read_labels: gives the values of a column of labels or workers.
    """
    features, label, group = kept
    if not table.num_rows:
        raise ValueError(f"{path} has a header but no rows; give at least one row")
    refuse_text(path, table, features)
    x = np.stack([read_feature(path, table, name) for name in features], axis=1)
    y, classes = None, ()
    if label is not None:
        y, classes = encode_labels(path, label, read_labels(path, table, label))
    groups = None if group is None else encode_labels(path, group, read_labels(path, table, group))
    names = tuple(features)
    rows, held = torch.from_numpy(x), None if groups is None else groups[0]
    return Dataset(path.stem, rows, y, classes, held, source=path.name, columns=names)


def read_label_values(path: Path, table: Any, name: str) -> np.ndarray:
    """Values of a column of labels, as numpy has them."""
    column = table.column(name)
    with refuse_damage(f"{path}: {name!r} cannot be read as labels", "give whole numbers or text"):
        if str(column.type).startswith("dictionary"):
            column = column.cast(column.type.value_type)
        return column.to_numpy()


def is_number(kind: Any) -> bool:
    """Tell whether a type of Arrow can be a feature; an empty column has the type null."""
    types: Any = import_extra("pyarrow", "reading tables").types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(test(kind) for test in tests)


def is_plain_type(kind: Any) -> bool:
    """Tell whether numpy has the type itself, so that a column is brought over at once."""
    types: Any = import_extra("pyarrow", "reading tables").types
    return types.is_integer(kind) or types.is_floating(kind)


def refuse_text(path: Path, table: Any, features: Sequence[str]) -> None:
    """Refuse features that are not numbers, all of them at once."""
    text = [name for name in features if not is_number(table.column(name).type)]
    if text:
        raise ValueError(
            f"{path}: columns {text} are not numeric; encode or drop them, or, if one holds the "
            "labels, say so by target=..."
        )


def read_feature(path: Path, table: Any, name: str) -> np.ndarray:
    """Values of one feature, float32 [N]; a missing, NaN or infinite one is refused."""
    column = table.column(name)
    if column.null_count or not is_plain_type(column.type):
        exact = np.array([np.nan if v is None else float(v) for v in column.to_pylist()])
    else:
        exact = column.to_numpy().astype(np.float64)
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{path}: column {name!r} is {exact[row]} or missing in row {row + 1} (the header is "
            "not counted); fill in or drop such rows"
        )
    return values
