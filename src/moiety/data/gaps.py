"""Rows of a table without a target: left out of training, and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from moiety.data.classes import MISSING
from moiety.data.columns import Column, import_arrow

MISSING_BYTES = frozenset(word.encode() for word in MISSING)


def find_missing(column: Column) -> np.ndarray:
    """Find the rows of a target without a value: null, NaN, or a word for it; bool [N]."""
    return np.array([is_missing(value) for value in column.data.to_pylist()], dtype=bool)


def is_missing(value: object) -> bool:
    """Say whether a value stands for none.

    >>> is_missing(None), is_missing(b" NA "), is_missing(float("nan")), is_missing("no")
    (True, True, True, False)
    """
    if isinstance(value, bytes):
        return value.strip() in MISSING_BYTES
    return value is None or value != value or (isinstance(value, str) and value.strip() in MISSING)


def find_gaps(found: Mapping[str, Column], targets: Sequence[str]) -> np.ndarray:
    """Find the rows in which a target is missing, bool [N]."""
    return np.any([find_missing(found[name]) for name in targets], axis=0)


def describe_gaps(gaps: np.ndarray, targets: Sequence[str]) -> str:
    """Say how many rows lack a target, and which is the first.

    >>> describe_gaps(np.array([False, True]), ["y"])
    '1 of 2 rows have no value of y (the first is row 2)'
    """
    return (
        f"{int(gaps.sum())} of {len(gaps)} rows have no value of {', '.join(targets)} (the first "
        f"is row {int(gaps.argmax()) + 1})"
    )


def drop_unlabelled(
    path: Path, found: Mapping[str, Column], targets: Sequence[str]
) -> tuple[Mapping[str, Column], tuple[str, ...]]:
    """Leave out the rows in which a target is missing, and say how many they are.

    Args:
        path: the file, for messages.
        found: all columns that were read, by name.
        targets: names of the targets.

    Raises:
        ValueError: if no row is left.
    """
    gaps = find_gaps(found, targets)
    if not gaps.any():
        return found, ()
    if gaps.all():
        raise ValueError(f"{path}: no row has a value of {list(targets)}; name another --target")
    kept = import_arrow().array(~gaps)
    note = f"{describe_gaps(gaps, targets)}: they are left out"
    return {name: replace(one, data=one.data.filter(kept)) for name, one in found.items()}, (note,)
