import math
from collections import Counter
from itertools import chain, combinations
from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moiety.data.labels import assign_all_rows, assign_rows, draw_label_sets
from moiety.data.partition import (
    count_labels,
    partition_classes,
    partition_dirichlet,
    partition_iid,
    partition_natural,
    partition_shards,
)

small = settings(derandomize=True, max_examples=60, deadline=None)
label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(torch.tensor)
skewed = st.tuples(st.integers(1, 60), st.integers(0, 3)).map(
    lambda pair: torch.tensor([0] * pair[0] + [3] * pair[1])
)
some_labels = st.one_of(label_lists, skewed)
workers_ = st.integers(1, 12)
seeds = st.integers(0, 999)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def is_partition(parts, size, *, whole=True):
    rows = list(chain.from_iterable(part.tolist() for part in parts))
    assert len(rows) == len(set(rows))
    assert set(rows) == set(range(size)) if whole else set(rows) <= set(range(size))
    for part in parts:
        assert part.dtype == torch.int64
        assert part.tolist() == sorted(part.tolist())


def same(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@small
@given(st.integers(0, 40), workers_, seeds)
def test_iid(size, workers, seed):
    if workers > size:
        with pytest.raises(ValueError, match="choose fewer workers"):
            partition_iid(size, workers, rng(seed))
    parts = partition_iid(size, workers, rng(seed), allow_empty=True)
    is_partition(parts, size)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert same(parts, partition_iid(size, workers, rng(seed), allow_empty=True))


@small
@given(
    some_labels, workers_, seeds, st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 1e3]), st.integers(0, 2)
)
def test_dirichlet(labels, workers, seed, alpha, min_rows):
    def draw():
        return partition_dirichlet(labels, workers, rng(seed), alpha=alpha, min_rows=min_rows)

    if workers * min_rows > len(labels):
        with pytest.raises(ValueError, match="choose fewer workers or a smaller min_rows"):
            draw()
        return
    parts = draw()
    is_partition(parts, len(labels))
    assert len(parts) == workers
    assert min(map(len, parts)) >= min_rows
    assert same(parts, draw())


def test_dirichlet_is_skewed_by_alpha():
    labels = torch.arange(10).repeat(200)

    def largest_share(alpha):
        table = torch.tensor(
            count_labels(labels, partition_dirichlet(labels, 10, rng(), alpha=alpha), 10)
        ).double()
        return float((table.amax(1) / table.sum(1)).mean())

    assert largest_share(0.05) > 0.5
    assert largest_share(1000.0) < 0.15


def test_dirichlet_shares_have_the_moments_of_the_distribution():
    # Of W equal shares, each has mean 1/W and variance (1/W)(1-1/W)/(W alpha + 1).
    from moiety.data.partition import draw_log_gamma

    for alpha in (0.1, 1.0, 5.0):
        share = draw_log_gamma(alpha, (20_000, 4), rng(1)).softmax(1)
        expected = 0.25 * 0.75 / (4 * alpha + 1)
        assert float(share[:, 0].mean()) == pytest.approx(0.25, abs=0.01)
        assert float(share[:, 0].var()) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_dirichlet_refuses_alpha(alpha):
    with pytest.raises(ValueError, match="alpha"):
        partition_dirichlet(torch.zeros(5, dtype=torch.int64), 2, rng(), alpha=alpha)


@small
@given(some_labels, workers_, seeds, st.integers(1, 3), st.booleans(), st.booleans())
def test_classes(labels, workers, seed, size, disjoint, distinct):
    def draw():
        return partition_classes(
            labels, workers, rng(seed), per_worker=size, disjoint=disjoint, distinct=distinct
        )

    try:
        parts = draw()
    except ValueError:
        with pytest.raises(ValueError, match="choose fewer"):
            draw()
        return
    is_partition(parts, len(labels), whole=False)
    held = [frozenset(labels[part].tolist()) for part in parts]
    assert all(held)
    assert all(len(own) <= size for own in held)
    if not distinct:
        assert all(len(own) == size for own in held)
    if disjoint:
        assert len(frozenset().union(*held)) == size * workers
    assert same(parts, draw())


@pytest.mark.parametrize("distinct", [False, True])
def test_classes_are_held_evenly(distinct):
    labels = torch.arange(10).repeat(100)
    parts = partition_classes(labels, 24, rng(), per_worker=2, distinct=distinct)
    held = [tuple(sorted(set(labels[part].tolist()))) for part in parts]
    assert {sum(label in own for own in held) for label in range(10)} == {4, 5}
    assert all(len(own) == 2 for own in held)
    assert not distinct or len(set(held)) == 24
    is_partition(parts, 1000)


def test_classes_use_every_combination_where_they_must():
    labels = torch.arange(5).repeat(50)
    parts = partition_classes(labels, 10, rng(), per_worker=2, distinct=True)
    assert {tuple(sorted(set(labels[p].tolist()))) for p in parts} == set(combinations(range(5), 2))
    with pytest.raises(ValueError, match="10 combinations, but workers=11"):
        partition_classes(labels, 11, rng(), per_worker=2, distinct=True)


def test_classes_with_a_rare_class_gives_it_one_holder():
    labels = torch.tensor([0] * 50 + [1] * 50 + [2])
    parts = partition_classes(labels, 6, rng(), per_worker=1)
    assert sorted(row[2] for row in count_labels(labels, parts, 3)) == [0, 0, 0, 0, 0, 1]


