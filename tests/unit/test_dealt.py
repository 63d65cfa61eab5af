"""Ways to deal an axis, and the counting claims of independent subnets (T1 to T3)."""

from itertools import combinations

import pytest
import torch

from moiety.core.state import State, Turn
from moiety.core.streams import stream
from moiety.methods.ist import choose_assignment
from moiety.split.assigned import (
    Assigned,
    Bernoulli,
    CategoricalAssignment,
    Chunk,
    Quota,
    RoundRobin,
    Stratified,
)

ALL = [RoundRobin(), Chunk(), Stratified(), Quota(0.4), Bernoulli(0.1), CategoricalAssignment()]
FAIR = [RoundRobin(), Chunk(), Stratified(), Stratified(2), Stratified(3), Stratified(7)]


def rng(*path) -> torch.Generator:
    return stream(11, *path)


def name(assignment) -> str:
    return repr(assignment)


@pytest.mark.parametrize("assignment", ALL, ids=name)
def test_hands_are_sorted_distinct_never_empty_and_addressed(assignment):
    for draw in range(20):
        subnets = assignment(12, 4, rng(draw))
        assert len(subnets) == 4
        for subnet in subnets:
            assert subnet.dtype == torch.int64
            assert subnet.tolist() == sorted(set(subnet.tolist()))
            assert len(subnet) >= 1
            assert 0 <= subnet.min() <= subnet.max() < 12
        again = assignment(12, 4, rng(draw))
        assert all(torch.equal(a, b) for a, b in zip(subnets, again, strict=True))
    assert any(
        not torch.equal(a, b)
        for a, b in zip(assignment(12, 4, rng(0)), assignment(12, 4, rng(1)), strict=True)
    )


@pytest.mark.parametrize("assignment", FAIR, ids=name)
@pytest.mark.parametrize(
    ("size", "num"), [(12, 4), (4, 4), (7, 3), (10, 4), (13, 5), (9, 6), (5, 1)]
)
def test_fair_hands_are_disjoint_cover_all_and_differ_by_one(assignment, size, num):
    if isinstance(assignment, Chunk) and size % num:
        with pytest.raises(ValueError, match="do not divide an axis of"):
            assignment(size, num, rng())
        return
    for draw in range(10):
        subnets = assignment(size, num, rng(draw))
        assert torch.cat(subnets).sort().values.tolist() == list(range(size))
        sizes = [len(subnet) for subnet in subnets]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("servers", [0, 2, 3, 7])
@pytest.mark.parametrize(("size", "num"), [(16, 4), (14, 4), (23, 5)])
def test_stratified_hands_take_alike_from_every_block(servers, size, num):
    """Each block, like the whole, is dealt evenly: floor or ceiling of its size over workers."""
    blocks = torch.arange(size).tensor_split(servers or num)
    for subnet in Stratified(servers)(size, num, rng(servers)):
        for block in blocks:
            count = int(torch.isin(block, subnet).sum())
            assert count in (len(block) // num, -(-len(block) // num))


@pytest.mark.parametrize("assignment", [RoundRobin(), Chunk(), Stratified()], ids=name)
def test_too_many_workers_are_refused(assignment):
    with pytest.raises(ValueError, match="an axis of 3 cannot be assigned to 4 workers; widen"):
        assignment(3, 4, rng())


@pytest.mark.parametrize(
    ("quota", "size", "num", "count"),
    [
        (Quota(), 12, 4, 3),  # a fair hand
        (Quota(), 13, 4, 4),  # rounded up
        (Quota(0.5), 12, 4, 6),
        (Quota(0.1), 12, 4, 3),  # never less than a fair hand
        (Quota(0.0, 5), 12, 4, 5),  # at least five: minimum depth of ResIST
        (Quota(0.0, 50), 12, 4, 12),  # no more than there are
        (Quota(1.0), 12, 4, 12),
        (Quota(), 2, 5, 1),  # fewer indices than workers
    ],
)
def test_quota_gives_as_many_as_it_says_and_covers_all(quota, size, num, count):
    for draw in range(10):
        subnets = quota(size, num, rng(draw))
        assert [len(subnet) for subnet in subnets] == [count] * num
        assert set(torch.cat(subnets).tolist()) == set(range(size))
    assert quota.share(size, num) == count / size


def test_bernoulli_keeps_its_share_and_categorical_gives_each_to_one():
    held = torch.zeros(3, 200)
    for draw in range(400):
        for place, subnet in enumerate(Bernoulli(0.3)(200, 3, rng(draw))):
            held[place, subnet] += 1
    assert abs(held.mean() / 400 - 0.3) < 4 * (0.21 / held.numel() / 400) ** 0.5
    subnets = CategoricalAssignment()(200, 3, rng())
    assert torch.cat(subnets).sort().values.tolist() == list(range(200))
    assert len({len(subnet) for subnet in subnets}) > 1  # drawn, not counted out


@pytest.mark.parametrize("assignment", [Bernoulli(1e-9), CategoricalAssignment()], ids=name)
def test_an_empty_hand_gets_one_index(assignment):
    subnets = assignment(2, 9, rng())
    assert all(len(subnet) >= 1 for subnet in subnets)


def test_shares_are_what_hands_hold_on_average():
    for assignment in (
        RoundRobin(),
        Chunk(),
        Stratified(),
        Quota(0.4),
        Bernoulli(0.5),
        CategoricalAssignment(),
    ):
        sizes = [len(subnet) for draw in range(300) for subnet in assignment(20, 4, rng(draw))]
        assert sum(sizes) / len(sizes) / 20 == pytest.approx(assignment.share(20, 4), abs=0.01)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Quota(1.2), "choose 0 <= keep <= 1"),
        (lambda: Quota(0.2, 0), "least >= 1"),
        (lambda: Bernoulli(0.0), r"a probability in \(0, 1\]"),
        (lambda: Bernoulli(1.5), r"a probability in \(0, 1\]"),
        (lambda: choose_assignment("rond_robin", 0.0), "choose one of"),
        (
            lambda: choose_assignment("bernoulli", -0.5),
            r"Bernoulli.*-0\.5.*a probability in \(0, 1\]",
        ),
        (lambda: choose_assignment("quota", -0.5), r"Quota.*-0\.5.*choose 0 <= keep <= 1"),
        (
            lambda: choose_assignment("round_robin", 0.5),
            "ist.keep=0.5, but ist.assignment='round_robin' gives fair shares",
        ),
        (
            lambda: choose_assignment("categorical", 0.5),
            "leave keep at 0, or choose one of .*quota",
        ),
    ],
)
def test_choices_that_cannot_be_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_deal_is_told_its_share():
    assert choose_assignment("quota", 0.5) == Quota(0.5)
    assert choose_assignment("bernoulli", 0.2) == Bernoulli(0.2)
    assert choose_assignment("bernoulli", 0.0) == Bernoulli(0.5)
    assert choose_assignment("chunk", 0.0) == Chunk()


