"""The user's own data: CSV, Parquet, npz, or a folder of images."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib.format import (
    MAGIC_PREFIX,
    read_array_header_1_0,
    read_array_header_2_0,
    read_magic,
)
from torch import Tensor

from moiety.core.files import find_file_fault, refuse_damage
from moiety.data.classes import encode_labels
from moiety.data.dataset import Dataset
from moiety.data.images import read_images
from moiety.data.limits import check_unpacked_size
from moiety.data.roles import Columns
from moiety.data.tables import LINES, read_table
from moiety.data.targets import read_targets

TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".pq", *LINES)


PLAIN = "a table (CSV, Parquet) or npz file with at least one row, or a folder of images"


def read_file(path: str | Path, columns: Columns | None = None) -> Dataset:
    """Read a table, an npz file, or a folder of images.

    Args:
        path: ``.csv`` or ``.tsv``, packed (``.gz``) or not, ``.parquet`` or ``.pq``; ``.npz``
            (arrays ``x`` and, optionally, ``y``); or a folder of PNG or JPEG images: a folder per
            class, or images alone.
        columns: what is said of the columns of a table, and whether labels are wanted.

    Returns:
        The rows; ``y`` is None where no labels were found or wanted.

    Raises:
        ValueError: if the data cannot be used; says where and what to do.
        ImportError: if the library for this kind of file is missing; says which.
    """
    path, columns = Path(path), columns or Columns()
    require_input(path)
    if path.is_dir():
        columns.refuse_unread(path)
        return read_images(path, labels=columns.labels)
    if is_table(path):
        return read_table(path, columns)
    if path.suffix.lower() == ".npz":
        return read_npz(path, columns)
    raise ValueError(
        f"{path} ends in {path.suffix!r}; give a file that ends in {', '.join(TABLES)} or .npz, or "
        "a folder"
    )


def require_input(path: Path) -> None:
    """Refuse what is neither a folder nor a file with something in it."""
    if not path.is_dir():
        require_file(path, PLAIN)


def is_table(path: Path) -> bool:
    """Tell a table by the end of its name."""
    return path.name.lower().endswith(TABLES)


def read_npz(path: Path, columns: Columns) -> Dataset:
    """Read the arrays ``x``, optionally labels (``y``) and workers; pickles are never opened."""
    with open_npz(path, "x=x, y=y") as opened:
        if "x" not in opened.files:
            raise ValueError(f"{path} has arrays {opened.files}, but no 'x'; name the features 'x'")
        if "edges" in opened.files:
            raise ValueError(
                f"{path} holds a graph ('edges'), but rows on their own are read here; use a model "
                "of a graph, or leave 'edges' out of the file"
            )
        columns.refuse_unread(path)
        label, group = columns.choose(path, [name for name in opened.files if name != "x"], ("y",))
        x = check_features(path, read_array(path, opened, "x"))
        told = {} if label is None else read_npz_targets(path, opened, label, columns.task)
        groups, holders = (None, ()) if group is None else read_names(path, opened, group)
    for name, column in ((label, told.get("y")), (group, groups)):
        if column is not None and len(column) != len(x):
            raise ValueError(f"{path}: {name!r} has {len(column)} rows, but 'x' has {len(x)}")
    return Dataset(path.stem, x, groups=groups, source=str(path.name), holders=holders, **told)


def require_file(path: Path, wanted: str) -> None:
    """Refuse what is no file, or has nothing in it."""
    fault = find_file_fault(path)
    if fault is None and not path.stat().st_size:
        fault = "is empty"
    if fault is not None:
        raise ValueError(f"{path} {fault}; give {wanted}")


def open_npz(path: Path, arrays: str) -> np.lib.npyio.NpzFile:
    """Open an npz file; ``arrays`` are the words that would write one as it should be."""
    remedy = f"write it with numpy.savez(path, {arrays})"
    with path.open("rb") as file:
        if file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX:
            raise ValueError(f"{path} holds one bare array; {remedy}")
    with refuse_damage(f"{path} is no npz file", remedy):
        zipfile.ZipFile(path).close()  # numpy leaves the file open where this fails
        opened = np.load(path, allow_pickle=False)
        assert isinstance(opened, np.lib.npyio.NpzFile)  # a bare array was refused
        return opened


def read_array(path: Path, opened: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """Read one array, once its header was found to fit what the file says of its size.

    Raises:
        ValueError: for Python objects, and for what is damaged, encrypted, or far larger than it
            seems.
    """
    about, remedy = f"{path}: array {name!r} is damaged or encrypted", "write the file anew"
    with refuse_damage(about, remedy):
        packed: Any = opened.zip
        known = packed.NameToInfo
        entry = known[f"{name}.npy" if f"{name}.npy" in known else name]
        with packed.open(entry) as file:
            shape, dtype = read_npy_header(file)
            size = math.prod(shape) * dtype.itemsize + file.tell()
    if dtype.hasobject:
        raise ValueError(
            f"{path}: array {name!r} holds Python objects, which are never unpickled; save plain "
            "numbers (or strings, for labels)"
        )
    if not dtype.itemsize or size != entry.file_size:
        raise ValueError(
            f"{path}: array {name!r} says that it is {dtype} {list(shape)}, but it has "
            f"{entry.file_size} bytes; {remedy}"
        )
    check_unpacked_size(path, entry.file_size)
    with refuse_damage(about, remedy):
        return opened[name]


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the shape and the type of an array.

    Raises:
        ValueError: if it is none.
    """
    readers = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
    version = read_magic(file)
    if version not in readers:
        raise ValueError(f"its format {version} is unknown")
    try:
        shape, _, dtype = readers[version](file)
    except MemoryError as error:  # of a parser whose stack is full
        raise ValueError("its header is nested too deeply") from error
    return shape, dtype


