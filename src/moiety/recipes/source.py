"""Where the data of a recipe come from: a name, or a file of the user's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from moiety.core.errors import UnknownNameError
from moiety.data import datasets, files
from moiety.data.dataset import Dataset
from moiety.recipes.fields import suggest_names


def read_data(name: str, target: str) -> Dataset:
    """Load a data set by name, or a user's own file or folder."""
    if not name:
        raise ValueError("this recipe has no data of its own: say --data FILE or --data DIR")
    if name in datasets.DATASETS:
        return datasets.load_dataset(name)
    if Path(name).exists() or Path(name).suffix or "/" in name:
        return files.read_file(Path(name), target=target or None)
    raise UnknownNameError(
        f"no data set or file {name!r}{suggest_names(name, datasets.DATASETS)} Files are CSV, "
        "Parquet, npz or a folder of images"
    )


def resolve_path(name: str) -> str:
    """Say where a file of the user's is for good, so that a run can go on from elsewhere."""
    if not name or name in datasets.DATASETS or not Path(name).exists():
        return name
    return str(Path(name).resolve())


def stamp_file(name: str) -> tuple[int, int]:
    """Tell a file from what it was before: when it changed and how long it is."""
    path = Path(name)
    if not name or name in datasets.DATASETS or not path.exists():
        return 0, 0
    return path.stat().st_mtime_ns, path.stat().st_size


def fingerprint_data(data: Dataset) -> str:
    """Tell data from other data, so that a run does not go on with changed ones."""
    digest = hashlib.blake2b(digest_size=8)
    edges = None if data.graph is None else data.graph.edges
    for column in (data.x, data.y, edges):
        if column is not None:
            digest.update(column.contiguous().numpy().tobytes())
    return digest.hexdigest()