def turn(round_index: int, cohort=(5, 2, 9)) -> Turn:
    return Turn(round_index, cohort, {}, stream(0, round_index, -1, "split"))


def test_axes_are_dealt_each_on_its_own_and_afresh_every_round():
    split = Assigned({"a": 30, "b": 30}, {"a": RoundRobin(), "b": RoundRobin()})
    first, second = (split(State({}), turn(place)) for place in (0, 1))
    assert list(first) == [5, 2, 9]
    subnets = first[5].part.axes
    assert not torch.equal(subnets["a"], subnets["b"])
    assert not torch.equal(subnets["a"], second[5].part.axes["a"])


def test_fixed_hands_stay():
    split = Assigned({"a": 30}, {"a": RoundRobin()}, fixed=4)
    first, second = (split(State({}), turn(place)) for place in (0, 1))
    for worker in (5, 2, 9):
        assert torch.equal(first[worker].part.axes["a"], second[worker].part.axes["a"])


def near(found: float, wanted: float, draws: int) -> bool:
    """Compare a frequency with a probability, within four standard deviations."""
    return abs(found - wanted) <= 4 * (max(wanted * (1 - wanted), 1e-9) / draws) ** 0.5


@pytest.mark.parametrize("num", [2, 4])
def test_t1_how_long_an_entry_of_a_middle_matrix_is_not_trained(num):
    """(1 - 1/n)^k along two axes; an entry cut along one is trained in every round."""
    size, rounds, draws = 8, 3, 1500
    missed = torch.zeros(rounds)
    for draw in range(draws):
        trained = torch.zeros(size, size, dtype=torch.bool)
        for place in range(rounds):
            one, two = RoundRobin(), RoundRobin()
            rows = one(size, num, rng("rows", draw, place))
            cols = two(size, num, rng("cols", draw, place))
            for a, b in zip(rows, cols, strict=True):
                trained[a[:, None], b[None]] = True
            missed[place] += (~trained).float().mean()
            assert torch.cat(rows).sort().values.tolist() == list(range(size))
    for place in range(rounds):  # entries of one draw hang together: count draws, not entries
        assert near(float(missed[place]) / draws, (1 - 1 / num) ** (place + 1), draws)


def together(assignment, size: int, num: int, draws: int) -> torch.Tensor:
    """Count how often two indices come to lie in one hand, [size, size]."""
    count = torch.zeros(size, size)
    for draw in range(draws):
        for subnet in assignment(size, num, rng("together", draw)):
            count[subnet[:, None], subnet[None]] += 1
    return count / draws


@pytest.mark.parametrize("assignment", [RoundRobin(), Chunk()], ids=name)
def test_t2_who_is_dealt_together(assignment):
    """Every pair alike: (N/n - 1) / (N - 1); each unit to each worker with 1/n."""
    size, num, draws = 12, 3, 4000
    found = together(assignment, size, num, draws)
    pairs = torch.tensor([float(found[a, b]) for a, b in combinations(range(size), 2)])
    assert all(near(float(pair), 3 / 11, draws) for pair in pairs)
    assert float(pairs.mean()) == pytest.approx(3 / 11, abs=1e-6)  # hands are of equal size
    first = sum(int(3 in assignment(size, num, rng("own", d))[0].tolist()) for d in range(draws))
    assert near(first / draws, 1 / 3, draws)


def test_t3_who_is_dealt_together_by_blocks():
    """Of one block (N/n^2 - 1) / (N/n - 1); of two blocks 1/n."""
    size, num, draws = 27, 3, 3000
    found = together(Stratified(), size, num, draws)
    for a, b in combinations(range(size), 2):
        wanted = 2 / 8 if a // 9 == b // 9 else 1 / 3
        assert near(float(found[a, b]), wanted, draws)