def read_npz_targets(
    path: Path, opened: np.lib.npyio.NpzFile, name: str, task: str
) -> Mapping[str, Any]:
    """Read an array of targets, [N], or [N, K] for several numbers or labels."""
    values = read_array(path, opened, name)
    if values.ndim == 1:
        return read_targets(path, {name: values}, task)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(
            f"{path}: {name!r} has shape {list(values.shape)}; give one number a row, or [N, K] of "
            "several numbers or labels"
        )
    return read_targets(path, {f"{name}{place}": one for place, one in enumerate(values.T)}, task)


def read_names(
    path: Path, opened: np.lib.npyio.NpzFile, name: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Read an array of labels or workers, [N]."""
    values = read_array(path, opened, name)
    if values.ndim != 1:
        raise ValueError(f"{path}: {name!r} has shape {list(values.shape)}; give one number a row")
    return encode_labels(path, name, values)


def check_features(path: Path, raw: np.ndarray) -> Tensor:
    """Check ``x`` and bring it to float32: tables [N, D], images [N, C, H, W], bytes to 0..1."""
    if raw.dtype.kind not in "biuf":
        raise ValueError(f"{path}: 'x' has dtype {raw.dtype}; save it as numbers, e.g. float32")
    shape = list(raw.shape)
    if raw.ndim not in (2, 3, 4) or not raw.size:
        raise ValueError(f"{path}: 'x' has shape {shape}; give [N, D] or [N, C, H, W], N >= 1")
    if raw.ndim == 4 and raw.shape[1] > 4 >= raw.shape[3]:
        raise ValueError(f"{path}: 'x' has shape {shape}; transpose images to [N, C, H, W]")
    with np.errstate(over="ignore"):
        x = raw.astype(np.float32)
    if raw.ndim > 2 and raw.dtype == np.uint8:
        x /= 255
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, *place = bad[0].tolist()
        raise ValueError(
            f"{path}: 'x' is {raw[tuple(bad[0])]} in row {row + 1} at {place}; "
            "fill in or drop such rows"
        )
    return torch.from_numpy(x[:, None] if raw.ndim == 3 else x)
