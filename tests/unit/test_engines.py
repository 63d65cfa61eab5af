"""Engines at the edges: odd sizes, bad data, dead processes, threads."""

import os
import pickle
import signal
import time

import pytest
import torch

from moiety.core.errors import WorkerError
from moiety.core.rows import TableRows
from moiety.core.state import Job, Share
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.models.mlp import mlp
from moiety.ops.optim import SGD
from moiety.solve.sgd import LocalSGD
from moiety.tasks.classes import Classes
from moiety.tasks.objectives import RowLosses
from tests.waiting import LAST_S

MODEL = mlp((5, 4, 3), torch.Generator().manual_seed(0))
KINDS = ("serial", "vectorized", "pool", "pool-of-one")


def rows_of(worker: int, size: int) -> TableRows:
    x = torch.randn(size, 5, generator=torch.Generator().manual_seed(worker))
    return TableRows({"x": x, "y": torch.arange(size) % 3}, torch.arange(size))


def solver(batch: int = 4, epochs: int = 2) -> LocalSGD:
    return LocalSGD(
        {"": RowLosses(Classes(), MODEL.forward)}, (("*", SGD(0.03, 0.9)),), batch, epochs
    )


def jobs(count: int, round_index: int = 0) -> list[Job]:
    return [Job(0, round_index, worker, Share(), MODEL.params) for worker in range(count)]


@pytest.fixture
def start():
    """Start engines by name; close them when the test is over."""
    made = []

    def begin(kind: str, data):
        engine = {
            "serial": lambda: Serial(data.__getitem__),
            "vectorized": lambda: Vectorized(data.__getitem__),
            "pool": lambda: Pool(data.__getitem__, processes=2),
            "pool-of-one": lambda: Pool(data.__getitem__, processes=1),
        }[kind]()
        made.append(engine)
        return engine

    yield begin
    for engine in reversed(made):
        engine.close()


