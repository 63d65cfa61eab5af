"""Rows to test on, from a file of their own, put behind those of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from moiety.data.columns import Column, import_arrow
from moiety.data.dataset import Dataset


class FormError(ValueError):
    """Rows are of another form than others; the words name columns, labels and shapes alone."""


def join_test(data: Dataset, test: Dataset) -> Dataset:
    """Put rows to test on behind those of training, as the official test part.

    Raises:
        FormError: if they have other columns, another shape, or labels that training has not.
        ValueError: for a value that cannot be read.
    """
    if data.y is None or test.y is None:
        bare = data if data.y is None else test
        raise FormError(f"{bare.source} has no labels, which are needed to test; add some")
    x, raw = join_inputs(data, test)
    apart = torch.arange(len(x)) >= data.size
    return replace(
        data,
        x=x,
        y=torch.cat([data.y, rename_labels(data, test)]),
        test=apart,
        groups=None if data.groups is None else pad_rows(data.groups, test.size),
        weights=None if data.weights is None else pad_rows(data.weights, test.size),
        raw=raw,
        notes=(*data.notes, *test.notes),
    )


def join_inputs(data: Dataset, test: Dataset) -> tuple[Tensor, tuple[Column, ...]]:
    """Put inputs behind each other: columns by their names where there are some."""
    if data.encoding is None:
        if data.x.shape[1:] != test.x.shape[1:]:
            raise FormError(
                f"rows of {test.source} have shape {list(test.x.shape[1:])}, but those of "
                f"{data.source} {list(data.x.shape[1:])}; give rows of one shape"
            )
        return torch.cat([data.x, test.x]), ()
    found = {column.name: column for column in test.raw}
    missing = [column.name for column in data.raw if column.name not in found]
    if missing:
        raise FormError(
            f"{test.source} has no columns {missing}, or no value in them, which {data.source} "
            "has; add them"
        )
    raw = tuple(join_columns(column, found[column.name]) for column in data.raw)
    try:
        return data.encoding.apply({column.name: column for column in raw}), raw
    except ValueError:  # the words name the first file, and a row of both
        data.encoding.apply({column.name: found[column.name] for column in data.raw})
        raise


def join_columns(one: Column, other: Column) -> Column:
    """Put a column behind another, as numbers if both are, else as text."""
    arrow: Any = import_arrow()
    first, second = one.data, other.data
    if first.type != second.type:
        kind = arrow.float64() if one.is_number and other.is_number else arrow.string()
        first, second = first.cast(kind), second.cast(kind)
    return Column(one.path, one.name, arrow.chunked_array([*first.chunks, *second.chunks]))


def rename_labels(data: Dataset, test: Dataset) -> Tensor:
    """Number the labels of a test as those of training; other targets are as they are."""
    assert test.y is not None
    if not data.find_objective().categorical:
        return test.y
    place = {name: number for number, name in enumerate(data.classes)}
    strange = [name for name in test.classes if name not in place]
    if strange:
        raise FormError(
            f"{test.source} has labels {strange[:5]}, which {data.source} has not; drop such rows"
        )
    return torch.tensor([place[name] for name in test.classes])[test.y]


def pad_rows(values: Tensor, count: int) -> Tensor:
    """Add zeros for rows that nobody holds."""
    return torch.cat([values, values.new_zeros(count)])
