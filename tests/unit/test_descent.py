"""Local descent on problems whose answers are known."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from moiety.core.axes import Part
from moiety.core.rows import TableRows
from moiety.core.state import Job, Share
from moiety.engine.batches import read_batches
from moiety.engine.serial import Serial
from moiety.engine.work import run_steps_in_place
from moiety.models.mlp import linear, mlp
from moiety.ops.optim import SGD, Adam
from moiety.plan.speed import run_first_step
from moiety.solve.sgd import LocalSGD
from moiety.tasks.classes import Classes
from moiety.tasks.objectives import Proximal, RowLosses


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def table(size: int = 12) -> TableRows:
    x = torch.randn(size, 5, generator=rng())
    return TableRows({"x": x, "y": torch.arange(size) % 3}, torch.arange(size))


def reply_of(solve, piece, rows=None, memory=None):
    """Do one job on Serial: the reply, and what the worker keeps."""
    engine = Serial(lambda worker: rows or table(), {0: memory} if memory else {})
    (reply,) = engine.map(solve, [Job(0, 0, 0, Share(), piece)])
    return reply, engine.memory.get(0, {})


def test_a_hand_written_loop_gives_the_same():
    """Batches as planned, ``torch.optim`` for the steps; the last batch of an epoch is short."""
    model = mlp((5, 4, 3), rng())
    solve = LocalSGD({"": RowLosses(Classes(), model.forward)}, (("*", SGD(0.1, 0.9)),), 5, 2)
    reply, _ = reply_of(solve, model.params)
    plan = solve.plan(12, Job(0, 0, 0, Share(), {}))

    params = {name: t.clone().requires_grad_() for name, t in model.params.items()}
    optimizer = torch.optim.SGD(params.values(), 0.1, 0.9)
    losses = []
    for ids, weights in zip(plan.rows, plan.weights, strict=True):
        batch = table().take(ids[weights > 0])
        loss = F.cross_entropy(model.logits(params, batch, {}), batch["y"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert plan.steps == 6
    assert [int((w > 0).sum()) for w in plan.weights] == [5, 5, 2] * 2
    for name, param in params.items():
        torch.testing.assert_close(reply.piece[name], param.detach(), rtol=1e-5, atol=1e-6)
    assert reply.record.loss_first == pytest.approx(losses[0], rel=1e-5)
    assert reply.record.loss_last == pytest.approx(losses[-1], rel=1e-5)
    assert reply.record.loss_mean == pytest.approx(sum(losses) / 6, rel=1e-5)
    assert (reply.record.steps, reply.record.rows, reply.record.model_version) == (6, 12, 0)


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("terms", [(), (Proximal(0.7),)])
def test_accumulation_equals_one_batch(clip, terms):
    """The penalty too is counted once; pieces of 12 rows in 5 are uneven."""
    model = mlp((5, 4, 3), rng())
    one = LocalSGD(
        {"": RowLosses(Classes(), model.forward)},
        (("*", SGD(0.1, 0.9)),),
        12,
        3,
        clip=clip,
        terms=terms,
    )
    wanted, _ = reply_of(one, model.params)
    found, _ = reply_of(replace(one, accumulate=5), model.params)
    for name in model.params:
        torch.testing.assert_close(found.piece[name], wanted.piece[name], rtol=1e-5, atol=1e-6)
    assert found.record.loss_last == pytest.approx(wanted.record.loss_last, rel=1e-5)


def test_clipping_bounds_the_step():
    """One step of SGD at rate 1 with gradients clipped to 0.01 moves by 0.01."""
    model = linear(5, 3, rng())
    solve = LocalSGD({"": RowLosses(Classes(), model.forward)}, (("*", SGD(1.0)),), 12, clip=0.01)
    reply, _ = reply_of(solve, model.params)
    moved = [(reply.piece[n] - t).square().sum() for n, t in model.params.items()]
    assert float(torch.stack(moved).sum().sqrt()) == pytest.approx(0.01, rel=1e-3)


def test_the_proximal_term_by_hand():
    """0.5 * 3 * (1 + 4 + 9) = 21; it is zero and has no slope where the worker started."""
    origin = {"a": torch.zeros(2), "b": torch.ones(1)}
    params = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([4.0])}
    assert Proximal(3.0)(params, origin).item() == 21.0
    assert Proximal(3.0)(origin, origin).item() == 0.0
    for mu in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="mu >= 0"):
            Proximal(mu)


def test_the_proximal_solution_in_closed_form():
    """Ridge towards the start: (2 X'X / n + mu I) w = 2 X'y / n + mu w0."""
    x = torch.randn(12, 5, generator=rng(), dtype=torch.double)
    y = torch.randn(12, 1, generator=rng(), dtype=torch.double)
    rows = TableRows({"x": x, "y": y}, torch.arange(12))
    start = {"w": torch.ones(1, 5, dtype=torch.double)}
    forward = lambda params, batch, kept: (batch["x"] @ params["w"].T, {})  # noqa: E731

    def squared(params, batch, kept):
        out, after = forward(params, batch, kept)
        return (out - batch["y"]).square().sum(1), after

    mu = 0.5
    solve = LocalSGD({"": squared}, (("*", SGD(0.1)),), 12, 800, terms=(Proximal(mu),))
    reply, _ = reply_of(solve, start, rows)
    left = 2 * x.T @ x / 12 + mu * torch.eye(5, dtype=torch.double)
    right = 2 * x.T @ y / 12 + mu * start["w"].T
    wanted = torch.linalg.solve(left, right).T
    torch.testing.assert_close(reply.piece["w"], wanted, rtol=1e-5, atol=1e-6)


def test_a_proximal_weight_of_zero_changes_nothing():
    """Identity: FedProx with mu = 0 is FedAvg."""
    model = mlp((5, 4, 3), rng())
    plain = LocalSGD({"": RowLosses(Classes(), model.forward)}, (("*", SGD(0.1, 0.9)),), 5, 2)
    wanted, _ = reply_of(plain, model.params)
    found, _ = reply_of(replace(plain, terms=(Proximal(0.0),)), model.params)
    for name in model.params:
        assert torch.equal(found.piece[name], wanted.piece[name])


def test_the_first_rule_that_fits_moves_a_parameter():
    """The hidden layer stands still, the last moves at twice the rate."""
    model = mlp((5, 4, 3), rng())
    losses = {"": RowLosses(Classes(), model.forward)}
    slow = LocalSGD(losses, (("*", SGD(0.1)),), 12)
    mixed = LocalSGD(losses, (("layer1.*", SGD(0.0)), ("layer2.*", SGD(0.2)), ("*", SGD(9.0))), 12)
    one, _ = reply_of(slow, model.params)
    two, _ = reply_of(mixed, model.params)
    for name, old in model.params.items():
        times = 0.0 if name.startswith("layer1") else 2.0
        torch.testing.assert_close(two.piece[name] - old, times * (one.piece[name] - old))
    with pytest.raises(ValueError, match="no optimiser rule fits parameter 'x'"):
        LocalSGD(losses, (("layer*", SGD(0.1)),)).rule("x")


def test_momentum_starts_afresh_unless_carried():
    """Carried: the second job goes on; not carried: it starts like the first."""
    model = linear(5, 3, rng())
    fresh = LocalSGD({"": RowLosses(Classes(), model.forward)}, (("*", SGD(0.1, 0.9)),), 12)
    one, memory = reply_of(fresh, model.params)
    assert memory == {}
    carried = replace(fresh, optimizer_state="keep")
    two, memory = reply_of(carried, model.params)
    assert torch.equal(two.piece["layer1.w"], one.piece["layer1.w"])
    assert set(memory) == {"velocity"}
    again, _ = reply_of(carried, model.params, memory=memory)
    moved, first = (r.piece["layer1.w"] - model.params["layer1.w"] for r in (again, one))
    # The gradient at the same place, plus 0.9 of the velocity that was kept.
    torch.testing.assert_close(moved, first * 1.9, rtol=1e-4, atol=1e-6)


def test_carried_memory_does_not_fit_a_part_that_changes():
    model = mlp((5, 4, 3), rng())
    solve = LocalSGD(
        {"": RowLosses(Classes(), model.forward)}, (("*", Adam(0.1)),), optimizer_state="keep"
    )
    part = Part({"h1": torch.tensor([0, 2])})
    with pytest.raises(ValueError, match=r"cut along \['h1'\]; use 'reset' or 'send'"):
        solve.start(Job(0, 0, 3, Share(part), {}), {})


def test_what_is_a_workers_own_stays_with_it():
    model = mlp((5, 4, 3), rng())
    own = {name: model.params[name] for name in ("layer2.w", "layer2.b")}
    shared = {name: model.params[name] for name in ("layer1.w", "layer1.b")}
    solve = LocalSGD({"": RowLosses(Classes(), model.forward)}, (("*", SGD(0.1)),), 12, own=own)
    reply, memory = reply_of(solve, shared)
    assert set(reply.piece) == set(shared)
    assert set(memory["own"]) == set(own)
    assert not torch.equal(memory["own"]["layer2.w"], own["layer2.w"])
    whole, _ = reply_of(replace(solve, own={}), model.params)
    assert torch.equal(memory["own"]["layer2.w"], whole.piece["layer2.w"])
    again, _ = reply_of(solve, reply.piece, memory=memory)
    wanted, _ = reply_of(replace(solve, own={}), whole.piece)
    assert torch.equal(again.piece["layer1.w"], wanted.piece["layer1.w"])


def test_frozen_values_travel_and_do_not_move():
    model = mlp((5, 4, 3), rng())
    solve = LocalSGD(
        {"": RowLosses(Classes(), model.forward)},
        (("*", SGD(0.1)),),
        frozen=frozenset({"layer1.w"}),
    )
    reply, _ = reply_of(solve, model.params)
    assert torch.equal(reply.piece["layer1.w"], model.params["layer1.w"])
    assert not torch.equal(reply.piece["layer1.b"], model.params["layer1.b"])


def test_bfloat16_stays_near_float32():
    """Losses agree to bfloat16's 8 bits, parameters stay float32, and the path is not the same."""
    model = mlp((5, 16, 3), rng())
    plain = LocalSGD({"": RowLosses(Classes(), model.forward)}, (("*", SGD(0.1)),), 4, 3)
    wanted, _ = reply_of(plain, model.params)
    found, _ = reply_of(replace(plain, bfloat16=True), model.params)
    assert found.record.loss_last == pytest.approx(wanted.record.loss_last, rel=2e-2)
    assert found.record.loss_last != wanted.record.loss_last
    for name, tensor in wanted.piece.items():
        assert found.piece[name].dtype == torch.float32
        torch.testing.assert_close(found.piece[name], tensor, rtol=0, atol=5e-3)


def test_setting_out_makes_one_step_and_reads_the_rest():
    """What a plan times of a job besides its later steps: the very first step of the engine."""
    model = mlp((5, 4, 3), rng())
    solve = LocalSGD({"": RowLosses(Classes(), model.forward)}, (("*", SGD(0.1)),), 4, 2)
    read: list[Any] = []
    job = Job(0, 0, 0, Share(), model.params)

    def noted():
        for step in read_batches(table(), solve.plan(12, job), draws_noise=False):
            read.append(step)
            yield step

    after, losses = run_first_step(solve, solve.start(job, {}), noted(), "")
    wanted, _ = run_steps_in_place(solve, solve.start(job, {}), iter(read[:1]), "")
    assert len(read) == 6
    assert losses is not None
    assert len(losses) == 1
    assert all(torch.equal(after["params"][n], t) for n, t in wanted["params"].items())
    assert not torch.equal(after["params"]["layer1.w"], model.params["layer1.w"])