def compare(found, wanted, tolerance: float) -> None:
    assert [reply.worker for reply in found] == [reply.worker for reply in wanted]
    for a, b in zip(found, wanted, strict=True):
        for name, tensor in b.piece.items():
            torch.testing.assert_close(a.piece[name], tensor, rtol=tolerance, atol=tolerance)
        assert (a.record.steps, a.record.rows) == (b.record.steps, b.record.rows)
        assert a.record.loss_mean == pytest.approx(b.record.loss_mean, rel=max(tolerance, 1e-12))
        assert a.record.loss_last == pytest.approx(b.record.loss_last, rel=max(tolerance, 1e-12))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sizes",
    [[7, 4, 1, 13, 2, 9], [1], [1, 1, 1], [3, 3], [4, 8, 5], [1, 40, 2]],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_odd_sizes_are_exact(start, kind, sizes, batch):
    """One row, fewer rows than a batch, ragged last batches, workers of unequal lengths."""
    data = {worker: rows_of(worker, size) for worker, size in enumerate(sizes)}
    solve = solver(batch)
    wanted = list(start("serial", data).map(solve, jobs(len(sizes))))
    found = list(start(kind, data).map(solve, jobs(len(sizes))))
    compare(found, wanted, 1e-5 if kind == "vectorized" else 0)
    for reply, size in zip(wanted, sizes, strict=True):
        assert reply.record.steps == 2 * -(-size // batch)
        assert reply.record.rows == size


@pytest.mark.parametrize("most", [1, 2, 5])
def test_small_stacks_change_nothing(most):
    data = {worker: rows_of(worker, 3 + 2 * worker) for worker in range(5)}
    wanted = list(Serial(data.__getitem__).map(solver(), jobs(5)))
    found = list(Vectorized(data.__getitem__, most=most).map(solver(), jobs(5)))
    compare(found, wanted, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_without_rows_is_named(start, kind):
    data = {0: rows_of(0, 5), 1: rows_of(1, 0), 2: rows_of(2, 5)}
    with pytest.raises(WorkerError, match=r"worker 1, round 8.*no rows; leave it out") as caught:
        list(start(kind, data).map(solver(), jobs(3, 7)))
    assert (caught.value.worker, caught.value.round) == (1, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_data_names_worker_round_and_step(start, kind):
    """The row with NaN stands in the batch of a known step."""
    data = {worker: rows_of(worker, 10) for worker in range(3)}
    solve = solver(4, 1)
    plan = solve.plan(10, jobs(3, 5)[2])
    bad = {name: column.clone() for name, column in data[2].table.items()}
    bad["x"][plan.rows[1, 0], 3] = float("nan")
    data[2] = TableRows(bad, torch.arange(10))
    with pytest.raises(WorkerError, match="worker 2, round 6, step 1: the loss is nan") as caught:
        list(start(kind, data).map(solve, jobs(3, 5)))
    error = caught.value
    assert (error.worker, error.round, error.step) == (2, 5, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_explodes_is_named(start, kind):
    data = {worker: rows_of(worker, 10) for worker in range(2)}
    wild = LocalSGD({"": RowLosses(Classes(), MODEL.forward)}, (("*", SGD(1e30)),), 4, 4)
    with pytest.raises(WorkerError, match=r"worker 0, round 1, step .*lower the learning rate"):
        list(start(kind, data).map(wild, jobs(2)))


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_widths_are_named(start, kind):
    x = torch.zeros(4, 6)
    data = {0: TableRows({"x": x, "y": torch.zeros(4).long()}, torch.arange(4))}
    with pytest.raises(WorkerError, match="worker 0, round 4"):
        list(start(kind, data).map(solver(), jobs(1, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_goes_on_after_a_failure(start, kind):
    """A failed round leaves nothing behind: the next gives what it would have given."""
    data = {0: rows_of(0, 5), 1: rows_of(1, 0), 2: rows_of(2, 5)}
    engine, solve = start(kind, data), solver()
    with pytest.raises(WorkerError):
        list(engine.map(solve, jobs(3)))
    well = [job for job in jobs(3, 1) if job.worker != 1]
    compare(
        list(engine.map(solve, well)), list(Serial(data.__getitem__).map(solve, well)),
        1e-5 if kind == "vectorized" else 0,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_given_up_leaves_no_stale_replies(start, kind):
    """Whoever stops after the first reply gets the right ones when asking anew."""
    data = {worker: rows_of(worker, 6) for worker in range(6)}
    engine, solve = start(kind, data), solver()
    replies = engine.map(solve, jobs(6, 0))
    next(replies)
    replies.close()
    compare(
        list(engine.map(solve, jobs(6, 1))), list(Serial(data.__getitem__).map(solve, jobs(6, 1))),
        1e-5 if kind == "vectorized" else 0,
    )  # fmt: skip


@pytest.mark.parametrize("moment", ["idle", "busy"])
def test_a_process_that_dies_is_told_clearly(start, moment):
    """Killed between rounds, or in the middle of one."""
    slow = {w: Slow(rows_of(w, 6).table, torch.arange(6)) for w in range(8)}
    quick = {worker: rows_of(worker, 6) for worker in slow}
    engine, solve = start("pool", slow if moment == "busy" else quick), solver()
    replies = engine.map(solve, jobs(8))
    next(replies)
    (team,) = engine.teams.values()
    if moment == "idle":
        assert len(list(replies)) == 7
    os.kill(team.members[1].pid, signal.SIGKILL)
    if moment == "idle":
        team.members[1].join(LAST_S)
        replies = engine.map(solve, jobs(8))
    with pytest.raises(RuntimeError, match=r"a process of the pool died.*engine='serial'"):
        list(replies)


class Slow(TableRows):
    """Rows that take their time."""

    def take(self, ids, /):
        time.sleep(0.05)
        return super().take(ids)


def test_closing_one_of_two_pools_does_not_wait(start):
    """The processes of the second were forked while the first was open."""
    data = {worker: rows_of(worker, 5) for worker in range(3)}
    first, second = start("pool", data), start("pool", data)
    for engine in (first, second):
        assert len(list(engine.map(solver(), jobs(3)))) == 3
    members = [member for team in first.teams.values() for member in team.members]
    first.close()
    for member in members:
        member.join(LAST_S)
    assert [member.exitcode for member in members] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_thread_count_is_restored(start, kind, fails):
    """Two threads before, two after, whatever happened; one while workers work."""
    during = []

    class Counting(TableRows):
        def take(self, ids, /):
            during.append(torch.get_num_threads())
            return super().take(ids)

    table, size = rows_of(0, 5).table, 0 if fails else 5
    data = {0: Counting(table, torch.arange(5)), 1: Counting(table, torch.arange(size))}
    torch.set_num_threads(2)
    try:
        replies = start(kind, data).map(solver(), jobs(2))
        if fails:
            with pytest.raises(WorkerError):
                list(replies)
        else:
            assert len(list(replies)) == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(during) == (set() if kind == "pool" else {1}) or fails


@pytest.mark.parametrize("kind", KINDS)
def test_no_jobs_are_no_replies(start, kind):
    assert list(start(kind, {}).map(solver(), [])) == []


def test_errors_survive_a_pickle():
    error = pickle.loads(pickle.dumps(WorkerError(3, 4, None, "why")))
    assert str(error) == "worker 3, round 5: why"
    assert (error.worker, error.round, error.step) == (3, 4, None)
