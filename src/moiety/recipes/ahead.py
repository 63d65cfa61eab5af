"""What something frozen reads of rows, once, in the place of their inputs.

A network whose lower part nobody trains would read the same of a row at every step. So it is read
when data are prepared, and kept; where it is too large to keep, rows stay as they are.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from moiety.data.dataset import Dataset
from moiety.recipes.kinds import DataKind
from moiety.recipes.population import Partition

MOST_BYTES = 2**31
"""Of what is kept of all rows. A constant, so that a run has the same numbers everywhere."""

TOGETHER = 1024
"""Rows that are read at a time."""


def find_shape_ahead(kind: DataKind, data: Dataset) -> tuple[int, ...] | None:
    """Say of which shape [N, ...] is what is read ahead; None where nothing is, or too much."""
    if kind.ahead is None:
        return None
    with torch.device("meta"):
        one = kind.ahead(torch.empty((1, *data.x.shape[1:]), dtype=data.x.dtype))
    shape = (data.size, *one.shape[1:])
    return shape if math.prod(shape) * one.element_size() <= MOST_BYTES else None


def list_placed(places: Partition) -> Tensor:
    """List the rows that anybody holds or is evaluated on."""
    groups = [rows for group in places.groups.values() for rows in group.values()]
    return torch.cat([places.public, places.validation, *places.train.values(), *groups]).unique()


def read_ahead(kind: DataKind, data: Dataset, held: Tensor) -> Dataset:
    """Put what something frozen reads of the rows ``held`` in the place of inputs.

    Others, which nobody opens, are nothing.
    """
    shape = find_shape_ahead(kind, data)
    if shape is None or kind.ahead is None:
        return data
    found = torch.zeros(shape, device=data.x.device)
    with torch.no_grad():
        for ids in held.to(data.x.device).split(TOGETHER):
            found[ids] = kind.ahead(data.x[ids])
    return replace(data, x=found)


def outline_ahead(kind: DataKind, data: Dataset) -> Dataset:
    """Put ones of the shape of what is read ahead in the place of inputs: a plan reads nothing."""
    shape = find_shape_ahead(kind, data)
    return data if shape is None else replace(data, x=torch.ones(()).expand(shape))