@small
@given(some_labels, workers_, seeds, st.integers(1, 3))
def test_shards(labels, workers, seed, size):
    if workers * size > len(labels):
        with pytest.raises(ValueError, match="choose fewer workers or shards"):
            partition_shards(labels, workers, rng(seed), per_worker=size)
        return
    parts = partition_shards(labels, workers, rng(seed), per_worker=size)
    is_partition(parts, len(labels))
    assert min(map(len, parts)) >= size
    assert same(parts, partition_shards(labels, workers, rng(seed), per_worker=size))


def test_shards_hold_few_classes():
    labels = torch.arange(10).repeat(20)
    for row in count_labels(labels, partition_shards(labels, 10, rng()), 10):
        assert sum(row) == 20
        assert sum(count > 0 for count in row) <= 2


@small
@given(some_labels)
def test_natural(groups):
    parts = partition_natural(groups)
    is_partition(parts, len(groups))
    assert [groups[part].unique().tolist() for part in parts] == [
        [g] for g in groups.unique().tolist()
    ]


def test_label_sets_of_the_paper():
    sets = draw_label_sets(10, rng(), anchors=5, normals=95, unseen=20, per_worker=4)
    assert sorted(chain.from_iterable(sets.anchors)) == list(range(10))
    assert {len(own) for own in sets.anchors} == {2}
    together = sets.normals + sets.unseen
    assert len(set(together)) == 115
    assert {len(set(own)) for own in together} == {4}
    assert sets == draw_label_sets(10, rng(), anchors=5, normals=95, unseen=20, per_worker=4)


@small
@given(
    st.integers(1, 9),
    st.integers(0, 4),
    st.integers(0, 9),
    st.integers(0, 5),
    st.integers(1, 4),
    seeds,
)
def test_label_sets_always_answer(num_classes, anchors, normals, unseen, size, seed):
    ask = {"anchors": anchors, "normals": normals, "unseen": unseen, "per_worker": size}
    try:
        sets = draw_label_sets(num_classes, rng(seed), **ask)
    except ValueError:
        with pytest.raises(ValueError, match="choose"):
            draw_label_sets(num_classes, rng(seed), **ask)
        return
    assert len(sets.normals) == normals
    assert len(sets.unseen) == unseen
    assert not set(sets.unseen) & {*sets.normals, *sets.anchors}
    assert len(set(sets.unseen)) == unseen
    often = Counter(sets.normals).values()
    taken = {*sets.unseen, *(own for own in sets.anchors if len(own) == size)}
    free = comb(num_classes, size) - len(taken)
    assert not often or max(often) == -(-normals // free)


def test_label_sets_guard_says_the_numbers():
    with pytest.raises(
        ValueError, match=r"per_worker=2 of num_classes=10 labels make 45.*unseen=40.*normals=95"
    ):
        draw_label_sets(10, rng(), anchors=5, normals=95, unseen=40, per_worker=2)
    with pytest.raises(ValueError, match="11 anchors, but 10 classes"):
        draw_label_sets(10, rng(), anchors=11, normals=1, unseen=1, per_worker=2)


def test_deal_shares_a_label_evenly():
    labels = torch.tensor([0] * 7 + [1] * 4)
    parts = assign_rows(labels, [(0,), (0, 1), (1,)], rng())
    table = count_labels(labels, parts, 2)
    is_partition(parts, 11)
    assert sorted([table[0][0], table[1][0]]) == [3, 4]
    assert [table[0][1], table[1][1], table[2][1]] == [0, 2, 2]


def test_deal_gives_the_rows_asked_for():
    labels = torch.arange(4).repeat(10)
    parts = assign_rows(labels, [(0, 1), (1, 2), (2, 3)], rng(), rows_per_worker=7)
    is_partition(parts, 40, whole=False)
    assert [len(part) for part in parts] == [7, 7, 7]
    with pytest.raises(ValueError, match=r"label 1 has 10 rows.*replace=True"):
        assign_rows(labels, [(0, 1), (1, 2)], rng(), rows_per_worker=14)
    again = assign_rows(labels, [(0, 1), (1, 2)], rng(), rows_per_worker=14, replace=True)
    assert count_labels(labels, again, 4) == [[7, 7, 0, 0], [0, 7, 7, 0]]
    assert same(
        again, assign_rows(labels, [(0, 1), (1, 2)], rng(), rows_per_worker=14, replace=True)
    )


def test_all_of_gives_every_row_of_a_label():
    labels = torch.tensor([2, 0, 2, 1])
    assert [p.tolist() for p in assign_all_rows(labels, [(0, 2), (2,)])] == [[0, 1, 2], [0, 2]]
    with pytest.raises(ValueError, match="label 7"):
        assign_all_rows(labels, [(7,)])


def test_deal_refuses_a_worker_without_rows():
    with pytest.raises(ValueError, match="choose fewer workers or more rows"):
        assign_rows(torch.tensor([0, 1]), [(0,), (0,)], rng())


def test_nothing_to_deal_leaves_everyone_empty_where_allowed():
    nothing = torch.zeros(0, dtype=torch.int64)
    for parts in (
        partition_dirichlet(nothing, 3, rng(), alpha=0.1, min_rows=0),
        partition_shards(nothing, 3, rng(), allow_empty=True),
        partition_iid(0, 3, rng(), allow_empty=True),
    ):
        assert [len(part) for part in parts] == [0, 0, 0]
