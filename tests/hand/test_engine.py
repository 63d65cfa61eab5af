"""Engines, blocks and the plan: values on paper."""

from types import SimpleNamespace

import pytest
import torch

from moiety.blocks import slices
from moiety.blocks.normed import make_abstract_normed
from moiety.blocks.partitioned import BlockRounds
from moiety.blocks.slices import Slice, fold_slices
from moiety.core.rows import TableRows
from moiety.core.state import Job, Plan, Share, State
from moiety.core.streams import stream
from moiety.engine.batches import stack_plans
from moiety.engine.choose import choose_engine
from moiety.engine.collective import gather_memory
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.engine.work import summarize_losses
from moiety.methods.ddome import ddome
from moiety.methods.demo import make_two_class_workers
from moiety.methods.ist import ist
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.ops.optim import SGD
from moiety.plan.profile import profile_query
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.synchronous import Dispatch, make_jobs
from moiety.solve.sgd import LocalSGD
from moiety.tasks.classes import Classes
from moiety.tasks.objectives import RowLosses

SEEDS = torch.zeros(5, dtype=torch.long)


def test_a_record_has_first_last_and_mean():
    record = summarize_losses(Job(0, 4, 2, Share(), {}), 7, [3.0, 1.0, 2.0])
    assert (record.steps, record.rows, record.model_version) == (3, 7, 4)
    assert (record.loss_first, record.loss_last, record.loss_mean) == (3.0, 2.0, 2.0)


def test_workers_of_two_roles_and_one_shape_are_each_on_their_loss():
    """The second role descends on three times the loss: stacked as one they would move alike."""
    model = mlp((5, 4, 3), torch.Generator().manual_seed(0))
    plain = RowLosses(Classes(), model.forward)

    def thrice(params, batch, held):
        loss, after = plain(params, batch, held)
        return 3 * loss, after

    x, y = torch.randn(32, 5, generator=stream(0, "x")), torch.arange(32) % 3
    rows = {w: TableRows({"x": x, "y": y}, torch.arange(8 * w, 8 * w + 8)) for w in range(4)}
    solve = LocalSGD({"": plain, "teacher": thrice}, (("*", SGD(0.1)),), 8, 1)
    jobs = [Job(0, 0, w, Share(role=("", "teacher")[w % 2]), model.params) for w in range(4)]
    wanted = list(Serial(rows.__getitem__).map(solve, jobs))
    found = list(Vectorized(rows.__getitem__).map(solve, jobs))
    for one, other in zip(wanted, found, strict=True):
        for name, tensor in one.piece.items():
            torch.testing.assert_close(other.piece[name], tensor, rtol=1e-5, atol=1e-6)
        assert other.record.loss_first == pytest.approx(one.record.loss_first, rel=1e-5)
    assert wanted[1].record.loss_first > 2 * wanted[0].record.loss_first


def of_size(size: int, dims: int = 2, *, stackable: bool = True):
    """A method as the choice of an engine sees it: a tensor of some size, and a solver."""
    tensor = torch.zeros(size).reshape([-1] + [1] * (dims - 1))
    solve = LocalSGD({}, (("*", SGD(0.1)),), draws_noise=not stackable)
    return SimpleNamespace(model=SimpleNamespace(params={"w": tensor}), solve=solve)


@pytest.mark.parametrize(
    ("method", "device", "workers", "wanted"),
    [
        (of_size(700), "cpu", 8, "vectorized"),
        (of_size(700), "cpu", 7, "pool"),
        (of_size(16_384), "cpu", 64, "vectorized"),
        (of_size(16_385), "cpu", 64, "pool"),
        (of_size(700, 4), "cpu", 64, "pool"),
        (of_size(700, stackable=False), "cpu", 64, "pool"),
        (of_size(10**6), "cuda", 2, "vectorized"),
        (of_size(700, 4), "cuda:1", 64, "vectorized"),
        (of_size(700, stackable=False), "cuda", 64, "serial"),
    ],
)
def test_the_engine_by_size(method, device, workers, wanted):
    """Small parts of at least eight workers are stacked; convolutions never, but on a GPU."""
    assert choose_engine(method, device, workers) == wanted


def test_hands_in_blocks_are_those_of_all_places():
    """Four places of 32 units are 8 each, whether four turn up or two, here and in one place."""
    local = LocalTraining(lr=0.1, momentum=0.0, batch=16, epochs=0, steps=1)
    method = ist(Task(make_abstract_normed((10, 32, 16, 3)), local, workers=4))
    state = State(method.model.params, round=3)
    for cohort in ((0, 1, 2, 3), (1, 3)):
        rounds = BlockRounds(method, {}.__getitem__, FixedCohort(cohort), 5, concurrency=4)
        mine = rounds.split(3)
        jobs = make_jobs(method, state, cohort, {}, 5, Dispatch(concurrency=4))
        wanted = {job.worker: job.share.part.axes for job in jobs}
        assert set(mine) == set(wanted)
        for worker, share in mine.items():
            assert {axis: len(kept) for axis, kept in share.part.axes.items()} == {"h1": 8, "h2": 4}
            for axis, kept in share.part.axes.items():
                assert torch.equal(kept, wanted[worker][axis])


