"""Tables of the user: which columns are what, and their values in tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moiety.core.files import refuse_damage
from moiety.data.classes import decode_label, encode_labels, read_csv_labels
from moiety.data.columns import Column, import_arrow
from moiety.data.dataset import Dataset
from moiety.data.delimited import BLOCK, find_layout, open_bytes, read_delimited
from moiety.data.encoding import Encoding
from moiety.data.features import choose_encoding
from moiety.data.gaps import describe_gaps, drop_unlabelled, find_gaps
from moiety.data.limits import check_unpacked_size
from moiety.data.roles import Columns, Roles, check_column, note_clients, split_targets
from moiety.data.targets import read_targets
from moiety.ops.text import write_some

LINES = (".jsonl", ".jsonl.gz", ".ndjson")
"""How files of JSON lines end."""

UNNAMED = ("", "Unnamed: 0", "__index_level_0__")
"""What a first column without a name is called, by CSV, by pandas in CSV, and by it in Parquet."""


@dataclass(frozen=True)
class OpenTable:
    """A table whose columns are known and not read yet.

    Args:
        path: the file.
        names: of the columns that have one.
        read: reads columns; those in the second argument as they stand.
        labels: gives the values of a column that was read as it stands, as labels.
        notes: what a reader should know of the file.
    """

    path: Path
    names: tuple[str, ...]
    read: Callable[[Sequence[str], Collection[str]], Mapping[str, Column]]
    labels: Callable[[Column], np.ndarray]
    notes: tuple[str, ...] = ()


def open_table(path: Path) -> OpenTable:
    """Open a file of separated values, Parquet, or JSON lines."""
    if path.suffix.lower() in (".parquet", ".pq"):
        return open_parquet_table(path)
    return open_json_table(path) if path.name.lower().endswith(LINES) else open_csv_table(path)


def open_json_table(path: Path) -> OpenTable:
    """Read JSON lines: an object for each row, whose keys are the columns."""
    json = import_arrow("json")
    with refuse_damage(f"{path} cannot be read as JSON lines", "give an object in each line"):
        table = json.read_json(open_bytes(path), read_options=json.ReadOptions(block_size=BLOCK))

    def read(chosen: Sequence[str], as_text: Collection[str]) -> Mapping[str, Column]:
        del as_text  # JSON has types
        return {name: Column(path, name, table.column(name)) for name in chosen}

    names, notes = drop_row_names(path, table.column_names)
    return OpenTable(path, names, read, read_label_values, notes)


def open_csv_table(path: Path) -> OpenTable:
    """Open separated values."""
    import_arrow("csv")
    layout = find_layout(path)
    names, notes = drop_row_names(path, layout.names)
    read = partial(read_delimited, path, layout)
    return OpenTable(path, names, read, read_csv_column, (*layout.notes, *notes))


def drop_row_names(path: Path, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Leave out a first column without a name, which holds names or numbers of rows.

    Raises:
        ValueError: for other columns without a name, or two of one name.
    """
    first = names[:1]
    kept = tuple(names[1:] if first and first[0] in UNNAMED else names)
    kept = tuple(name for name in kept if name not in UNNAMED[2:])
    twins = sorted(name for name, count in Counter(kept).items() if count > 1 and name)
    if twins:
        raise ValueError(f"{path} has several columns named {twins}; give each its own name")
    if "" in kept:
        raise ValueError(
            f"{path} has columns {list(names)}; one of them, not the first, has no name: name it"
        )
    if len(kept) == len(names):
        return kept, ()
    return kept, (f"{path.name}: the column without a name is taken for row names, and not read",)


def read_csv_column(column: Column) -> np.ndarray:
    """Values of a column that was read as bytes."""
    values = column.data.to_pylist()
    text = [
        decode_label(column.path, column.name, row, value or b"")
        for row, value in enumerate(values, 1)
    ]
    return read_csv_labels(text)


def open_parquet_table(path: Path) -> OpenTable:
    """Open Parquet; only the wanted columns will be read."""
    parquet = import_arrow("parquet")
    with (
        refuse_damage(f"{path} cannot be read as Parquet", "write it anew"),
        parquet.ParquetFile(path) as file,
    ):
        found, num_rows = file.schema_arrow.names, file.metadata.num_rows
    names, notes = drop_row_names(path, found)

    def read(chosen: Sequence[str], as_text: Collection[str]) -> Mapping[str, Column]:
        del as_text  # Parquet has types
        check_unpacked_size(path, num_rows * len(chosen) * 8)
        with (
            refuse_damage(f"{path} cannot be read as Parquet", "write it anew"),
            parquet.ParquetFile(path) as file,
        ):
            table = file.read(columns=list(chosen))
        return {name: Column(path, name, table.column(name)) for name in chosen}

    return OpenTable(path, names, read, read_label_values, notes)


def read_label_values(column: Column) -> np.ndarray:
    """Values of a column of labels, as numpy has them."""
    about = f"{column.path}: {column.name!r} cannot be read as labels"
    with refuse_damage(about, "give whole numbers or text"):
        data: Any = column.data
        if str(data.type).startswith("dictionary"):
            data = data.cast(data.type.value_type)
        return data.to_numpy()


