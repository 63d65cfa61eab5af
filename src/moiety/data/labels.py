"""Who holds which labels, and the rows given to them.

The quantity-based label imbalance of DDOME (arXiv:2306.08586, appendix A): anchors with disjoint
blocks of labels, other workers with L random labels, and unseen workers whose combination of
labels no worker of the training has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
from torch import Generator, Tensor

Labels = tuple[int, ...]
"""The labels of a worker, sorted."""


@dataclass(frozen=True)
class LabelSets:
    """The labels of every worker: anchors, normal workers, and workers unseen in training."""

    anchors: tuple[Labels, ...]
    normals: tuple[Labels, ...]
    unseen: tuple[Labels, ...]


def draw_sets(
    num_classes: int, size: int, count: int, taken: Collection[Labels], rng: Generator
) -> list[Labels]:
    """Draw distinct sets of labels, none of them taken, every choice equally likely.

    Raises:
        ValueError: if fewer than ``count`` sets are free.
    """
    used = set(taken)
    if comb(num_classes, size) <= 4 * (len(used) + count):
        free = [own for own in combinations(range(num_classes), size) if own not in used]
        if len(free) < count:
            raise ValueError(
                f"{count} sets of {size} of {num_classes} labels, {len(free)} are free"
            )
        return [free[i] for i in torch.randperm(len(free), generator=rng)[:count].tolist()]
    drawn: list[Labels] = []
    while len(drawn) < count:  # ends: each draw is new with a chance of at least 3/4
        own = tuple(sorted(torch.randperm(num_classes, generator=rng)[:size].tolist()))
        if own not in used:
            used.add(own)
            drawn.append(own)
    return drawn


def repeat_sets(
    num_classes: int, size: int, count: int, taken: Collection[Labels], rng: Generator
) -> list[Labels]:
    """Draw sets of labels that may repeat, none of them taken, each about as often as any other."""
    free = comb(num_classes, size) - len(set(taken))
    drawn: list[Labels] = []
    while len(drawn) < count:
        drawn += draw_sets(num_classes, size, min(free, count - len(drawn)), taken, rng)
    return drawn


def draw_label_blocks(num_classes: int, count: int, rng: Generator) -> tuple[Labels, ...]:
    """Put all labels into ``count`` disjoint blocks whose sizes differ by at most one."""
    if not count:
        return ()
    if count > num_classes:
        raise ValueError(f"{count} anchors, but {num_classes} classes; choose fewer anchors")
    dealt = torch.randperm(num_classes, generator=rng).tensor_split(count)
    return tuple(tuple(sorted(block.tolist())) for block in dealt)


def draw_label_sets(
    num_classes: int,
    rng: Generator,
    *,
    anchors: int,
    normals: int,
    unseen: int,
    per_worker: int,
) -> LabelSets:
    """Draw the labels of every worker: of anchors, disjoint blocks; of others, distinct sets.

    No normal or unseen worker has the same labels as another or as an anchor. Where there are
    fewer sets than that, unseen workers still have sets of their own, and normal ones share what
    is left, each set as often as any other but for one.

    Args:
        num_classes: number of labels.
        rng: the stream to draw from.
        anchors: number of anchors; 0 for none.
        normals: number of other workers in training.
        unseen: number of workers that training never sees.
        per_worker: labels of a normal or unseen worker.

    Raises:
        ValueError: if unseen workers leave no set of labels for the others.
    """
    if min(anchors, normals, unseen) < 0 or not 1 <= per_worker <= num_classes:
        raise ValueError(
            f"{anchors=}, {normals=}, {unseen=}, {per_worker=}; choose counts >= 0, "
            f"and per_worker from 1 to {num_classes}"
        )
    block = draw_label_blocks(num_classes, anchors, rng)
    taken = {labels for labels in block if len(labels) == per_worker}
    space, asked = comb(num_classes, per_worker), len(taken) + normals + unseen
    if asked > space:
        left = space - len(taken) - unseen
        if left < 1:
            raise ValueError(
                f"{per_worker=} of {num_classes=} labels make {space} combinations, of which "
                f"{unseen=} and {len(taken)} anchors of that size leave none for {normals=}; "
                "choose fewer unseen, or another per_worker"
            )
        apart = draw_sets(num_classes, per_worker, unseen, taken, rng)
        shared = repeat_sets(num_classes, per_worker, normals, {*taken, *apart}, rng)
        return LabelSets(block, tuple(shared), tuple(apart))
    drawn = draw_sets(num_classes, per_worker, normals + unseen, taken, rng)
    return LabelSets(block, tuple(drawn[:normals]), tuple(drawn[normals:]))


def find_label_rows(labels: Tensor, label: int) -> Tensor:
    """Positions of the rows of a label; at least one.

    Raises:
        ValueError: if there is none.
    """
    rows = (labels == label).nonzero()[:, 0]
    if not len(rows):
        raise ValueError(f"a worker holds label {label}, but no row has it; give it another label")
    return rows


def iterate_holders(sets: Sequence[Labels]) -> Iterator[tuple[int, list[int]]]:
    """Yield every label that somebody holds, in order, with those who do."""
    for label in sorted({label for labels in sets for label in labels}):
        yield label, [worker for worker, labels in enumerate(sets) if label in labels]


def assign_all_rows(labels: Tensor, sets: Sequence[Labels]) -> list[Tensor]:
    """Give every worker all rows of its labels, sorted int64; workers share them."""
    known = {label: find_label_rows(labels, label) for label, _ in iterate_holders(sets)}
    return [torch.cat([known[label] for label in own]).sort().values for own in sets]


def draw_quotas(rows_per_worker: int, labels: Labels, rng: Generator) -> dict[int, int]:
    """Spread a worker's rows evenly over its labels; chance decides who has one more."""
    base, extra = divmod(rows_per_worker, len(labels))
    lucky = set(torch.randperm(len(labels), generator=rng)[:extra].tolist())
    return {label: base + (place in lucky) for place, label in enumerate(labels)}