def test_the_cost_of_an_answer_grows_with_all_rows():
    """A gate is scored on every row: 3,000 rows are three times 1,000 in operations."""
    task, _ = make_two_class_workers(stream(3, "demo"))
    method = ddome(task, experts=3)
    table = {"x": torch.zeros(3000, 8), "y": torch.zeros(3000).long()}
    see, query = method.transform, method.query
    assert see is not None
    assert query is not None
    job = Job(0, 0, 0, Share(), method.model.params)

    def flops(count: int) -> int:
        rows = TableRows(dict(see(table)), torch.arange(count))
        return profile_query(query.solve, job, rows).flops

    assert flops(1000) > 0
    assert flops(3000) == 3 * flops(1000) == 3000 * flops(1)


def test_a_stretch_of_stacked_plans_is_that_of_each():
    """Steps 2 and 3 of plans of five, three and two steps, of which the last is over."""
    plans = [
        Plan(torch.arange(10).view(5, 2), torch.full((5, 2), 0.5), torch.arange(5) / 8, SEEDS),
        Plan(torch.arange(3).view(3, 1), torch.ones(3, 1), torch.arange(3) / 2, SEEDS),
        Plan(torch.arange(4).view(2, 2), torch.ones(2, 2), torch.ones(2), SEEDS),
    ]
    ids, weights, rates = stack_plans(plans, 2, 2, 4)
    assert ids.tolist() == [[[4, 5], [2, 0], [0, 0]], [[6, 7], [0, 0], [0, 0]]]
    assert weights.tolist() == [[[0.5, 0.5], [1, 0], [0, 0]], [[0.5, 0.5], [0, 0], [0, 0]]]
    assert rates.tolist() == [[0.25, 1.0, 0.0], [0.375, 0.0, 0.0]]


def test_a_rank_tells_what_its_own_workers_keep():
    """Rank 0 of two remembers worker 1 from before a resumption: rank 1 knows better."""
    told = []

    def gather(mine):
        told.append(mine)
        return [mine, {1: "new", 3: "too"}]

    ranks = SimpleNamespace(rank=0, size=2, gather=gather)
    whole = gather_memory({0: "own", 1: "old", 2: "own as well"}, ranks)  # type: ignore[arg-type]
    assert told == [{0: "own", 2: "own as well"}]
    assert whole == {0: "own", 1: "new", 2: "own as well", 3: "too"}


def test_a_block_folded_in_stripes_is_the_block_folded_at_once(monkeypatch):
    """Rows 1, 4 and 6 from one worker, 4 and 5 from another: 4 is their mean."""
    monkeypatch.setattr(slices, "AT_ONCE", 4)
    monkeypatch.setattr(slices, "STRIPES", 4)
    block = torch.full((7, 2), -1.0)
    came = []
    for rows, value in (([1, 4, 6], 2.0), ([4, 5], 8.0)):
        kept = torch.tensor(rows)
        one = Slice({0: kept}, torch.arange(len(kept)), (len(kept), 2))
        came.append((one, torch.full((len(kept), 2), value)))
    fold_slices(block, came, 0)
    assert block[:, 0].tolist() == block[:, 1].tolist() == [-1, 2, -1, -1, 5, 8, 2]


def test_a_batch_in_pieces_has_the_loss_of_the_batch():
    """Eight rows in pieces of three, three and two: the sum of what each bears, on every engine."""
    model = mlp((5, 4, 3), torch.Generator().manual_seed(0))
    rows = TableRows(
        {"x": torch.randn(8, 5, generator=stream(0, "x")), "y": torch.arange(8) % 3},
        torch.arange(8),
    )
    loss = {"": RowLosses(Classes(), model.forward)}
    whole = torch.nn.functional.cross_entropy(
        model.logits(model.params, rows.table, {}), rows.table["y"]
    )
    for engine in (
        Serial(lambda _: rows), Vectorized(lambda _: rows), Pool(lambda _: rows, processes=1),
    ):  # fmt: skip
        for pieces in (1, 3):
            solve = LocalSGD(loss, (("*", SGD(0.1)),), 8, 2, accumulate=pieces)
            (reply,) = engine.map(solve, [Job(0, 0, 0, Share(), model.params)])
            assert reply.record.loss_first == pytest.approx(float(whole), rel=1e-5)
            assert reply.record.loss_last < reply.record.loss_first


def test_batch_norm_never_sees_a_single_row():
    """Nine rows in batches of four leave one alone; in batches of five, four."""
    for size, width in ((9, 5), (8, 4), (2, 2), (5, 5), (1, 1)):
        solve = LocalSGD({}, (("*", SGD(0.1)),), 4, 1, uses_batch_statistics=True)
        plan = solve.plan(size, Job(0, 0, 0, Share(), {}))
        assert plan.rows.shape[1] == width
        counts = (plan.weights > 0).sum(1).tolist()
        assert sum(counts) == size
        assert min(counts) > 1 or size == 1
