"""Classes by name: labels as a file has them become numbers; what names no class is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

EXACT = 2**53
"""Whole numbers up to which floats can tell neighbours apart."""

MISSING = frozenset(
    ("", "NA", "N/A", "n/a", "#N/A", "#NA", "NaN", "nan", "-NaN", "-nan", "NaT", "NULL", "null")
)
"""Words that stand for a missing value in tables, blanks stripped."""

WHOLE = re.compile(r"-?(0|[1-9]\d*)")
MEASURE = re.compile(r"[+-]?(((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?|inf|infinity)", re.I)


def encode_labels(path: Path, name: str, values: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
    """Number labels along their sorted distinct values, int64 [N], and name the values.

    Args:
        path: the file, for messages.
        name: of the column.
        values: whole numbers, text, bytes of text in UTF-8, or truth values, [N].

    Raises:
        ValueError: for a value that is missing or names no class; says its row, from 1.
    """
    if values.dtype.kind in "OSUmM":
        text = read_text_labels(path, name, values)
        known = sorted(set(text))
        place = {value: number for number, value in enumerate(known)}
        return torch.tensor([place[value] for value in text], dtype=torch.int64), tuple(known)
    if values.dtype.kind == "f":
        values = round_labels(path, name, values)
    if values.dtype.kind not in "biu":
        raise ValueError(f"{path}: {name!r} holds {values.dtype}; give whole numbers or text")
    numbers, index = np.unique(values, return_inverse=True)
    named = tuple(str(value) for value in numbers.tolist())
    return torch.from_numpy(index.astype(np.int64)), named


def read_text_labels(path: Path, name: str, values: np.ndarray) -> list[str]:
    """Read labels as text; one that is missing or blank is refused, and so is no UTF-8."""
    kind = values.dtype.kind
    plain = (values.astype(str) if kind in "mM" else values).tolist()
    text: list[str] = []
    for row, value in enumerate(plain, 1):
        if value is None or value != value:
            raise refuse_missing(path, name, row)
        word = decode_label(path, name, row, value)
        if word.strip() in MISSING:
            raise refuse_missing(path, name, row, word)
        text.append(word)
    return text


def refuse_missing(path: Path, name: str, row: int, word: str = "") -> ValueError:
    """Make the error of a missing label."""
    said = f" ({word!r})" if word else ""
    return ValueError(f"{path}: {name!r} is missing in row {row}{said}; fill in or drop such rows")


def decode_label(path: Path, name: str, row: int, value: Any) -> str:
    """Give one label as text."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: {name!r} is {value!r} in row {row}, which is not UTF-8; save the file in it"
        ) from error


def round_labels(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    """Give labels that came as floats as whole numbers, int64 [N]."""
    bad = ~(np.isfinite(values) & (values == np.round(values)) & (np.abs(values) <= EXACT))
    if not bad.any():
        return values.astype(np.int64)
    row = int(bad.argmax())
    if np.isnan(values[row]):
        raise refuse_missing(path, name, row + 1)
    raise ValueError(
        f"{path}: {name!r} is {values[row]} in row {row + 1}, but must name classes or workers; "
        "give whole numbers up to 2**53, or text"
    )


def read_csv_labels(text: Sequence[str]) -> np.ndarray:
    """Give labels of a CSV file, which has no types, as numbers if all are; else as they stand.

    A number is written as numbers are: ``01`` is text, so that it does not become ``1``.

    >>> read_csv_labels(["10", "7"]).tolist(), read_csv_labels(["01", "1"]).tolist()
    ([10, 7], ['01', '1'])
    >>> read_csv_labels(["1.0", "2", ""]).tolist()
    [1.0, 2.0, nan]
    """
    plain = [value.strip() for value in text]
    filled = [value for value in plain if value not in MISSING]
    if filled and all(map(WHOLE.fullmatch, filled)):
        numbers = [int(value) for value in filled]
        if len(filled) == len(plain) and max(map(abs, numbers)) < 2**63:
            return np.array(numbers, dtype=np.int64)
        if max(map(abs, numbers)) > EXACT:
            return np.array(text, dtype=object)
    if filled and all(map(MEASURE.fullmatch, filled)):
        return np.array([float("nan" if value in MISSING else value) for value in plain])
    return np.array(text, dtype=object)
