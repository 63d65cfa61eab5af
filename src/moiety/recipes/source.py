"""Where the data of a recipe come from: a name, or a file of the user's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from moiety.core.errors import UnknownNameError
from moiety.data import datasets, files, texts
from moiety.data.dataset import Dataset
from moiety.data.hub import PREFIX, read_hub
from moiety.data.joined import join_test
from moiety.data.nodes import is_graph, read_training_graph
from moiety.data.roles import Columns
from moiety.recipes.fields import CATALOGUE, suggest_names
from moiety.recipes.objective import apply_choices
from moiety.recipes.options import get_options
from moiety.recipes.record import Federation
from moiety.tasks.tokens import Tokens


def read_data(record: Federation) -> Dataset:
    """Load a data set by name, or a user's own file or folder, with the test file if there is one.

    Raises:
        ValueError: if it is not there, cannot be used, or has no columns to choose from.
    """
    name, columns = record.data, choose_columns(record)
    if record.skill:
        raise ValueError(
            f"--skill {record.skill} is a column of instruction records, which net="
            f"{record.net!r} does not read; leave it out, or take --net lm"
        )
    if not name:
        raise ValueError("this recipe has no data of its own: say --data FILE or --data DIR")
    if name in datasets.DATASETS:
        refuse_choices(record)
        return apply_choices(datasets.load_dataset(name), record)
    if name.startswith(PREFIX):
        found = read_hub(name.removeprefix(PREFIX), columns)
        return apply_choices(join_file(found, record, columns), record)
    if not (Path(name).exists() or Path(name).suffix or "/" in name):
        raise UnknownNameError(
            f"no data set or file {name!r}{suggest_names(name, datasets.DATASETS, CATALOGUE)} "
            "Files are CSV, Parquet, npz, a text (.txt) or a folder of images"
        )
    return apply_choices(join_file(read_own(Path(name), columns), record, columns), record)


def join_file(data: Dataset, record: Federation, columns: Columns) -> Dataset:
    """Put the rows of a test file behind the others, where there is one."""
    if not record.test:
        return data
    if data.test is not None or isinstance(data.find_objective(), Tokens):
        raise ValueError(
            f"--test {record.test}, but {record.data} has a test part of its own; leave it out"
        )
    columns = replace(columns, task=data.find_objective().name)
    return join_test(data, files.read_file(Path(record.test), columns))


def read_own(path: Path, columns: Columns) -> Dataset:
    """Read a file of the user's to train on: a text, a graph, or what ``read_file`` reads."""
    if path.suffix.lower() == ".txt":
        columns.refuse_unread(path)
        return texts.read_training_text(path)
    return read_training_graph(path, columns) if is_graph(path) else files.read_file(path, columns)


def choose_columns(record: Federation) -> Columns:
    """Say which columns are what."""
    return Columns(
        target=record.target or None,
        group=record.group or None,
        features=record.features,
        drop=record.drop,
        weight=record.weight or None,
        task=record.task,
    )


def refuse_choices(record: Federation) -> None:
    """Refuse choices of columns and a test file where a data set has its own."""
    told = ("target", "features", "drop", "group", "weight", "test")
    said = [f"--{name}" for name in told if getattr(record, name)]
    if said:
        raise ValueError(
            f"the data set {record.data!r} has its own labels, workers and test rows; leave out "
            f"{', '.join(said)}, or give a file by --data"
        )


def resolve_path(name: str) -> str:
    """Say where a file of the user's is for good, so that a run can go on from elsewhere."""
    if name.startswith(PREFIX) and Path(name.removeprefix(PREFIX)).is_dir():
        return PREFIX + str(Path(name.removeprefix(PREFIX)).resolve())
    if not name or name in datasets.DATASETS or not Path(name).exists():
        return name
    return str(Path(name).resolve())


def resolve_files(record: Federation) -> Mapping[str, Any]:
    """Say where the files that a record names are for good, as ``resolve_path``: field -> value."""
    return {
        "data": resolve_path(record.data),
        "test": resolve_path(record.test),
        "common": {"model": resolve_path(record.common.model)},
    }


def resolve_options(record: Federation) -> Mapping[str, Mapping[str, str]]:
    """Say where the folder that a network's options name is for good, as ``resolve_path``."""
    chosen = get_options(record.options, record.net)
    folder = chosen.get("folder", "")
    return {record.net: {"folder": resolve_path(folder)}} if folder else {}


def list_folder(name: str) -> list[str]:
    """List the files in a folder by their paths; none where none is named, or it is not there."""
    folder = Path(name)
    there = bool(name) and folder.is_dir()
    return sorted(str(path) for path in folder.iterdir() if path.is_file()) if there else []


def stamp_file(*names: str) -> tuple[int, ...]:
    """Tell files from what they were before: when they changed and how long they are."""
    found: list[int] = []
    for name in names:
        path = Path(name)
        there = bool(name) and name not in datasets.DATASETS and path.exists()
        found += [path.stat().st_mtime_ns, path.stat().st_size] if there else [0, 0]
    return tuple(found)


def fingerprint_data(data: Dataset) -> str:
    """Tell data from other data, so that a run does not go on with changed ones.

    Names count as rows do: a class or a category that was renamed means another thing.
    """
    digest = hashlib.blake2b(digest_size=8)
    told = None if data.encoding is None else data.encoding.to_json()
    # Nodes have a folder elsewhere; a mark beside it tells what is in it.
    encoding = told and {name: value for name, value in told.items() if name != "folder"}
    named = [data.find_objective().names, data.holders, data.columns, encoding]
    digest.update(json.dumps(named).encode())
    edges = None if data.graph is None else data.graph.edges
    held = data.groups if data.holders else None
    for column in (data.x, data.y, edges, held, data.weights):
        if column is not None:
            digest.update(column.contiguous().numpy().tobytes())
    return digest.hexdigest()
