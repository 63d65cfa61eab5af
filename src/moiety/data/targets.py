"""What a table is to tell: its targets by the kind of task, found from the values if none is said.

Letters: N rows, K columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moiety.core.errors import UnknownNameError
from moiety.data.classes import encode_labels
from moiety.tasks.labels import Labels
from moiety.tasks.numbers import Numbers

TASKS = ("classes", "numbers", "labels", "tokens")
"""Kinds of tasks, as ``--task`` names them; tokens are of texts that are read as one."""

Fields = Mapping[str, Any]
"""Fields of a data set: ``y``, and ``classes`` or ``objective``."""


def read_targets(path: Path, values: Mapping[str, np.ndarray], task: str) -> Fields:
    """Make targets of columns.

    Args:
        path: the file, for messages.
        values: of each column, numbers or text, [N].
        task: the kind, or empty where the values are to tell.

    Raises:
        ValueError: for values that a task does not have; says the row.
    """
    task = task or find_task(values)
    if task not in READERS:
        raise UnknownNameError(
            f"task {task!r} of {path}; choose one of {tuple(READERS)} for the columns of a table"
        )
    return READERS[task](path, values)


def find_task(values: Mapping[str, np.ndarray]) -> str:
    """Tell the kind: several columns of 0 and 1 are labels, fractions or several numbers numbers.

    >>> find_task({"y": np.array([0.5, 1.0])}), find_task({"y": np.array([0, 7])})
    ('numbers', 'classes')
    """
    if len(values) == 1:
        return "numbers" if has_fractions(next(iter(values.values()))) else "classes"
    return "labels" if all(is_binary(one) for one in values.values()) else "numbers"


def has_fractions(values: np.ndarray) -> bool:
    """Say whether some values are numbers with a fraction."""
    if values.dtype.kind != "f":
        return False
    finite = values[np.isfinite(values)]
    return bool((finite != np.round(finite)).any())


def is_binary(values: np.ndarray) -> bool:
    """Say whether all values are 0 or 1, or truth values."""
    return values.dtype.kind in "biuf" and bool(np.isin(values, (0, 1)).all())


def read_class(path: Path, values: Mapping[str, np.ndarray]) -> Fields:
    """Number the values of one column."""
    if len(values) != 1:
        raise ValueError(
            f"{path}: task 'classes' has one target, but {list(values)} were named; say --task "
            "labels or numbers, or name one"
        )
    ((name, column),) = values.items()
    if has_fractions(column):
        row = int((np.isfinite(column) & (column != np.round(column))).argmax())
        raise ValueError(
            f"{path}: target {name!r} is {column[row]} in row {row + 1}, which names no class; "
            "predict it as a number (--task numbers), or name another column"
        )
    y, classes = encode_labels(path, name, column)
    return {"y": y, "classes": classes}


def read_numbers(path: Path, values: Mapping[str, np.ndarray]) -> Fields:
    """Read columns as numbers, float32 [N, K]."""
    return {"y": stack_columns(path, values), "objective": Numbers(tuple(values))}


def read_labels_of_rows(path: Path, values: Mapping[str, np.ndarray]) -> Fields:
    """Read columns as labels, 0 or 1, float32 [N, K]."""
    for name, column in values.items():
        if not is_binary(column):
            row = int((~np.isin(column, (0, 1))).argmax())
            said = f"{path}: label {name!r} is {column[row].item()!r} in row {row + 1}"
            raise ValueError(f"{said}; labels are 0 or 1")
    return {"y": stack_columns(path, values), "objective": Labels(tuple(values))}


def stack_columns(path: Path, values: Mapping[str, np.ndarray]) -> Tensor:
    """Stack columns of numbers, float32 [N, K].

    Raises:
        ValueError: for a value that is missing or no number; says its row.
    """
    for name, column in values.items():
        if column.dtype.kind not in "biuf":
            raise ValueError(
                f"{path}: target {name!r} holds {str(column[0])!r} in row 1, but task 'numbers' "
                "has numbers; say --task classes, or name another column"
            )
        bad = ~np.isfinite(column.astype(np.float64))
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{path}: target {name!r} is {column[row]} in row {row + 1}; fill in or drop such "
                "rows"
            )
    stacked = np.stack([column.astype(np.float32) for column in values.values()], 1)
    return torch.from_numpy(stacked)


READERS: Mapping[str, Callable[[Path, Mapping[str, np.ndarray]], Fields]] = {
    "classes": read_class,
    "numbers": read_numbers,
    "labels": read_labels_of_rows,
}
"""Task -> what reads its targets."""
