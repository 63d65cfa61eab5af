"""Deal a data set to workers, seen and unseen, as a recipe asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moiety.core.streams import stream
from moiety.data import partition
from moiety.data.dataset import Dataset, divide
from moiety.data.labels import all_of, deal, label_sets
from moiety.recipes.record import SCHEMES, Population

Dealt = Mapping[int, Tensor]
"""Worker -> positions of its rows in the data set."""


@dataclass(frozen=True)
class Places:
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
    train: Dealt
    groups: Mapping[str, Dealt]
    anchors: Mapping[int, int]


def place(data: Dataset, population: Population, seed: int) -> Places:
    """Deal rows.

    Raises:
        ValueError: if the data cannot be dealt so; says which number to change.
    """
    if population.scheme not in SCHEMES:
        raise ValueError(f"population scheme {population.scheme!r}; choose one of {SCHEMES}")
    if not 0 < population.test < 1:
        raise ValueError(f"population.test={population.test}; choose a share between 0 and 1")
    if population.scheme == "all" and (population.unseen or not population.together):
        raise ValueError(
            f"scheme 'all' gives every worker all rows, so none is left for unseen="
            f"{population.unseen} workers or a test of its own; say unseen=0, together=True"
        )
    if data.y is None:
        raise ValueError(f"{data.name} has no labels, and training needs them")
    least = population.anchors if population.scheme == "labels" else 1
    if population.workers < max(1, least):
        raise ValueError(
            f"workers={population.workers} with anchors={population.anchors}; anchors are "
            "among the workers, so give at least as many workers"
        )
    sets = split_rows(data, population, seed)
    if population.scheme == "labels":
        return by_labels(data.y, population, seed, sets)
    return by_partition(data, population, seed, sets)


def split_rows(data: Dataset, population: Population, seed: int) -> dict[str, Tensor]:
    """Set rows apart: public, validation, train, test. An official test part stays one."""
    apart = population.scheme == "labels" or population.together
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
    rows = rows[: population.first or None]
    shares = {name: share for name, share in shares.items() if share > 0}
    found = divide(data, fractions={**shares, "train": left}, seed=seed, rows=rows)
    none = torch.zeros(0, dtype=torch.int64)
    return {"public": none, "validation": none, **found, **test}


def by_labels(y: Tensor, population: Population, seed: int, sets: Mapping[str, Tensor]) -> Places:
    """Deal by label sets, as DDOME does: anchors first, then the others, then the unseen."""
    classes = int(y.max()) + 1
    drawn = label_sets(
        classes,
        stream(seed, "label sets"),
        anchors=population.anchors,
        normals=population.workers - population.anchors,
        unseen=population.unseen,
        per_worker=population.classes,
    )
    known = [*drawn.anchors, *drawn.normals]
    train = deal(
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
        group: number(
            [sets[names[group]][rows] for rows in all_of(y[sets[names[group]]], list(own))],
            first[group],
        )
        for group, own in found.items()
        if own and len(sets[names[group]])
    }
    anchors = {worker: worker for worker in range(population.anchors)}
    mine = number([sets["train"][rows] for rows in train], 0)
    return Places(sets["public"], sets["validation"], mine, groups, anchors)


def number(hands: Sequence[Tensor], first: int) -> dict[int, Tensor]:
    """Number workers from ``first``."""
    return {first + place: hand for place, hand in enumerate(hands)}


def by_partition(
    data: Dataset, population: Population, seed: int, sets: Mapping[str, Tensor]
) -> Places:
    """Deal by a partitioner; each worker tests on a part of its own rows."""
    rows = sets["train"]
    hands = [rows[hand] for hand in partitioned(data, rows, population, seed)]
    trained = len(hands) - population.unseen
    if trained < 1:
        raise ValueError(
            f"unseen={population.unseen} of {len(hands)} workers leave none to train; choose fewer"
        )
    rng = stream(seed, "unseen")
    order = torch.randperm(len(hands), generator=rng).tolist()
    hands = [hands[place] for place in order]
    train, seen = {}, {}
    if population.together:
        train = number(hands[:trained], 0)
    for worker, hand in enumerate(hands[:trained] if not population.together else ()):
        mixed = hand[torch.randperm(len(hand), generator=stream(seed, "own test", worker))]
        cut = max(1, round(len(hand) * (1 - population.test)))
        train[worker] = mixed[:cut].sort().values
        if cut < len(hand):
            seen[worker] = mixed[cut:].sort().values
    groups = {"seen": seen, "unseen": number(hands[trained:], trained)}
    if "test" in sets:
        groups["test"] = {-1: sets["test"]}
    if len(sets["validation"]):
        # Workers of these schemes have no labels of their own: one group speaks for all.
        # It is nobody's own, so it has a number that no worker has.
        groups["validation"] = {-1: sets["validation"]}
    groups = {name: group for name, group in groups.items() if group}
    return Places(sets["public"], sets["validation"], train, groups, {})


def check_rows(size: int, population: Population) -> None:
    """Refuse to deal fewer rows than the workers must have."""
    count = population.workers + population.unseen
    each = population.shards if population.scheme == "shards" else 1
    if population.scheme not in ("all", "natural") and size < count * each:
        raise ValueError(
            f"{size} rows to deal in all, but {count} workers (population.workers="
            f"{population.workers}, unseen={population.unseen}) need {each} each at least; choose "
            "fewer workers (population.workers)"
        )


def partitioned(data: Dataset, rows: Tensor, population: Population, seed: int) -> Sequence[Tensor]:
    """Partition rows over the workers, seen and unseen; positions within ``rows``."""
    assert data.y is not None
    y, rng = data.y[rows], stream(seed, "partition")
    count = population.workers + population.unseen
    check_rows(len(rows), population)
    match population.scheme:
        case "all":
            return [torch.arange(len(rows))] * count
        case "iid":
            return partition.iid(len(rows), count, rng)
        case "contiguous":
            return partition.contiguous(len(rows), count)
        case "dirichlet":
            return partition.dirichlet(y, count, rng, alpha=population.alpha)
        case "classes":
            return partition.classes(y, count, rng, per_worker=population.classes)
        case "shards":
            return partition.shards(y, count, rng, per_worker=population.shards)
        case _:
            if data.groups is None:
                raise ValueError(
                    f"{data.name} has no natural workers; choose another scheme, or give a column "
                    "'worker' in your file"
                )
            return partition.natural(data.groups[rows])


def with_anchors(places: Places, anchors: Mapping[int, int]) -> Places:
    """Name anchors found by other means."""
    return replace(places, anchors=anchors)
