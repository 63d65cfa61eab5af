"""Robust merges by numbers that were computed by hand, over parts, and against bad workers."""

from dataclasses import replace

import pytest
import torch

from moiety.core.axes import Part
from moiety.core.state import Record, Reply, Share
from moiety.core.store import LocalStore
from moiety.engine.serial import Serial
from moiety.merge.robust import Robust, choose_merge, clip_changes
from moiety.merge.rules import RULES, Merging, find_flag_basis, lay_replies, score_by_krum
from moiety.methods import METHODS
from moiety.rounds.synchronous import initialise_state, play_round

AXES = {"w": ("h",)}
WHOLE = {"w": torch.tensor([10.0, 20.0, 30.0, 40.0]), "n": torch.tensor(3)}


def reply(worker, held, values, count=3):
    part = Part({"h": torch.tensor(held)})
    return Reply(worker, Share(part), {"w": torch.tensor(values), "n": torch.tensor(count)})


def merge(replies, kind, **more):
    opened = Robust(Merging(kind, **more), AXES).begin(LocalStore(WHOLE, AXES))
    for one in replies:
        opened.add(one)
    return opened.close()


# Coordinate 0 is held by all, 1 by two, 2 by one, 3 by nobody.
REPLIES = [
    reply(0, [0, 1], [1.0, 2.0], 5),
    reply(1, [0, 1], [2.0, 4.0], 5),
    reply(2, [0], [3.0], 6),
    reply(3, [0, 2], [4.0, 7.0], 6),
    reply(4, [0], [1e9], 1000),
]


@pytest.mark.parametrize(
    ("kind", "more", "wanted", "count"),
    [
        ("median", {}, [3.0, 3.0, 7.0, 40.0], 6),
        ("trimmed", {"share": 0.2}, [3.0, 3.0, 7.0, 40.0], 6),  # (2 + 3 + 4) / 3; (5 + 6 + 6) / 3
        ("trimmed", {"share": 0.4}, [3.0, 3.0, 7.0, 40.0], 6),
    ],
)
def test_each_coordinate_by_its_holders(kind, more, wanted, count):
    merged = merge(REPLIES, kind, **more)
    assert merged.params["w"].tolist() == wanted
    assert merged.held["w"].tolist() == [True, True, True, False]
    assert merged.params["n"].item() == count
    assert merged.params["n"].dtype == torch.int64


def test_krum_by_hand():
    """Of 0, 1, 2, 6 and 100 with one bad, two neighbours count: 1 has 1 + 1."""
    replies = [reply(w, [0], [v]) for w, v in enumerate([0.0, 1.0, 2.0, 6.0, 100.0])]
    laid = lay_replies({"w": WHOLE["w"]}, AXES, replies)
    assert score_by_krum(laid, 1).tolist() == [5.0, 2.0, 5.0, 16 + 25.0, 94.0**2 + 98.0**2]
    assert merge(replies, "krum").params["w"].tolist() == [1.0, 20.0, 30.0, 40.0]
    assert merge(replies, "multikrum").params["w"][0] == (0 + 1 + 2 + 6) / 4
    assert merge(replies, "multikrum", share=0.4).params["w"][0] == 1.0


def test_parts_that_share_nothing_are_no_neighbours():
    replies = [reply(0, [0], [1.0]), reply(1, [1], [1.0]), reply(2, [0], [2.0])]
    laid = lay_replies({"w": WHOLE["w"]}, AXES, replies)
    assert score_by_krum(laid, 1).tolist() == [1.0, float("inf"), 1.0]
    merged = merge(replies, "krum")
    assert merged.params["w"].tolist() == [1.0, 20.0, 30.0, 40.0]  # the one left out held the next
    assert merged.held["w"].tolist() == [True, False, False, False]
    apart = [replace(one, piece={"w": one.piece["w"]}) for one in replies[:2]]
    with pytest.raises(ValueError, match="no two parts of this round share"):
        merge(apart, "multikrum")


def test_a_geometric_median_of_a_line_is_its_median():
    replies = [reply(w, [0], [v]) for w, v in enumerate([0.0, 1.0, 2.0, 3.0, 1000.0])]
    replies = [replace(one, piece={"w": one.piece["w"]}) for one in replies]
    assert merge(replies, "geomedian").params["w"][0] == pytest.approx(2.0, abs=1e-2)


def test_clipping_shortens_changes_from_what_was_sent():
    store = LocalStore(WHOLE, AXES)
    far, near = reply(0, [0, 1], [13.0, 24.0]), reply(1, [0], [11.0])  # by 5 and by 1
    clipped = clip_changes(store, [far, near], 2.5)
    assert clipped[0].piece["w"].tolist() == [11.5, 22.0]
    assert clipped[1].piece["w"].tolist() == [11.0]
    by_median = clip_changes(store, [far, near], 0.0)  # of 1 and 5: 3
    assert by_median[0].piece["w"].tolist() == pytest.approx([11.8, 22.4])
    assert merge([far, near], "clip", norm=2.5).params["w"].tolist() == [11.25, 22.0, 30.0, 40.0]


