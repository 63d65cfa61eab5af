"""Rows that a worker alone has, made ready as those of a public sample are.

The data of the recipe are a sample that all may see: of its rows, encoding, scale, classes and
common expert are made, and by them the model is evaluated. What a worker trains on is another
file, of the same columns, that nobody else reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from moiety.core.errors import RunError
from moiety.core.protocols import Method
from moiety.core.rows import Rows
from moiety.data.dataset import Dataset
from moiety.data.joined import FormError, join_test
from moiety.recipes.ahead import read_ahead
from moiety.recipes.build import open_all_rows
from moiety.recipes.kinds import read_rows
from moiety.recipes.prepare import encode_placed, prepare_seed_data, scale_rows
from moiety.recipes.record import Federation
from moiety.recipes.scaling import move_dataset

SAMPLE = "all"
"""The scheme of the sample: all rows that train are everybody's."""


class OwnRowsError(ValueError):
    """A worker's rows cannot be read; the words may quote them, so they are the worker's alone."""


@contextmanager
def keep_words() -> Iterator[None]:
    """Mark errors that may quote rows; those of columns and labels pass.

    Raises:
        OwnRowsError: in place of any other error of a file or of what is in it.
    """
    try:
        yield
    except FormError:
        raise
    except (ValueError, RunError, OSError) as error:
        raise OwnRowsError(str(error)) from error


def check_sample(record: Federation) -> None:
    """Refuse a recipe whose data cannot be a sample beside rows that workers alone have.

    Raises:
        ValueError: with the value and the remedy.
    """
    chosen = record.population
    if chosen.scheme != SAMPLE or record.group:
        raise ValueError(
            f"workers have rows of their own, so those of {record.data!r} are given to nobody, but "
            f"population.scheme={chosen.scheme!r}, group={record.group!r}; say scheme "
            f"{SAMPLE!r}, unseen 0, shared_test true, and no group"
        )
    if chosen.anchors:
        raise ValueError(
            f"population.anchors={chosen.anchors}, but anchors are found by rows that workers "
            "alone have; say 0"
        )


def open_own_rows(record: Federation, method: Method, seed: int, path: str) -> Rows:
    """Open the rows of a worker's own file.

    Args:
        record: of the run; its ``data`` are the sample.
        method: whose transform rows go through.
        seed: of the run.
        path: of the file, or whatever else ``data`` may name.

    Raises:
        FormError: for a file of other columns, or with classes that the sample has not.
        OwnRowsError: for one that cannot be read.
    """
    base = prepare_seed_data(record, seed)
    _, sample = read_rows(record)
    task = sample.find_objective().name
    with keep_words():
        _, own = read_rows(replace(record, data=path, test="", task=task))
        joined = encode_placed(record, join_own(sample, own), base.places, base.taken)
    scaled, _ = scale_rows(base.kind, joined, base.places, base.taken)
    mine = torch.arange(sample.size, joined.size)
    places = replace(base.places, train={0: mine}, groups={})
    moved = move_dataset(scaled, record.device)
    ready = replace(base, data=moved, opened=read_ahead(base.kind, moved, mine), places=places)
    return open_all_rows(ready, method, adjusts=record.local.adjusts)[0](0)


def join_own(sample: Dataset, own: Dataset) -> Dataset:
    """Put a worker's rows behind those of the sample."""
    joined = join_test(sample, own)
    if sample.weights is None or own.weights is None:
        return replace(joined, test=None)
    return replace(joined, test=None, weights=torch.cat([sample.weights, own.weights]))