def read_table(path: Path, columns: Columns) -> Dataset:
    """Read a file of a table."""
    return build_dataset(open_table(path), columns)


def build_dataset(table: OpenTable, columns: Columns) -> Dataset:
    """Read a table; unwanted columns and labels are not converted.

    Labels and workers are read as the bytes they are, so that none is changed by a cast.

    Returns:
        The rows. ``x`` is encoded by all of them; ``raw`` are their columns, so that a run may fit
        the encoding to training rows alone.

    Raises:
        ValueError: if the file cannot be used; says where and what to do.
    """
    columns = columns.split(table.names)
    path, roles = table.path, columns.choose_roles(table.path, table.names)
    found = read_columns(table, roles.features, dict.fromkeys(roles.others, True))
    found, gaps = drop_unlabelled(path, found, roles.targets) if roles.targets else (found, ())
    raw = {name: found[name] for name in roles.features}
    encoding, notes = choose_encoding(raw, columns.features)
    if not encoding.needed:
        raise ValueError(f"{path}: no column is left as a feature ({'; '.join(notes)}); add some")
    return Dataset(
        path.stem,
        encoding.apply(raw),
        source=path.name,
        columns=encoding.names(),
        raw=tuple(raw[name] for name in encoding.needed),
        encoding=encoding,
        roles=roles,
        notes=(*table.notes, *gaps, *notes, *note_clients(roles)),
        **read_roles(table, roles, found, columns.task),
    )


def read_encoded(path: Path, columns: Columns, encoding: Encoding) -> Dataset:
    """Read a table as a finished model takes it: its columns alone, and labels where there are.

    Raises:
        ValueError: if a column is missing, or the file cannot be used.
    """
    table, needed = open_table(path), encoding.needed
    missing = [name for name in needed if name not in table.names]
    if missing:
        raise ValueError(
            f"{path}: columns {write_some(missing)} are missing; the model was trained "
            f"on {write_some(needed)}"
        )
    others = [name for name in table.names if name not in needed]
    check_target(path, columns.target, table.names, needed)
    label, group = columns.choose(path, others)
    known = split_targets(columns.target or columns.usual_target, others) if columns.labels else ()
    lost, notes = [name for name in known if name not in others], table.notes
    if lost and len(lost) < len(known):
        notes = (*notes, f"{path} has some targets but not {lost}: none is read")
        label = None
    more = known[1:] if label else ()
    roles = Roles(tuple(needed), label, group, more=more)
    found = read_columns(table, list(needed), {**needed, **dict.fromkeys(roles.others, True)})
    gaps = find_gaps(found, roles.targets) if roles.targets else np.zeros(1, dtype=bool)
    if gaps.any():
        notes = (*notes, f"{describe_gaps(gaps, roles.targets)}: answers are not scored")
        roles = replace(roles, label=None, more=())
    return Dataset(
        path.stem,
        encoding.apply(found),
        source=path.name,
        columns=encoding.names(),
        roles=roles,
        notes=notes,
        **read_roles(table, roles, found, columns.task),
    )


def check_target(
    path: Path, target: str | None, names: Sequence[str], needed: Collection[str]
) -> None:
    """Refuse a target that is not there, or that is a feature of the model."""
    for name in split_targets(target, names):
        check_column(path, names, "target", name)
        if name in needed:
            raise ValueError(f"{path}: target {name!r} is a feature of the model; name another")


def read_columns(
    table: OpenTable, features: Sequence[str], others: Mapping[str, bool]
) -> Mapping[str, Column]:
    """Read columns, and see that there are rows.

    Args:
        table: where they are.
        features: columns that are read as they look.
        others: further columns, and whether they are read as they stand.

    Raises:
        ValueError: if there are no rows.
    """
    chosen = list(dict.fromkeys([*features, *others]))
    found = table.read(chosen, [name for name, as_text in others.items() if as_text])
    if not len(next(iter(found.values())).data):
        raise ValueError(f"{table.path} has names of columns but no rows; give at least one row")
    return found


def read_roles(
    table: OpenTable, roles: Roles, found: Mapping[str, Column], task: str
) -> dict[str, Any]:
    """Read targets, workers and weights as fields of a data set."""
    fields: dict[str, Any] = {}
    if roles.label is not None:
        values = {name: table.labels(found[name]) for name in roles.targets}
        fields |= read_targets(table.path, values, task)
    if roles.group is not None:
        values = table.labels(found[roles.group])
        fields["groups"], fields["holders"] = encode_labels(table.path, roles.group, values)
    if roles.weight is not None:
        fields["weights"] = read_weights(found[roles.weight])
    return fields


def read_weights(column: Column) -> torch.Tensor:
    """Read weights of rows, float32 [N].

    Raises:
        ValueError: for one that is missing or below 0, or where all are 0.
    """
    values = column.numbers()
    bad = ~(values >= 0)
    if bad.any() or not values.sum():
        row = int(bad.argmax())
        raise ValueError(
            f"{column.path}: weight {column.name!r} is {values[row]} in row {row + 1}; give "
            "numbers of 0 or more, one of them above 0"
        )
    return torch.from_numpy(values.astype(np.float32))