def test_a_flag_counts_directions_and_no_lengths():
    """All lie in three dimensions, so the mean of unit changes stays, at the median norm of 5."""
    axes, whole = {"w": ("h",)}, {"w": torch.ones(4)}
    opened = Robust(Merging("flag"), axes).begin(LocalStore(whole, axes))
    for worker, (place, long) in enumerate([(1, 5.0), (1, 5.0), (2, 5.0), (2, 1.0), (3, 1e7)]):
        change = torch.zeros(4)
        change[0], change[place] = 0.6 * long, 0.8 * long
        opened.add(Reply(worker, Share(Part()), {"w": whole["w"] + change}))
    wanted = torch.tensor([3.0, 8 / 5, 8 / 5, 4 / 5])
    torch.testing.assert_close(opened.close().params["w"] - 1, wanted, atol=1e-3, rtol=0)


def test_a_flag_lies_nearer_to_changes_than_principal_axes():
    units = torch.randn(9, 40, generator=torch.Generator().manual_seed(0)).double()
    units[:6] += 3 * torch.randn(2, 40, generator=torch.Generator().manual_seed(1)).repeat(3, 1)
    units = units / units.norm(dim=1, keepdim=True)
    gram = units @ units.T
    span = find_flag_basis(gram).T @ units
    torch.testing.assert_close(span @ span.T, torch.eye(5).double())
    axes = torch.linalg.svd(units).Vh[:5]
    far, farther = ((1 - (units @ s.T).square().sum(1)).clamp_min(0).sqrt() for s in (span, axes))
    assert far.sum() < farther.sum()


@pytest.mark.parametrize("kind", RULES)
def test_what_all_agree_on_stays_and_order_is_nothing(kind):
    replies = [reply(w, [0, 1], [12.0, 24.0]) for w in range(5)]
    merged = merge(replies, kind).params["w"]
    torch.testing.assert_close(merged, torch.tensor([12.0, 24.0, 30.0, 40.0]))
    forth, back = merge(REPLIES, kind), merge(REPLIES[::-1], kind)
    assert torch.equal(forth.params["w"], back.params["w"])


@pytest.mark.parametrize("kind", [k for k in RULES if k != "clip"])
def test_one_of_five_cannot_move_it_far(kind):
    good = [reply(w, [0, 1], [11.0 + 0.1 * w, 21.0 - 0.1 * w]) for w in range(4)]
    bad = reply(4, [0, 1], [-1e6, 1e6])
    moved = merge([*good, bad], kind).params["w"][:2]
    assert (moved - torch.tensor([11.15, 20.85])).abs().max() < 0.5


def test_rows_that_are_claimed_are_not_read():
    liar = replace(REPLIES[0], record=Record(rows=10**9))
    one, other = merge(REPLIES, "median"), merge([liar, *REPLIES[1:]], "median")
    assert torch.equal(one.params["w"], other.params["w"])


@pytest.mark.parametrize(
    ("name", "kind"), [("fedavg", "median"), ("fedavg", "multikrum"), ("ist", "median")]
)
def test_methods_play_with_it(name, kind):
    demo = METHODS[name].demo(torch.Generator().manual_seed(0))
    method = choose_merge(demo.method, Merging(kind))
    engine = Serial(demo.data.__getitem__)
    after = play_round(method, engine, initialise_state(method), tuple(demo.data), 3)
    assert all(t.isfinite().all() for t in after.params.values() if t.is_floating_point())
    assert any(not torch.equal(t, method.model.params[n]) for n, t in after.params.items())


@pytest.mark.parametrize("name", ["dmoe", "scaffold"])
def test_what_it_cannot_guard_is_refused(name):
    demo = METHODS[name].demo(torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"merge\.kind='median'.*leave it out|.*besides"):
        choose_merge(demo.method, Merging("median"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"kind": "mean"}, "merge.kind='mean'; choose one of"),
        ({"kind": "median", "share": 0.5}, "a share between 0 and 0.5"),
        ({"kind": "clip", "norm": float("inf")}, "a finite norm"),
        ({"share": 0.1}, "read by merge.kind trimmed and multikrum alone"),
        ({"kind": "krum", "share": 0.1}, "merge.kind is 'krum'; leave it out"),
        ({"kind": "median", "norm": 1.0}, "read by merge.kind clip alone"),
    ],
)
def test_choices_are_checked(more, message):
    with pytest.raises(ValueError, match=message):
        Merging(**more)
