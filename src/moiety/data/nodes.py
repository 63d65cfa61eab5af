"""The user's own graph: features and edges in one npz file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moiety.data.dataset import Dataset, divide_rows
from moiety.data.files import check_features, open_npz, read_array, read_names, require_file
from moiety.data.graph import Graph, make_undirected
from moiety.data.roles import Columns
from moiety.tasks.losses import UNSCORED

MASKS = "train_mask", "val_mask", "test_mask"
WANTED = "an npz file with the features x [N, D] and the edges [2, E]"


def read_graph(path: Path, columns: Columns) -> Dataset:
    """Read the arrays ``x``, ``edges`` and, if wanted, labels (``y``); pickles are never opened.

    A whole number below 0 is no label: -1 marks nodes whose class is unknown.

    Returns:
        The nodes, none for training or choosing; edges as the file has them.

    Raises:
        ValueError: if the file cannot be used; says where and what to do.
    """
    require_file(path, WANTED)
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{path} is no graph: this model reads one; give {WANTED}")
    with open_npz(path, "x=x, edges=edges") as opened:
        missing = [name for name in ("x", "edges") if name not in opened.files]
        if missing:
            raise ValueError(
                f"{path} has arrays {opened.files}, but no {missing[0]!r}; this model reads a "
                f"graph: give {WANTED}"
            )
        others = [name for name in opened.files if name not in ("x", "edges", *MASKS)]
        label, _ = columns.choose(path, others, ("y",))
        x, edges = check_features(path, read_array(path, opened, "x")), read_edges(path, opened)
        y, classes = (
            (None, ()) if label is None else drop_unknown_labels(*read_names(path, opened, label))
        )
    if x.ndim != 2:
        raise ValueError(f"{path}: 'x' has shape {list(x.shape)}; give a row for each node, [N, D]")
    if y is not None and len(y) != len(x):
        raise ValueError(f"{path}: {label!r} has {len(y)} rows, but 'x' has {len(x)}")
    none = torch.zeros(len(x), dtype=torch.bool)
    graph = Graph(edges, none, none, none.long())
    return Dataset(path.stem, x, y, classes, source=path.name, graph=graph)


def read_training_graph(path: Path, columns: Columns) -> Dataset:
    """Read a graph to train on: which nodes are for what is in the file, or drawn.

    Masks are the arrays ``train_mask``, ``val_mask`` and ``test_mask``, [N]; without them, six of
    ten labelled nodes train, one chooses and three test, drawn once for all seeds.

    Raises:
        ValueError: if the file cannot be used; says where and what to do.
    """
    columns.refuse_unread(path)
    data = read_graph(path, columns)
    if data.y is None or data.graph is None or not (data.y != UNSCORED).any():
        raise ValueError(f"{path} has no labels, and training needs them; add the array 'y'")
    masks = read_masks(path, data)
    drawn = f"{data.source} has no {MASKS[0]}: of its labelled nodes 6 in 10 train, 3 in 10 test"
    notes = () if masks else (drawn,)
    train, validation, test = masks or draw_masks(data)
    known = data.y != UNSCORED
    graph = Graph(
        make_undirected(data.graph.edges, data.size),
        train & known,
        validation & known,
        torch.zeros(data.size, dtype=torch.int64),
    )
    return replace(data, graph=graph, test=test & known, notes=(*data.notes, *notes))


def is_graph(path: Path) -> bool:
    """Tell whether a file holds a graph: the array ``edges``."""
    if path.suffix.lower() != ".npz" or not path.is_file() or not path.stat().st_size:
        return False
    with open_npz(path, "x=x, y=y") as opened:
        return "edges" in opened.files


def read_masks(path: Path, data: Dataset) -> tuple[Tensor, ...]:
    """Read which nodes train, choose and test, bool [N] each; nothing where the file has none."""
    with open_npz(path, "x=x, edges=edges") as opened:
        there = [name for name in MASKS if name in opened.files]
        if not there:
            return ()
        if MASKS[0] not in there or MASKS[2] not in there:
            raise ValueError(f"{path} has {there}; give all of {list(MASKS)}, or none")
        found = {name: read_array(path, opened, name) for name in there}
    for name, mask in found.items():
        if mask.dtype != np.bool_ or mask.shape != (data.size,):
            raise ValueError(
                f"{path}: {name!r} is {mask.dtype} {list(mask.shape)}; give bool [{data.size}]"
            )
    twice = np.sum(list(found.values()), axis=0) > 1
    if twice.any():
        row = int(twice.argmax())
        where = [name for name, mask in found.items() if mask[row]]
        raise ValueError(f"{path}: node {row} is in {where}; give each node one of them at most")
    none = np.zeros(data.size, dtype=np.bool_)
    return tuple(torch.from_numpy(found.get(name, none).copy()) for name in MASKS)


def draw_masks(data: Dataset) -> tuple[Tensor, ...]:
    """Draw which labelled nodes train, choose and test, bool [N] each."""
    assert data.y is not None
    known = (data.y != UNSCORED).nonzero()[:, 0]
    found = divide_rows(
        data, fractions={"train": 0.6, "validation": 0.1, "test": 0.3}, seed=0, rows=known
    )
    masks = torch.zeros(3, data.size, dtype=torch.bool)
    for mask, rows in zip(masks, found.values(), strict=True):
        mask[rows] = True
    return tuple(masks)


def read_edges(path: Path, opened: np.lib.npyio.NpzFile) -> Tensor:
    """Read edges, int64 [2, E]."""
    raw = read_array(path, opened, "edges")
    if raw.ndim != 2 or len(raw) != 2 or raw.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: 'edges' has shape {list(raw.shape)} and dtype {raw.dtype}; give whole "
            "numbers [2, E], the two nodes of each edge in a column"
        )
    return torch.from_numpy(raw.astype(np.int64))


def drop_unknown_labels(y: Tensor, names: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Take names of no class, numbers below 0, out of labels.

    >>> drop_unknown_labels(torch.tensor([0, 1, 2]), ("-1", "3", "5"))
    (tensor([-1,  0,  1]), ('3', '5'))
    """
    kept = [name for name in names if not (name[:1] == "-" and name[1:].isdigit())]
    place = {name: number for number, name in enumerate(kept)}
    renumbered = torch.tensor([place.get(name, UNSCORED) for name in names], dtype=torch.int64)
    return renumbered[y], tuple(kept)
