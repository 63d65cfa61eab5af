"""Partitions of rows over workers: positions of each worker's rows, sorted, int64.

Every partitioner ends, whatever it is given: with a partition without empty workers, or with a
ValueError that says what to change. Letters: N rows, C classes, W workers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from math import comb

import torch
from torch import Generator, Tensor

from moiety.data.dataset import shuffle_by_class
from moiety.data.labels import Labels, assign_rows, draw_sets


def check_partition_size(size: int, workers: int, rows: int, remedy: str) -> None:
    """Refuse less than one worker, and fewer rows than workers must have."""
    if workers < 1:
        raise ValueError(f"{workers=}; choose at least 1")
    if size < workers * rows:
        raise ValueError(f"{size} rows, but {workers=} need at least {rows} each; {remedy}")


def sort_rows(groups: Sequence[Tensor]) -> list[Tensor]:
    """Sort the rows of every worker."""
    return [group.sort().values for group in groups]


def partition_iid(
    size: int, workers: int, rng: Generator, *, allow_empty: bool = False
) -> list[Tensor]:
    """Give out rows at random; sizes differ by at most one.

    Raises:
        ValueError: if there are more workers than rows, unless ``allow_empty``.

    >>> [len(part) for part in partition_iid(7, 3, torch.Generator().manual_seed(0))]
    [3, 2, 2]
    """
    check_partition_size(
        size, workers, int(not allow_empty), "choose fewer workers, or allow_empty=True"
    )
    return sort_rows(torch.randperm(size, generator=rng).tensor_split(workers))


def partition_contiguous(size: int, workers: int) -> list[Tensor]:
    """Cut rows into stretches in their order, as a text is; sizes differ by at most one.

    >>> [part.tolist() for part in partition_contiguous(5, 2)]
    [[0, 1, 2], [3, 4]]
    """
    check_partition_size(size, workers, 1, "choose fewer workers")
    return list(torch.arange(size).tensor_split(workers))


def draw_log_gamma(alpha: float, shape: tuple[int, ...], rng: Generator) -> Tensor:
    """Draw logarithms of Gamma(alpha, 1), float64; finite for any alpha in 1e-6..1e6.

    Squeeze-free Marsaglia and Tsang (2000) for alpha + 1, brought down to alpha by U^(1/alpha) in
    logarithms, where it cannot underflow. Of 24 proposals each the first accepted counts; more
    than 95 % are, so that a draw without any (the mode is taken) does not happen.
    """
    d = alpha + 1 - 1 / 3
    x = torch.randn(*shape, 24, generator=rng, dtype=torch.float64)
    u = 1 - torch.rand(*shape, 24, generator=rng, dtype=torch.float64)
    v = (1 + x / math.sqrt(9 * d)) ** 3
    log_v = v.clamp_min(1e-300).log()
    good = (v > 0) & (u.log() < x.square() / 2 + d * (1 - v + log_v))
    first = good.to(torch.int8).argmax(-1, keepdim=True)
    chosen = torch.where(good.any(-1), log_v.gather(-1, first)[..., 0], 0.0)
    lift = (1 - torch.rand(*shape, generator=rng, dtype=torch.float64)).log() / alpha
    return math.log(d) + chosen + lift


def fill_short_workers(counts_CW: Tensor, min_rows: int) -> Tensor:
    """Move single rows from the largest workers to those with too few, [C, W]."""
    counts = counts_CW.clone()
    sizes = counts.sum(0)
    while int(sizes.min()) < min_rows:
        rich, poor = int(sizes.argmax()), int(sizes.argmin())
        label = int(counts[:, rich].argmax())
        counts[label, rich] -= 1
        counts[label, poor] += 1
        sizes[rich] -= 1
        sizes[poor] += 1
    return counts


def draw_dirichlet_counts(totals_C: Tensor, workers: int, alpha: float, rng: Generator) -> Tensor:
    """Cut every class into shares drawn from a symmetric Dirichlet, [C, W]."""
    shares = draw_log_gamma(alpha, (len(totals_C), workers), rng).softmax(1)
    ends = (shares.cumsum(1) * totals_C[:, None]).round().long().clamp_max(totals_C[:, None])
    ends[:, -1] = totals_C
    return ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))


def partition_dirichlet(
    labels: Tensor,
    workers: int,
    rng: Generator,
    *,
    alpha: float,
    min_rows: int = 1,
    tries: int = 20,
) -> list[Tensor]:
    """Share every class out by proportions drawn from Dirichlet(alpha, ..., alpha).

    All rows are given out. After ``tries`` draws single rows move to workers with too few.

    Args:
        labels: class of each row, int64 [N].
        workers: number of workers, W.
        rng: the stream to draw from.
        alpha: 1e-6 to 1e6; small for few classes per worker, large for equal mixtures.
        min_rows: the least number of rows of a worker; 0 allows empty workers.
        tries: draws before rows are moved.

    Raises:
        ValueError: if alpha is out of range, or there are fewer than ``workers * min_rows`` rows.

    References:
        Yurochkin et al., arXiv:1905.12022; Hsu, Qi and Brown, arXiv:1909.06335.
    """
    if not 1e-6 <= alpha <= 1e6 or min_rows < 0 or tries < 1:
        raise ValueError(f"{alpha=}, {min_rows=}, {tries=}; choose 1e-6 to 1e6, >= 0 and >= 1")
    check_partition_size(
        len(labels), workers, min_rows, "choose fewer workers or a smaller min_rows"
    )
    order = shuffle_by_class(labels, rng)
    totals = labels.unique(return_counts=True)[1]
    counts = draw_dirichlet_counts(totals, workers, alpha, rng)
    for _ in range(tries - 1):
        if int(counts.sum(0).min()) >= min_rows:
            break
        counts = draw_dirichlet_counts(totals, workers, alpha, rng)
    counts = fill_short_workers(counts, min_rows)
    owner = torch.arange(workers).repeat(len(totals)).repeat_interleave(counts.flatten())
    return sort_rows(order[owner.argsort(stable=True)].split(counts.sum(0).tolist()))


def count_class_holders(caps: Sequence[int], total: int, rng: Generator) -> list[int]:
    """Give each class its number of holders: as equal as the caps allow, ``total`` in all."""
    level = [0] * len(caps)
    for _ in range(total):
        open_ = [i for i, cap in enumerate(caps) if level[i] < cap]
        least = min(level[i] for i in open_)
        lowest = [i for i in open_ if level[i] == least]
        level[lowest[int(torch.randint(len(lowest), (), generator=rng))]] += 1
    return level


def draw_even_sets(caps: Sequence[int], workers: int, size: int, rng: Generator) -> list[Labels]:
    """Give each worker ``size`` distinct classes, all classes as often as the caps allow.

    Each worker takes the classes with most holders to come, ties by chance; as no class has more
    holders than there are workers, this never gets stuck (Gale and Ryser).
    """
    left = count_class_holders(caps, workers * size, rng)
    sets: list[Labels] = []
    for _ in range(workers):
        order = torch.randperm(len(left), generator=rng).tolist()
        own = sorted(order, key=lambda label: -left[label])[:size]
        for label in own:
            left[label] -= 1
        sets.append(tuple(sorted(own)))
    return sets


def exchange_class(one: Labels, two: Labels, rng: Generator) -> tuple[Labels, Labels]:
    """Exchange one class between two workers that are not alike, or nothing."""
    give, get = sorted(set(one) - set(two)), sorted(set(two) - set(one))
    if not give:
        return one, two
    a = give[int(torch.randint(len(give), (), generator=rng))]
    b = get[int(torch.randint(len(get), (), generator=rng))]
    return tuple(sorted({*one, b} - {a})), tuple(sorted({*two, a} - {b}))


def make_sets_distinct(sets: Sequence[Labels], num_classes: int, rng: Generator) -> list[Labels]:
    """Make all sets differ by exchanges, which keep classes even; else draw them anew."""
    space = comb(num_classes, len(sets[0]))
    if space < len(sets):
        raise ValueError(
            f"per_worker={len(sets[0])} of {num_classes} classes make {space} combinations, but "
            f"workers={len(sets)}; choose fewer workers or distinct=False"
        )
    held, result = Counter(sets), list(sets)
    for twin in range(len(result)):
        for _ in range(100):
            if held[result[twin]] == 1:
                break
            other = int(torch.randint(len(result), (), generator=rng))
            one, two = exchange_class(result[twin], result[other], rng)
            if not held[one] and not held[two] and one != two:
                held.subtract((result[twin], result[other]))
                held.update((one, two))
                result[twin], result[other] = one, two
    if len(set(result)) == len(result):
        return result
    return draw_sets(num_classes, len(result[0]), len(result), (), rng)


def check_classes(totals: Sequence[int], workers: int, size: int, caps: Sequence[int]) -> None:
    """Refuse what no partition by classes can give."""
    check_partition_size(sum(totals), workers, 0, "")
    if not 1 <= size <= len(totals):
        raise ValueError(
            f"per_worker={size} classes, but the data have {len(totals)}; choose fewer"
        )
    if sum(caps) < workers * size:
        raise ValueError(
            f"{workers=} with per_worker={size} classes need {workers * size} portions, but the "
            f"classes have rows for {sum(caps)}; choose fewer workers or classes per worker"
        )


def partition_classes(
    labels: Tensor,
    workers: int,
    rng: Generator,
    *,
    per_worker: int,
    disjoint: bool = False,
    distinct: bool = False,
) -> list[Tensor]:
    """Give each worker ``per_worker`` classes, and each class's rows evenly to those who hold it.

    Every class has as many holders as any other, give or take one, but no more than it has rows.
    A class that nobody holds (more classes than ``workers * per_worker``) stays out.

    Args:
        labels: class of each row, int64 [N].
        workers: number of workers.
        rng: the stream to draw from.
        per_worker: distinct classes of a worker.
        disjoint: no class has two holders.
        distinct: no two workers have the same classes; holders are then only nearly as even.

    Raises:
        ValueError: if there are too few classes, combinations or rows.

    References:
        Li et al., arXiv:2102.02079, "quantity-based label imbalance".
    """
    names, totals = (t.tolist() for t in labels.unique(return_counts=True))
    most = 1 if disjoint else workers
    caps = [min(total, most) for total in totals]
    check_classes(totals, workers, per_worker, caps)
    sets = draw_even_sets(caps, workers, per_worker, rng)
    if distinct:
        sets = make_sets_distinct(sets, len(names), rng)
    return assign_rows(labels, [tuple(names[i] for i in own) for own in sets], rng)


def partition_shards(
    labels: Tensor, workers: int, rng: Generator, *, per_worker: int = 2, allow_empty: bool = False
) -> list[Tensor]:
    """Sort rows by class, cut them into equal shards, and give ``per_worker`` shards to each.

    All rows are given out; shards differ in size by at most one row.

    Raises:
        ValueError: if there are fewer rows than shards, unless ``allow_empty``.

    References:
        McMahan et al., arXiv:1602.05629, section 3.
    """
    if per_worker < 1:
        raise ValueError(f"{per_worker=} shards; choose at least 1")
    least = 0 if allow_empty else per_worker
    check_partition_size(len(labels), workers, least, "choose fewer workers or shards per worker")
    cuts = shuffle_by_class(labels, rng).tensor_split(workers * per_worker)
    groups = torch.randperm(len(cuts), generator=rng).view(workers, per_worker).tolist()
    return sort_rows([torch.cat([cuts[i] for i in group]) for group in groups])


def partition_natural(groups: Tensor) -> list[Tensor]:
    """Give each natural id (a writer, a hospital) its own worker, in the order of ids.

    >>> [part.tolist() for part in partition_natural(torch.tensor([7, 2, 7]))]
    [[1], [0, 2]]
    """
    order = groups.argsort(stable=True)
    sizes = groups.unique(return_counts=True)[1]
    return list(order.split(sizes.tolist()))


def count_labels(labels: Tensor, parts: Sequence[Tensor], num_classes: int) -> list[list[int]]:
    """Count rows, [workers, classes].

    >>> count_labels(torch.tensor([0, 1, 1]), [torch.tensor([0, 2]), torch.tensor([1])], 2)
    [[1, 1], [0, 1]]
    """
    return [labels[part].bincount(minlength=num_classes).tolist() for part in parts]
