"""Rows that stay in a Parquet file and are read a few row groups at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moiety.core.extras import import_extra
from moiety.core.types import Batch
from moiety.data.classes import read_text_labels
from moiety.data.columns import Column
from moiety.data.dataset import FeatureScale
from moiety.data.roles import Columns
from moiety.data.tables import drop_row_names, read_label_values


@dataclass(frozen=True)
class ParquetRows:
    """The rows of one file; memory holds ``most`` of its row groups. Made by ``parquet_rows``.

    What is held is a pure function of the file, so it is no state. Train with
    ``Local(window=...)`` of about a row group: rows shuffled over the whole file would have it
    read whole at every step.

    Args:
        path: the file.
        features: columns of ``x``, in order.
        target: the column of ``y``.
        classes: names of the classes in the order of their numbers; empty where labels are
            numbers already.
        ends: behind the last row of each row group, [groups].
        scale: applied to what is read.
        most: row groups held at a time.
        held: the row groups in memory, the longest unused first.
    """

    path: Path
    features: tuple[str, ...]
    target: str | None
    classes: tuple[str, ...]
    ends: Tensor
    scale: FeatureScale | None = None
    most: int = 4
    held: dict[int, Batch] = field(default_factory=dict, compare=False)

    @property
    def size(self) -> int:
        return int(self.ends[-1])

    def take(self, ids: Tensor, /) -> Batch:
        group = torch.searchsorted(self.ends, ids, right=True)
        asked, parts = group.unique().tolist(), []
        for number in asked:
            first = int(self.ends[number - 1]) if number else 0
            columns = self.open(number)
            parts.append({n: c[ids[group == number] - first] for n, c in columns.items()})
        back = group.argsort(stable=True).argsort()
        return {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}

    def open(self, number: int) -> Batch:
        """Give a row group, from memory or from the file."""
        columns = self.held.pop(number) if number in self.held else self.read(number)
        while len(self.held) >= self.most:
            self.held.pop(next(iter(self.held)))
        self.held[number] = columns
        return columns

    def read(self, number: int) -> Batch:
        """Read a row group."""
        parquet: Any = import_extra("pyarrow.parquet", "reading Parquet files")
        chosen = [*self.features, *([self.target] if self.target else [])]
        # Opened anew each time: a handle shared with a forked process would share its position.
        with parquet.ParquetFile(self.path) as file:
            table = file.read_row_group(number, columns=chosen)
        columns = [Column(self.path, name, table.column(name)) for name in self.features]
        refuse_text(self.path, columns)
        x = torch.from_numpy(np.stack([read_feature(column) for column in columns], axis=1))
        batch = {"x": x if self.scale is None else self.scale.apply(x)}
        return {**batch, "y": self.labels(table)} if self.target else batch

    def labels(self, table: Any) -> Tensor:
        """Number the labels of a row group."""
        target = self.target or ""
        values = read_label_values(Column(self.path, target, table.column(target)))
        if not self.classes:
            if values.dtype.kind not in "iu":
                raise ValueError(
                    f"{self.path}: {self.target!r} holds {values[:1].tolist()}; give classes=..., "
                    "the names of all classes, so that every file numbers them alike"
                )
            return torch.from_numpy(values.astype(np.int64))
        place = {name: at for at, name in enumerate(self.classes)}
        names = read_text_labels(self.path, self.target or "", values)
        strange = sorted(set(names) - place.keys())
        if strange:
            raise ValueError(
                f"{self.path}: {self.target!r} holds {strange[:3]}, which are not among "
                f"classes={self.classes}"
            )
        return torch.tensor([place[name] for name in names])


def parquet_rows(
    path: str | Path,
    *,
    target: str | None = None,
    classes: Sequence[str] = (),
    scale: FeatureScale | None = None,
    most: int = 4,
) -> ParquetRows:
    """Open the rows of a Parquet file for a worker, without reading them.

    Args:
        path: numeric columns are features.
        target: the column of labels; by default the one named y, label, target or class.
        classes: names of all classes; not needed where labels are the numbers 0, 1, 2, ...
        scale: from ``fit_streamed_scale``.
        most: row groups held in memory.

    Raises:
        ValueError: if the file or the column is not there, or it holds no rows.
    """
    arrow: Any = import_extra("pyarrow", "reading Parquet files")
    parquet: Any = import_extra("pyarrow.parquet", "reading Parquet files")
    path = Path(path)
    if most < 1:
        raise ValueError(f"{most=} row groups in memory; choose at least 1")
    try:
        with parquet.ParquetFile(path) as file:
            names, facts = file.schema_arrow.names, file.metadata
            sizes = [facts.row_group(place).num_rows for place in range(facts.num_row_groups)]
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}; write it anew") from error
    roles = Columns(target).choose_roles(path, drop_row_names(path, names)[0])
    if not sum(sizes):
        raise ValueError(f"{path} has no rows; give at least one")
    ends = torch.tensor(sizes).cumsum(0)
    return ParquetRows(path, roles.features, roles.label, tuple(classes), ends, scale, most)


def refuse_text(path: Path, columns: Sequence[Column]) -> None:
    """Refuse features that are not numbers, all of them at once."""
    text = [column.name for column in columns if not column.is_number]
    if text:
        raise ValueError(
            f"{path}: columns {text} are not numeric; encode or drop them, or, if one holds the "
            "labels, say so by target=..."
        )


def read_feature(column: Column) -> np.ndarray:
    """Values of one feature, float32 [N]; a missing, NaN or infinite one is refused."""
    values = column.numbers()
    missing = np.isnan(values)
    if missing.any():
        raise ValueError(
            f"{column.path}: column {column.name!r} is nan or missing in row "
            f"{int(missing.argmax()) + 1} of its row group; fill in or drop such rows"
        )
    return values.astype(np.float32)


def fit_streamed_scale(workers: Sequence[ParquetRows]) -> FeatureScale:
    """Fit a scale over the rows of several files, a row group at a time, in float64."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for rows in workers:
        for number in range(len(rows.ends)):
            x = rows.read(number)["x"].double()
            count, total, square = count + len(x), total + x.sum(0), square + x.square().sum(0)
    mean = total / count
    std = (square / count - mean.square()).clamp_min(0).sqrt()
    flat = std <= 1e-7 * mean.abs().clamp_min(1e-12)
    return FeatureScale(mean.float(), torch.where(flat, 1.0, std).float())
