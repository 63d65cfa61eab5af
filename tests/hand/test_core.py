"""Core, splits, merges and servers: values on paper."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from moiety.core.axes import Part
from moiety.core.fold import Precision, Total, fold_piece
from moiety.core.rows import JoinedRows, TableRows, sample_rows
from moiety.core.stage import Stage, find_stage
from moiety.core.state import Clock, InFlight, Job, Record, Reply, Share, State
from moiety.core.streams import stream
from moiety.merge.overlap import overlap, overlap_by_rows
from moiety.ops.optim import SGD
from moiety.rounds.asynchronous import receive_replies
from moiety.server.gradient import GradientServer
from moiety.solve.lr_schedule import LaterRate, SteppedRate
from moiety.solve.plan import shuffle_windows
from moiety.split.assigned import Quota
from moiety.split.gated import fill_by_score


def test_jobs_in_flight_end_with_their_stage():
    """They are of the method before, whose shapes the next one need not have."""
    first, second = (Stage(SimpleNamespace(name=n), 2) for n in "ab")  # type: ignore[arg-type]
    flying = Clock(now=5.0, in_flight=(object(),), job_seconds={3: 1.0})  # type: ignore[arg-type]
    state = State({"w": torch.zeros(1)}, round=1, clock=flying)
    assert find_stage([first, second], state)[1].clock == flying
    stage, entered = find_stage([first, second], replace(state, round=2))
    assert stage is second
    assert entered.clock == Clock(5.0, (), {3: 1.0})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_that_is_cut_is_weighed_and_added_in_float32(dtype):
    """300 weights of 1.001 times 1.5: bfloat16 would stop at 256, and take 1.001 for 1."""
    whole = {"w": torch.zeros(4, 2, dtype=dtype)}
    part, total = Part({"h": torch.tensor([1, 3])}), Total()
    for _ in range(300):
        piece = {"w": torch.full((2, 2), 1.5, dtype=dtype)}
        fold_piece(total, whole, {"w": ("h", None)}, part, piece, Precision(1.001))
    held = torch.tensor([False, True, False, True])
    assert total.sums["w"].dtype == total.mass["w"].dtype == torch.float32
    assert total.sums["w"][held].flatten().tolist() == pytest.approx([450.45] * 4, rel=1e-5)
    assert total.mass["w"].expand(4, 2)[held].flatten().tolist() == pytest.approx(
        [300.3] * 4, rel=1e-5
    )
    assert not total.sums["w"][~held].any()


def test_joined_rows_come_in_the_order_asked():
    """Owner 0 gives its rows 4 and 1, owner 1 its rows 0, 2 and 3."""
    table = {"x": torch.arange(100.0)}
    sources = [TableRows(table, torch.arange(10, 15)), TableRows(table, torch.arange(50, 54))]
    joined = JoinedRows(sources, [torch.tensor([4, 1]), torch.tensor([0, 2, 3])])
    assert joined.size == 5
    assert joined.take(torch.arange(5))["x"].tolist() == [14, 11, 50, 52, 53]
    assert joined.take(torch.tensor([3, 0, 4, 4, 1]))["x"].tolist() == [52, 14, 53, 53, 11]
    assert joined.take(torch.tensor([2]))["x"].tolist() == [50]
    ids = torch.tensor([4, 2, 0, 1, 3, 2])
    alone = [float(joined.take(one[None])["x"]) for one in ids]
    assert joined.take(ids)["x"].tolist() == alone


def test_sampled_rows_are_as_many_of_each_worker_and_distinct():
    table = {"x": torch.arange(400.0)}
    rows = {w: TableRows(table, torch.arange(100 * w, 100 * w + 50)) for w in range(4)}
    some = sample_rows(rows.__getitem__, [0, 1, 3], 10, 7)
    taken = some.take(torch.arange(some.size))["x"].tolist()
    assert some.size == 12
    assert len(set(taken)) == 12
    assert sorted(int(x) // 100 for x in taken) == [0] * 4 + [1] * 4 + [3] * 4
    again = sample_rows(rows.__getitem__, [0, 1, 3], 10, 7)
    assert again.take(torch.arange(12))["x"].tolist() == taken


def test_a_quota_fills_every_hand_by_a_draw_of_its_own():
    """Of 12, each of 4 has 3 and draws 3 of the 9 others: two share 6 * (3 / 9) ** 2 by chance."""
    shared, draws = 0, 600
    for draw in range(draws):
        first, second, *_ = (set(h.tolist()) for h in Quota(0.5)(12, 4, stream(draw, "quota")))
        assert len(first) == len(second) == 6
        shared += len(first & second) - 2 * 1  # each one's own three are met by chance as well
    # An index of the first's own is an extra of the second with chance 1 / 3, and the other way.
    assert shared / draws == pytest.approx(6 / 9, abs=0.12)


def test_windows_are_shuffled_too():
    """Ten windows of four rows in steps of four: no order of windows is that of the file."""
    orders = []
    for seed in range(5):
        rows, _ = shuffle_windows(40, 4, 10, 4, stream(seed, "windows"))
        windows = rows // 4
        assert (windows == windows[:, :1]).all()
        orders.append(windows[:, 0].tolist())
        assert sorted(orders[-1]) == list(range(10))
        assert orders[-1] != list(range(10))
    assert len(set(map(tuple, orders))) == 5


def test_a_server_s_schedule_begins_with_the_first_round():
    """The gradient is 2 in both rounds; rates 1 and 1/2 of 0.1: 1 - 0.2 - 0.1."""
    server = GradientServer(SGD(0.1), 0.5, lambda progress: 1 / (1 + progress))
    params, held, memory = {"w": torch.ones(1)}, {"w": torch.tensor([True])}, {}
    for wanted in (0.8, 0.7):
        merged = {"w": params["w"] - 0.5 * 2.0}
        params, memory = server(params, merged, held, memory)
        assert params["w"].item() == pytest.approx(wanted)


def test_rows_multiply_the_precision_of_a_reply():
    """Precision 2, 3 rows: weight 6."""
    reply = Reply(0, Share(), {}, Precision(2.0), record=Record(rows=3))
    assert overlap_by_rows.weigh(reply).scalar == 6.0
    assert overlap.weigh(reply).scalar == 2.0


def test_capacity_holds_after_a_second_swap():
    """Five workers take four of five indices, none held by more than four: each by just four."""
    score = [[46, 69, 31, 8, 57], [47, 64, 1, 18, 50], [75, 88, 9, 96, 71],
             [45, 10, 76, 56, 2], [77, 22, 18, 2, 38]]  # fmt: skip
    hands = [set(hand.tolist()) for hand in fill_by_score(torch.tensor(score).float(), 4, 4)]
    assert [len(hand) for hand in hands] == [4] * 5
    assert [sum(index in hand for hand in hands) for index in range(5)] == [4] * 5


def test_calibration_looks_at_64_workers_at_most():
    """128 rows of 100 workers are two of each of 64."""
    opened = []

    def open_rows(worker: int) -> TableRows:
        opened.append(worker)
        return TableRows({"x": torch.full((5,), float(worker))}, torch.arange(5))

    some = sample_rows(open_rows, range(100), 128, 3)
    assert len(opened) == len(set(opened)) == 64
    assert some.size == 128
    drawn = some.take(torch.arange(128))["x"].unique(return_counts=True)[1]
    assert drawn.tolist() == [2] * 64


def test_the_seconds_of_workers_are_kept_until_they_are_back_again():
    """Worker 7 took 9 s before; 2 comes back now after 3 s, and 1 later."""
    flying = tuple(
        InFlight(Job(0, 0, worker, Share(), {}), end, seconds)
        for worker, end, seconds in [(2, 5.0, 3.0), (1, 8.0, 6.0)]
    )
    state = State({}, clock=Clock(2.0, flying, {7: 9.0, 2: 1.0}))
    after, back = receive_replies(state, 5.0, 4)
    assert [job.worker for job in back] == [2]
    assert after.clock == Clock(5.0, flying[1:], {7: 9.0, 2: 3.0})


def test_the_server_s_gradient_is_clipped_as_one():
    """Gradients 3 and 4 have norm 5: clipped to 1, at rate 0.1, they move by 0.06 and 0.08."""
    server = GradientServer(SGD(0.1), 0.5, lambda _: 1.0, clip=1.0)
    params = {"a": torch.ones(1), "b": torch.ones(1)}
    merged = {"a": torch.ones(1) - 0.5 * 3, "b": torch.ones(1) - 0.5 * 4}
    held = {name: torch.tensor([True]) for name in params}
    moved, _ = server(params, merged, held, {})
    assert moved["a"].item() == pytest.approx(0.94)
    assert moved["b"].item() == pytest.approx(0.92)


def test_a_later_schedule_begins_at_its_stage():
    """Halved two rounds after round 10, and untouched before it."""
    rate = LaterRate(SteppedRate((2,), 0.5), 10)
    assert [rate(at) for at in (3, 10, 11.9, 12, 20)] == [1.0, 1.0, 1.0, 0.5, 0.5]
