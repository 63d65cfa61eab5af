"""Who gets what."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moiety.core.axes import Part
from moiety.core.state import Share, State, Turn
from moiety.core.streams import stream
from moiety.ops.top import select_best
from moiety.split.gated import ANCHOR, Gated, fill_by_score
from moiety.split.nested import Nested
from moiety.split.own import Own
from moiety.split.rolling import Rolling
from moiety.split.whole import Whole

STATE = State({})


def turn(cohort, answers=None, seed=0) -> Turn:
    return Turn(0, tuple(cohort), answers or {}, torch.Generator().manual_seed(seed))


def kept(shares) -> dict[int, list[int]]:
    return {worker: share.part.axes["expert"].tolist() for worker, share in shares.items()}


def test_whole_gives_all_or_some_names():
    shares = Whole()(STATE, turn([3, 1]))
    assert list(shares) == [3, 1]
    assert all(share == Share() for share in shares.values())
    named = Whole(Part(names=("body.*",)))(STATE, turn([3]))
    assert named[3].part.holds("body.w")
    assert not named[3].part.holds("head.w")


def test_own_gives_each_its_own_and_names_who_has_none():
    mine = Share(Part({"h": torch.tensor([1])}), "teacher")
    assert Own({4: mine})(STATE, turn([4]))[4] is mine
    with pytest.raises(ValueError, match=r"workers \[5\] have no part"):
        Own({4: mine})(STATE, turn([4, 5]))


def test_nested_parts_lie_inside_each_other():
    split = Nested({"a": 10, "b": 3}, lambda worker: (0.5, 1.0, 0.01)[worker])
    shares = split(STATE, turn([0, 1, 2]))
    sizes = [[len(s.part.axes[axis]) for axis in "ab"] for s in shares.values()]
    assert sizes == [[5, 2], [10, 3], [1, 1]]
    assert shares[0].part.axes["a"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"worker 0 has width 1\.5"):
        Nested({"a": 2}, lambda worker: 1.5)(STATE, turn([0]))


def test_gated_gives_hints_sorted_and_anchors_their_own():
    answers = {5: {"ids": torch.tensor([2, 0], dtype=torch.int32)}}
    shares = Gated("expert", 2, {7: 1})(STATE, turn([7, 5], answers))
    assert list(shares) == [7, 5]
    assert kept(shares) == {7: [1], 5: [0, 2]}
    assert (shares[7].role, shares[5].role) == (ANCHOR, "")
    assert shares[5].part.axes["expert"].dtype == torch.int64


@pytest.mark.parametrize("choices", [{}, {"capacity": 1}, {"random": True, "size": 3}])
def test_a_roster_may_be_all_anchors_or_none(choices):
    anchors = Gated("expert", 2, {1: 0, 2: 1}, **choices)
    assert kept(anchors(STATE, turn([2, 1]))) == {2: [1], 1: [0]}
    answers = {4: {"ids": torch.tensor([1, 2]), "score": torch.tensor([0.1, 0.5, 0.4])}}
    alone = Gated("expert", 2, {}, **choices)(STATE, turn([4], answers))
    assert len(alone[4].part.axes["expert"]) == 2


def test_random_control_uses_the_streams_draws_alone():
    """No hints; distinct indices; another stream, another hand; all indices come up."""
    split = Gated("expert", 2, random=True, size=5)
    first, same, other = (kept(split(STATE, turn(range(40), seed=s))) for s in (0, 0, 1))
    assert first == same
    assert first != other
    assert all(len(set(hand)) == 2 and hand == sorted(hand) for hand in first.values())
    assert {index for hand in first.values() for index in hand} == set(range(5))


def test_ties_go_to_the_lower_index():
    assert select_best(torch.tensor([0.2, 0.4, 0.2, 0.2]), 3).tolist() == [1, 0, 2]
    assert select_best(torch.zeros(50), 4).tolist() == [0, 1, 2, 3]
    assert [hand.tolist() for hand in fill_by_score(torch.zeros(2, 4), 2, 2)] == [[0, 1], [0, 1]]


def test_capacity_by_hand():
    """All want 0, then 1; 0.9 gets it first, and who comes last takes what is left."""
    score = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.06, 0.04], [0.7, 0.2, 0.1]])
    assert [hand.tolist() for hand in fill_by_score(score, 1, 1)] == [[1], [0], [2]]
    assert [hand.tolist() for hand in fill_by_score(score, 1, 3)] == [[0], [0], [0]]


def test_capacity_is_kept_where_the_greedy_order_would_break_it():
    """Workers 0 and 1 fill experts 0 and 1; worker 2 then lacks one, and somebody swaps."""
    score = torch.tensor([[0.5, 0.4, 0.1], [0.5, 0.3, 0.2], [0.4, 0.3, 0.3]])
    hands = [set(hand.tolist()) for hand in fill_by_score(score, 2, 2)]
    loads = [sum(index in hand for hand in hands) for index in range(3)]
    assert loads == [2, 2, 2]
    assert hands == [{0, 1}, {0, 2}, {1, 2}]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_capacity_is_kept_whenever_it_can_be(data):
    workers = data.draw(st.integers(1, 8))
    size = data.draw(st.integers(1, 6))
    k = data.draw(st.integers(1, size))
    least = -(-workers * k // size)
    capacity = data.draw(st.integers(least, least + 2))
    grid = st.lists(st.integers(0, 3), min_size=workers * size, max_size=workers * size)
    score = torch.tensor(data.draw(grid), dtype=torch.float).reshape(workers, size)
    hands = [hand.tolist() for hand in fill_by_score(score, k, capacity)]
    assert all(len(hand) == len(set(hand)) == k for hand in hands)
    assert all(0 <= index < size for hand in hands for index in hand)
    assert max(sum(i in hand for hand in hands) for i in range(size)) <= capacity


def test_ample_capacity_is_the_plain_choice():
    score = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    for hand, row in zip(fill_by_score(score, 2, 6), score, strict=True):
        assert sorted(hand.tolist()) == sorted(select_best(row, 2).tolist())


def test_impossible_capacities_are_refused():
    with pytest.raises(ValueError, match="raise the capacity or lower k"):
        fill_by_score(torch.zeros(3, 2), 1, 1)
    with pytest.raises(ValueError, match="k=3 indices per worker, but the axis has 2"):
        fill_by_score(torch.zeros(1, 2), 3, 9)


def test_a_window_rolls_over_every_index():
    """In as many rounds as an axis is long, every index is held equally often, by every width."""
    split = Rolling({"h": 6, "g": 4}, lambda worker: (0.5, 0.01)[worker])
    held = {0: [], 1: []}
    for number in range(12):
        turn = Turn(number, (0, 1), {}, stream(0, number))
        for worker, share in split(State({}), turn).items():
            held[worker].append(share.part.axes)
    assert held[0][5]["h"].tolist() == [0, 1, 5]
    assert held[0][2]["g"].tolist() == [2, 3]
    assert [axes["h"].tolist() for axes in held[1][:7]] == [[0], [1], [2], [3], [4], [5], [0]]
    for axes in held.values():
        for axis, size in (("h", 6), ("g", 4)):
            counts = torch.cat([one[axis] for one in axes]).bincount(minlength=size)
            assert len(set(counts.tolist())) == 1
