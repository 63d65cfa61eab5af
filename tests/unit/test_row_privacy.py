"""Private descent: what one row moves, what noise there is, and opacus as the referee."""

import math
from dataclasses import replace

import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from moiety.core.rows import TableRows
from moiety.core.state import Job, Share
from moiety.core.streams import stream
from moiety.engine.serial import Serial
from moiety.methods import METHODS
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.models.module import from_module
from moiety.models.normed import normed
from moiety.privacy.config import PrivacyConfig
from moiety.privacy.rows import apply_row_privacy, count_epochs
from moiety.solve.private import PrivateDescent

CLIP, ROWS, KEY = 0.3, 6, bytes(range(32))


def make_solver(net, noise: float, **local) -> PrivateDescent:
    """Make the solver of FedAvg: one step on all rows, momentum off."""
    training = LocalTraining(**{"lr": 1.0, "momentum": 0.0, "batch": ROWS, **local})
    method = METHODS["fedavg"].make(Task(net, training, workers=1, classes=3))
    private = apply_row_privacy(method, PrivacyConfig(row_clip=CLIP, row_noise=noise or 1e-30))
    assert isinstance(private.solve, PrivateDescent)
    return replace(private.solve, noise=noise, key=KEY)


def draw_rows(seed: int, rows: int = ROWS) -> TableRows:
    rng = stream(seed, "rows")
    x = torch.randn(rows, 4, generator=rng) * torch.logspace(-2, 1, rows)[:, None]
    y = torch.randint(3, (rows,), generator=rng)
    return TableRows({"x": x, "y": y}, torch.arange(rows))


def move(solve, net, rows) -> dict[str, torch.Tensor]:
    """Give the sum of gradients of one step of size 1, times the number of rows."""
    job = Job(0, 0, 0, Share(), dict(net.params))
    (reply,) = Serial({0: rows}.__getitem__).map(solve, [job])
    assert math.isnan(reply.record.loss_mean)
    return {n: rows.size * (t - reply.piece[n]) for n, t in net.params.items()}


def norm(tree) -> float:
    return float(torch.stack([t.double().square().sum() for t in tree.values()]).sum().sqrt())


def test_a_step_is_that_of_opacus_with_the_noise_off():
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    with torch.no_grad():
        for place, tensor in enumerate(module.parameters()):
            tensor.copy_(torch.randn(tensor.shape, generator=stream(place, "first")))
    rows = draw_rows(1)
    net = from_module(module)
    ours = move(make_solver(net, 0.0), net, rows)
    sampled = GradSampleModule(module)
    plain = torch.optim.SGD(sampled.parameters(), 1.0)
    optimizer = DPOptimizer(
        plain, noise_multiplier=0.0, max_grad_norm=CLIP, expected_batch_size=ROWS
    )
    batch = rows.take(torch.arange(ROWS))
    x = batch["x"].requires_grad_()  # or a hook of torch warns
    nn.functional.cross_entropy(sampled(x), batch["y"]).backward()
    before = [p.detach().clone() for p in sampled.parameters()]
    optimizer.step()
    theirs = [ROWS * (b - p.detach()) for b, p in zip(before, sampled.parameters(), strict=True)]
    assert len(theirs) == len(ours)
    for mine, other in zip(ours.values(), theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_one_row_moves_a_step_by_the_clip_at_most():
    """Worlds that differ in one row: with it, and with one of another kind in its place."""
    net = mlp((4, 5, 3), stream(3, "net"))
    rows, solve = draw_rows(2), make_solver(net, 0.0)
    here, most = move(solve, net, rows), 0.0
    for place in range(ROWS):
        x, y = rows.table["x"].clone(), rows.table["y"].clone()
        x[place], y[place] = 40 * torch.randn(4, generator=stream(place, "other")), 2 - y[place]
        other = move(solve, net, TableRows({"x": x, "y": y}, torch.arange(ROWS)))
        apart = norm({n: t - other[n] for n, t in here.items()})
        assert apart <= 2 * CLIP * (1 + 1e-4)
        most = max(most, apart)
    assert most > CLIP


def test_the_noise_of_a_step_has_the_variance_that_is_said_and_is_of_the_job_alone():
    net = mlp((4, 2000, 3), stream(3, "net"))
    rows = draw_rows(2)
    quiet, loud = (move(make_solver(net, noise), net, rows) for noise in (0.0, 2.0))
    drawn = torch.cat([(loud[n] - t).flatten() for n, t in quiet.items()]).double()
    drawn = drawn / (2.0 * CLIP)
    assert float(drawn.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / len(drawn)))
    again = move(make_solver(net, 2.0), net, rows)
    assert all(torch.equal(again[n], t) for n, t in loud.items())
    moved = mlp((4, 2000, 3), stream(4, "net"))
    other = move(make_solver(moved, 2.0), moved, rows)
    gap = torch.cat([(other[n] - t).flatten() for n, t in loud.items()])
    assert float(gap.std()) > 2.0 * CLIP


