"""SCAFFOLD by hand: least squares in one dimension, gradients that are known."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from moiety.core.rows import TableRows
from moiety.core.streams import stream
from moiety.engine.serial import Serial
from moiety.methods.demo import make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.scaffold import scaffold
from moiety.methods.task import LocalTraining, Task
from moiety.ops.optim import SGD
from moiety.rounds.asynchronous import AsynchronousRounds, Concurrency
from moiety.rounds.schedule import Schedule, Speeds
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.solve.control import CONTROL, measure_reach
from moiety.tasks.numbers import Numbers


@dataclass(frozen=True)
class Point:
    """A model that is one number, whatever the row; its loss at a row y is (x - y)^2."""

    params: dict
    axes: dict = field(default_factory=dict)
    buffers: dict = field(default_factory=dict)
    draws_noise = uses_batch_statistics = False

    def forward(self, params, batch, kept):
        return params["x"].expand(len(batch["y"]), 1), {}

    logits = forward


def pull(targets, *, population=0, **local):
    """Workers who pull to one target each, by full steps of rate 1/8: gradients are 2 (x - y)."""
    data = {
        worker: TableRows({"y": torch.tensor([[target]])}, torch.tensor([0]))
        for worker, target in enumerate(targets)
    }
    given = {"lr": 0.125, "momentum": 0.0, "epochs": 0, "steps": 2, **local}
    point: Any = Point({"x": torch.zeros(1)})
    task = Task(
        point,
        LocalTraining(**given),
        objective=Numbers(("x",)),
        population=population or len(targets),
    )
    return task, Serial(data.__getitem__)


def test_two_workers_by_hand():
    """Targets 0 and 8, x = 4, K = 2, lr = 1/8.

    Round 1, all control variates 0: worker 0 goes 4, 3, 9/4; its c_0 is (4 - 9/4) / (2 / 8) = 7.
    Worker 1 goes 4, 5, 23/4, so c_1 = -7. x stays 4, and c is their mean, 0. Round 2: worker 0
    descends along 2 x - 7: 8 - 7 = 1, then 31/4 - 7 = 3/4, and ends at 4 - 7/32; by symmetry
    worker 1 at 4 + 7/32. c_0 becomes 7 - 0 + (7/32) / (1/4) = 63/8.
    """
    task, engine = pull([0.0, 8.0])
    method = scaffold(replace(task, start={"x": torch.tensor([4.0])}))
    one = play_round(method, engine, initialise_state(method), [0, 1], 0)
    assert engine.memory[0][CONTROL]["x"].tolist() == [7.0]
    assert engine.memory[1][CONTROL]["x"].tolist() == [-7.0]
    assert one.params["x"].tolist() == [4.0]
    assert one.optimizer_state[CONTROL]["x"].tolist() == [0.0]
    jobs = list(make_jobs(method, one, [0, 1], {}, 0))
    pieces = [reply.piece["x"].item() for reply in engine.map(method.solve, jobs)]
    assert pieces == [4 - 7 / 32, 4 + 7 / 32]
    assert engine.memory[0][CONTROL]["x"].tolist() == [63 / 8]


def test_one_of_four_moves_the_servers_by_a_quarter():
    """From x = 0, worker 2 of target 8: gradients -16 and -12, so c_2 = -14 and c = -14 / 4."""
    task, engine = pull([0.0, 0.0, 8.0, 0.0])
    method = scaffold(task)
    state = play_round(method, engine, initialise_state(method), [2], 0)
    assert state.params["x"].tolist() == [3.5]
    assert state.optimizer_state[CONTROL]["x"].tolist() == [-3.5]


@pytest.mark.parametrize("rounds", [1, 3])
def test_one_worker_and_one_step_is_sgd(rounds):
    task, engine = pull([8.0], steps=1)
    method, plain = scaffold(task), fedavg(task)
    one, two = initialise_state(method), initialise_state(plain)
    for _ in range(rounds):
        one, two = play_round(method, engine, one, [0], 0), play_round(plain, engine, two, [0], 0)
    assert torch.equal(one.params["x"], two.params["x"])


@pytest.mark.parametrize("schedule", [None, *(
    Schedule("buffered", 2, rate=rate, change=change, speeds=Speeds("levels", (1.0, 5.0)))
    for rate, change in ((1.0, True), (0.5, False))
)])  # fmt: skip
def test_the_servers_is_the_mean_of_the_workers(schedule):
    """After rounds of some workers, in step or late: or an error in it would stay for ever."""
    task, data = make_two_class_workers(stream(0, "demo"))
    method, engine = scaffold(replace(task, population=6)), Serial(data.__getitem__)
    state = initialise_state(method)
    for cohort in ([0, 1, 2, 3], [4], [1, 5], [0, 2, 4, 5], [3, 4]):
        if schedule is None:
            state = play_round(method, engine, state, cohort, 0)
        else:
            rounds = AsynchronousRounds(method, engine, Concurrency(6, 3), 0, schedule)
            state = rounds.advance(state)[0]
    for name, told in state.optimizer_state[CONTROL].items():
        kept = [own[CONTROL][name] for own in engine.memory.values()]
        torch.testing.assert_close(told, torch.stack(kept).sum(0) / 6, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_reach_is_how_far_torch_goes(nesterov):
    """On a slope of 1, with rates that change."""
    rates = torch.tensor([1.0, 0.5, 0.25])
    point = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([point], lr=0.3, momentum=0.9, nesterov=nesterov)
    for rate in rates.tolist():
        optimizer.param_groups[0]["lr"] = 0.3 * rate
        point.grad = torch.ones(1)
        optimizer.step()
    assert measure_reach(SGD(0.3, 0.9, nesterov), rates) == pytest.approx(-point.item())


@pytest.mark.parametrize(
    ("local", "population", "told"),
    [
        ({"optimizer": "adamw"}, 2, "optimizer='adamw'"),
        ({"optimizer_state": "send"}, 2, "optimizer_state='send'"),
        ({"by_rows": True}, 2, "by_rows=True"),
        ({}, 0, "population=0"),
    ],
)
def test_what_it_cannot_read_is_refused(local, population, told):
    task, _ = pull([0.0, 1.0], **local)
    with pytest.raises(ValueError, match=told):
        scaffold(replace(task, population=population))
