"""Assign a data set to workers, seen and unseen, as a recipe asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moiety.core.errors import UnknownNameError
from moiety.core.streams import stream
from moiety.data import partition
from moiety.data.dataset import Dataset, divide_rows
from moiety.data.labels import assign_all_rows, assign_rows, draw_label_sets
from moiety.recipes.record import SCHEMES, Federation, Population

TRAIN = "train"
"""The group of rows that workers learn from."""

LEAST, MOST, ROWS = 2, 10, 10
"""Where the number of workers is left to the rows: at least, at most, and rows of each."""

RowsByWorker = Mapping[int, Tensor]
"""Worker -> positions of its rows in the data set."""


@dataclass(frozen=True)
class Partition:
    """Where every row went.

    Args:
        public: rows for the common expert.
        validation: rows for its stopping.
        train: worker -> rows it trains on.
        groups: group -> worker -> rows it is evaluated on.
        anchors: worker -> its expert; by label blocks, or empty.
    """

    public: Tensor
    validation: Tensor
    train: RowsByWorker
    groups: Mapping[str, RowsByWorker]
    anchors: Mapping[int, int]


def make_partition(data: Dataset, population: Population, seed: int) -> Partition:
    """Assign rows.

    Raises:
        ValueError: if the data cannot be assigned so; says which number to change.
    """
    if population.scheme not in SCHEMES:
        raise UnknownNameError(f"population scheme {population.scheme!r}; choose one of {SCHEMES}")
    if not 0 < population.test < 1:
        raise ValueError(f"population.test={population.test}; choose a share between 0 and 1")
    if population.scheme == "all" and (population.unseen or not population.shared_test):
        raise ValueError(
            f"scheme 'all' gives every worker all rows, so none is left for unseen="
            f"{population.unseen} workers or a test of its own; say unseen=0, shared_test=True"
        )
    if data.y is None:
        table = "name the column that holds them (--target COLUMN); its columns are "
        remedy = (
            f"{table}{', '.join(data.columns[:10])}"
            if data.columns
            else "give an array 'y', or images in one folder for each class"
        )
        raise ValueError(f"{data.name} has no labels, and training needs them: {remedy}")
    least = population.anchors if population.scheme == "labels" else 1
    if population.workers < max(1, least):
        raise ValueError(
            f"workers={population.workers} with anchors={population.anchors}; anchors are "
            "among the workers, so give at least as many workers"
        )
    sets = set_rows_apart(data, population, seed)
    if population.scheme == "labels":
        return partition_by_labels(find_strata(data), population, seed, sets)
    return partition_by_scheme(data, population, seed, sets)


def resolve_population(record: Federation, size: int, owners: int = 0) -> Population:
    """Settle what the rows, a column of workers and a test file decide.

    Args:
        record: of the run.
        size: number of rows.
        owners: how many workers a column names; 0 for none.

    >>> found = resolve_population(Federation(population=Population("iid", workers=0)), 40)
    >>> found.workers, found.unseen
    (4, 1)
    >>> few = Federation(group="hospital", population=Population(workers=0, unseen=2))
    >>> found = resolve_population(few, 300, owners=3)
    >>> found.workers, found.unseen
    (2, 1)
    """
    chosen = record.population
    if record.group:
        chosen = replace(chosen, scheme="natural")
    if record.test:
        chosen = replace(chosen, shared_test=True)
    if chosen.workers:
        return chosen
    workers, unseen = count_workers(record, size, owners)
    least = {
        name: max(share, 1 / size)
        for name, share in (("public", chosen.public), ("validation", chosen.validation))
        if share
    }
    return replace(chosen, workers=workers, unseen=unseen, **least)


def count_workers(record: Federation, size: int, owners: int) -> tuple[int, int]:
    """Count workers and unseen ones, where their number is left to the rows or to a column.

    Of few, at most a third are held out.
    """
    asked = record.population.unseen
    if record.group:
        unseen = min(asked, owners // 3)
        return owners - unseen, unseen
    workers = max(LEAST, min(MOST, size // ROWS))
    return workers, asked if workers == MOST else min(asked, workers // 3)


def find_strata(data: Dataset) -> Tensor:
    """Say of which kind the target of each row is: its class, the fifth of a number, a label."""
    assert data.y is not None
    return data.find_objective().fit(data.y).stratify(data.y)


def set_rows_apart(data: Dataset, population: Population, seed: int) -> dict[str, Tensor]:
    """Set rows apart: public, validation, train, test. An official test part stays one."""
    apart = population.scheme == "labels" or population.shared_test
    shares = {"public": population.public, "validation": population.validation}
    if apart and data.test is None:
        shares["test"] = population.test
    left = 1 - sum(shares.values())
    if not all(share >= 0 for share in shares.values()):
        raise ValueError(f"{shares}: a share is no number, or below 0; choose 0 or more")
    if left <= 0:
        raise ValueError(f"{shares} leave no rows to train on; choose smaller shares")
    rows = torch.arange(data.size)
    test = {}
    if apart and data.test is not None:
        rows, test = (~data.test).nonzero()[:, 0], {"test": data.test.nonzero()[:, 0]}
    rows = rows[: population.first_rows or None]
    shares = {name: share for name, share in shares.items() if share > 0}
    found = divide_rows(data, fractions={**shares, "train": left}, seed=seed, rows=rows)
    none = torch.zeros(0, dtype=torch.int64)
    return {"public": none, "validation": none, **found, **test}


def partition_by_labels(
    y: Tensor, population: Population, seed: int, sets: Mapping[str, Tensor]
) -> Partition:
    """Assign by label sets, as DDOME does: anchors first, then the others, then the unseen."""
    classes = int(y.max()) + 1
    drawn = draw_label_sets(
        classes,
        stream(seed, "label sets"),
        anchors=population.anchors,
        normals=population.workers - population.anchors,
        unseen=population.unseen,
        per_worker=population.classes,
    )
    known = [*drawn.anchors, *drawn.normals]
    train = assign_rows(
        y[sets["train"]],
        known,
        stream(seed, "deal"),
        rows_per_worker=population.rows or None,
        replace=population.rows > 0,
    )
    found = {"seen": known, "validation": known, "unseen": drawn.unseen}
    names = {"seen": "test", "validation": "validation", "unseen": "test"}
    first = {"seen": 0, "validation": 0, "unseen": population.workers}
    groups = {
        group: number_workers(
            [
                sets[names[group]][rows]
                for rows in assign_all_rows(y[sets[names[group]]], list(own))
            ],
            first[group],
        )
        for group, own in found.items()
        if own and len(sets[names[group]])
    }
    anchors = {worker: worker for worker in range(population.anchors)}
    mine = number_workers([sets["train"][rows] for rows in train], 0)
    return Partition(sets["public"], sets["validation"], mine, groups, anchors)


def number_workers(held: Sequence[Tensor], first: int) -> dict[int, Tensor]:
    """Number workers from ``first``."""
    return {first + place: own for place, own in enumerate(held)}


def partition_by_scheme(
    data: Dataset, population: Population, seed: int, sets: Mapping[str, Tensor]
) -> Partition:
    """Assign by a partitioner; each worker tests on a part of its own rows."""
    rows = sets["train"]
    held = [rows[own] for own in apply_scheme(data, rows, population, seed)]
    trained = len(held) - population.unseen
    if trained < 1:
        raise ValueError(
            f"unseen={population.unseen} of {len(held)} workers leave none to train; choose fewer"
        )
    rng = stream(seed, "unseen")
    order = torch.randperm(len(held), generator=rng).tolist()
    held = [held[place] for place in order]
    train, seen = {}, {}
    if population.shared_test:
        train = number_workers(held[:trained], 0)
    for worker, own in enumerate(held[:trained] if not population.shared_test else ()):
        mixed = own[torch.randperm(len(own), generator=stream(seed, "own test", worker))]
        cut = max(1, round(len(own) * (1 - population.test)))
        train[worker] = mixed[:cut].sort().values
        if cut < len(own):
            seen[worker] = mixed[cut:].sort().values
    groups = {"seen": seen, "unseen": number_workers(held[trained:], trained)}
    if "test" in sets:
        groups["test"] = {-1: sets["test"]}
    if len(sets["validation"]):
        # Workers of these schemes have no labels of their own: one group speaks for all.
        # It is nobody's own, so it has a number that no worker has.
        groups["validation"] = {-1: sets["validation"]}
    groups = {name: group for name, group in groups.items() if group}
    return Partition(sets["public"], sets["validation"], train, groups, {})


def check_row_count(size: int, population: Population) -> None:
    """Refuse to assign fewer rows than the workers must have."""
    count = population.workers + population.unseen
    each = population.shards if population.scheme == "shards" else 1
    if population.scheme not in ("all", "natural") and size < count * each:
        raise ValueError(
            f"{size} rows to assign in all, but {count} workers (population.workers="
            f"{population.workers}, unseen={population.unseen}) need {each} each at least; choose "
            "fewer workers (population.workers)"
        )


def apply_scheme(
    data: Dataset, rows: Tensor, population: Population, seed: int
) -> Sequence[Tensor]:
    """Partition rows over the workers, seen and unseen; positions within ``rows``."""
    assert data.y is not None
    y, rng = find_strata(data)[rows], stream(seed, "partition")
    count = population.workers + population.unseen
    check_row_count(len(rows), population)
    match population.scheme:
        case "all":
            return [torch.arange(len(rows))] * count
        case "iid":
            return partition.partition_iid(len(rows), count, rng)
        case "contiguous":
            return partition.partition_contiguous(len(rows), count)
        case "dirichlet":
            return partition.partition_dirichlet(y, count, rng, alpha=population.alpha)
        case "classes":
            return partition.partition_classes(y, count, rng, per_worker=population.classes)
        case "shards":
            return partition.partition_shards(y, count, rng, per_worker=population.shards)
        case _:
            if data.groups is None:
                raise ValueError(
                    f"{data.name} has no natural workers; choose another scheme, or give a column "
                    "'worker' in your file"
                )
            return partition.partition_natural(data.groups[rows])


def name_workers(data: Dataset, places: Partition) -> tuple[str, ...]:
    """Name the workers, seen ones first, where each holds the rows of one natural worker.

    Returns:
        A name for each number; nothing where data have no names, or a worker has rows of several.
    """
    held = {**places.train, **places.groups.get("unseen", {})}
    if data.groups is None or not data.holders:
        return ()
    owners = [data.groups[rows].unique().tolist() for _, rows in sorted(held.items())]
    if any(len(found) != 1 for found in owners):
        return ()
    return tuple(data.holders[found[0]] for found in owners)


def add_anchors(places: Partition, anchors: Mapping[int, int]) -> Partition:
    """Name anchors found by other means."""
    return replace(places, anchors=anchors)