def test_every_step_has_noise_of_its_own_also_a_short_one():
    """Of 4 rows in batches of 3 the last step has one, which counts whole: 1/9 and 1 add up."""
    net = mlp((4, 2000, 3), stream(3, "net"))
    moved = move(make_solver(net, 200.0, batch=3), net, draw_rows(2, rows=4))
    drawn = torch.cat([t.flatten() for t in moved.values()]).double() / (4 * 200.0 * CLIP)
    assert float(drawn.var()) == pytest.approx(10 / 9, abs=4 * math.sqrt(2 / len(drawn)) * 10 / 9)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_short_batches_and_pieces_of_a_batch_change_no_sum(accumulate):
    """Of 5 rows in batches of 3, the second has 2, each of which counts more, as has the noise."""
    net = mlp((4, 5, 3), stream(3, "net"))
    rows = draw_rows(5, rows=5)
    job = Job(0, 0, 0, Share(), dict(net.params))
    solve = make_solver(net, 0.0, batch=3, lr=1e-3, accumulate=accumulate)
    (reply,) = Serial({0: rows}.__getitem__).map(solve, [job])
    plan, params = solve.plan(5, job), dict(net.params)
    for ids, weights in zip(plan.rows, plan.weights, strict=True):
        total = {n: torch.zeros_like(t) for n, t in params.items()}
        for row, weight in zip(ids, weights, strict=True):
            leaves = {n: t.clone().requires_grad_() for n, t in params.items()}
            batch = rows.take(row[None])
            out = net.logits(leaves, batch, {})
            loss = nn.functional.cross_entropy(out, batch["y"])
            grads = torch.autograd.grad(loss, list(leaves.values()))
            slope = dict(zip(leaves, grads, strict=True))
            share = weight * min(1.0, CLIP / norm(slope))
            total = {n: t + share * slope[n] for n, t in total.items()}
        params = {n: t - 1e-3 * total[n] for n, t in params.items()}
    assert all(torch.allclose(reply.piece[n], t, atol=1e-7) for n, t in params.items())


def make_method(name: str, net, **local):
    return METHODS[name].make(Task(net, LocalTraining(**local), workers=4, classes=3))


def test_rows_that_a_step_does_not_keep_apart_are_refused():
    config, net = PrivacyConfig(row_clip=1.0, row_noise=1.0), mlp((4, 5, 3), stream(0, "net"))
    whole = normed((4, 5, 3), stream(0, "net"))
    dropping = from_module(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)))
    for method, words in (
        (make_method("fedavg", whole), "--net mlp"),
        (make_method("fedavg", dropping), "dropout"),
        (make_method("fedavg", net, epochs=0, steps=3), "local.epochs"),
        (make_method("fisher", net), "sums over their rows"),
    ):
        with pytest.raises(ValueError, match=words):
            apply_row_privacy(method, config)
    made = apply_row_privacy(make_method("fedprox", net, epochs=3), config)
    assert count_epochs(made) == 3