def assign_rows(
    labels: Tensor,
    sets: Sequence[Labels],
    rng: Generator,
    *,
    rows_per_worker: int | None = None,
    replace: bool = False,
) -> list[Tensor]:
    """Give rows to workers with given labels, each label evenly among those who hold it.

    Args:
        labels: class of each row, int64 [N].
        sets: the labels of each worker, at least one each.
        rng: the stream to draw from.
        rows_per_worker: spread evenly over a worker's labels; by default all rows are shared out.
        replace: draw rows with replacement, as DDOME does: rows may repeat, also within a worker.

    Returns:
        Sorted positions of each worker's rows, int64; disjoint unless ``replace``.

    Raises:
        ValueError: if rows are too few for a worker, or for ``rows_per_worker``.
    """
    if any(not own for own in sets) or (rows_per_worker is not None and rows_per_worker < 1):
        raise ValueError(
            f"{rows_per_worker=}, {sets=}; give at least one row and one label to each"
        )
    wanted = [
        {} if rows_per_worker is None else draw_quotas(rows_per_worker, own, rng) for own in sets
    ]
    parts: list[list[Tensor]] = [[] for _ in sets]
    for label, everyone in iterate_holders(sets):
        rows = find_label_rows(labels, label)
        # Chance decides who has one row more, or it would always be the first workers.
        held = [everyone[i] for i in torch.randperm(len(everyone), generator=rng).tolist()]
        sizes = [wanted[worker].get(label, -1) for worker in held]
        if rows_per_worker is None:
            base, extra = divmod(len(rows), len(held))
            sizes = [base + (place < extra) for place in range(len(held))]
        for worker, mine in zip(
            held, draw_portions(rows, sizes, label, rng, replace=replace), strict=True
        ):
            parts[worker].append(mine)
    return [join_rows(worker, own) for worker, own in enumerate(parts)]


def join_rows(worker: int, parts: Sequence[Tensor]) -> Tensor:
    """Join and sort a worker's rows; refuse a worker without any."""
    rows = torch.cat(list(parts)).sort().values
    if not len(rows):
        raise ValueError(f"no row is left for worker {worker}; choose fewer workers or more rows")
    return rows


def draw_portions(
    rows: Tensor, sizes: Sequence[int], label: int, rng: Generator, *, replace: bool
) -> Sequence[Tensor]:
    """Draw rows of one label in portions of the given sizes."""
    total = sum(sizes)
    if replace:
        drawn = rows[torch.randint(len(rows), (total,), generator=rng)]
    elif total > len(rows):
        raise ValueError(
            f"label {label} has {len(rows)} rows, but its {len(sizes)} workers ask for {total}; "
            "choose a smaller rows_per_worker, or replace=True"
        )
    else:
        drawn = rows[torch.randperm(len(rows), generator=rng)[:total]]
    return drawn.split(list(sizes))
