"""Data sets of Hugging Face, by their name there or from a folder that they were saved to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from moiety.core.extras import import_extra
from moiety.core.files import refuse_damage
from moiety.data.columns import Column
from moiety.data.dataset import Dataset
from moiety.data.joined import join_test
from moiety.data.records import RecordColumns, Records, gather_records, write_json_value
from moiety.data.roles import Columns
from moiety.data.tables import OpenTable, build_dataset, read_label_values

PREFIX = "hf:"
"""What the names of such data begin with."""

TRAIN, TEST = "train", "test"


def read_hub(name: str, columns: Columns) -> Dataset:
    """Read a data set of rows; its split ``test``, where there is one, is the test part.

    Args:
        name: on the hub, or a folder that ``save_to_disk`` wrote.
        columns: what is said of them.

    Raises:
        ValueError: if it cannot be found or used.
    """
    library, found = find_splits(name)
    data = read_split(library, name, found[TRAIN], columns)
    if TEST not in found:
        return data
    return join_test(data, read_split(library, name, found[TEST], columns))


def read_hub_records(name: str, said: RecordColumns) -> tuple[Records, list[str]]:
    """Read instruction records of the split ``train``, and name the splits that are not read.

    Args:
        name: on the hub, or a folder that ``save_to_disk`` wrote.
        said: which columns are what.

    Raises:
        ValueError: if it cannot be found or used.
    """
    library, found = find_splits(name)
    split = found[TRAIN]
    kinds = {
        one: kind.int2str
        for one, kind in split.features.items()
        if isinstance(kind, library.ClassLabel)
    }
    rows = [
        {
            one: write_json_value(
                kinds[one](value) if one in kinds and value is not None else value
            )
            for one, value in row.items()
        }
        for row in split
    ]
    return gather_records(Path(name), rows, said), [one for one in found if one != TRAIN]


def find_splits(name: str) -> tuple[Any, Mapping[str, Any]]:
    """Find the library and the splits of a data set, of which one is that of training.

    Raises:
        ValueError: if it is not there, or has no such split.
    """
    library: Any = import_extra("datasets", "a data set of Hugging Face", "hf")
    about = f"the data set {name!r} of Hugging Face cannot be loaded"
    with refuse_damage(about, "check its name, or give a folder that save_to_disk wrote"):
        found = load_splits(library, name)
    if TRAIN not in found:
        raise ValueError(f"{name} has splits {list(found)}, but no {TRAIN!r}; save one so named")
    return library, found


def load_splits(library: Any, name: str) -> Mapping[str, Any]:
    """Load the splits of a data set; one that has none is one of training."""
    load = library.load_from_disk if Path(name).is_dir() else library.load_dataset
    try:
        found = load(name)
    except FileNotFoundError as error:  # of a folder that holds something else
        raise ValueError(str(error)) from error
    return dict(found) if isinstance(found, dict) else {TRAIN: found}


def read_split(library: Any, name: str, split: Any, columns: Columns) -> Dataset:
    """Read one split; labels that have names there keep them."""
    path, table = Path(name), split.with_format("arrow")[:]
    named = {
        one: kind.names
        for one, kind in split.features.items()
        if isinstance(kind, library.ClassLabel)
    }

    def read(chosen: Sequence[str], as_text: Collection[str]) -> Mapping[str, Column]:
        del as_text  # Arrow has types
        return {one: Column(path, one, table.column(one)) for one in chosen}

    def read_labels(column: Column) -> np.ndarray:
        values = read_label_values(column)
        known = named.get(column.name)
        return values if known is None else np.array([*known, None], dtype=object)[values]

    data = build_dataset(OpenTable(path, tuple(split.column_names), read, read_labels), columns)
    return replace(data, source=f"{PREFIX}{path.name}")
