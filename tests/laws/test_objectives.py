"""What every method owes with every objective: it learns, and every engine agrees with serial."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from moiety.core.rows import TableRows, TransformedRows
from moiety.core.stage import Stage
from moiety.core.streams import stream
from moiety.engine.choose import make_engine
from moiety.engine.collective import Collective
from moiety.engine.serial import Serial
from moiety.methods import METHODS
from moiety.methods.demo import make_two_class_workers
from moiety.methods.task import LocalTraining, Task
from moiety.models.gated import common_expert
from moiety.models.mlp import mlp
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.run.evaluate import evaluate_groups
from moiety.run.same_ranks import scatter_pieces
from moiety.tasks.labels import Labels
from moiety.tasks.numbers import Numbers
from moiety.tasks.own import OwnLoss


def make_target(kind, x):
    """Give a target of each row, and its objective."""
    two = torch.stack([x[:, 0] - x[:, 1], x[:, 2] * 2], 1) * 10 + 50
    if kind == "labels":
        return (two > 50).float(), Labels(("a", "b"))
    if kind == "own":
        return two / 10, OwnLoss(nn.SmoothL1Loss(), ("a", "b"))
    if kind == "function":
        return two / 10, OwnLoss(lambda out, y: (out - y).square().mean(), ("a", "b"))
    return two, Numbers(("a", "b"), kind).fit(two)


def make_problem(kind):
    rng = stream(0, "objectives")
    x = torch.randn(180, 8, generator=rng)
    y, objective = make_target(kind, x)
    table = {"x": x, "y": y}
    data = {w: TableRows(table, torch.arange(w, 180, 6)) for w in range(6)}
    net = mlp((8, 24, 2), rng)
    task = Task(
        net, LocalTraining(lr=0.05, batch=16, epochs=2), rounds=8, workers=6, objective=objective,
        common=common_expert(net, net.params, x), anchors={0: 0, 1: 1},
    )  # fmt: skip
    return task, data


def play(task, data, name, engine):
    options = {"experts": 3} if name == "ddome" else {}
    method = METHODS[name].make(task, **options)
    open_rows = data.__getitem__
    if method.transform is not None:
        open_rows = TransformedRows(open_rows, method.transform)
    made = make_engine(engine, open_rows)
    begun = state = initialise_state(method)
    for _ in range(8):
        state = play_round(method, made, state, cohort=range(6), seed=0)
    made.close()
    groups = {"seen": {w: open_rows(w) for w in data}}
    metric = task.objective.metrics[0]
    values = [
        evaluate_groups(method, one, {}, groups).groups["seen"].metrics[metric.name]
        for one in (begun, state)
    ]
    return state.params, [sum(one) * (1 if metric.higher_is_better else -1) for one in values]


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "ddome", "ist"])
@pytest.mark.parametrize("kind", ["squared", "huber", "labels", "own", "function"])
def test_every_engine_agrees(kind, name):
    task, data = make_problem(kind)
    wanted, _ = play(task, data, name, "serial")
    for engine in ("vectorized", "pool"):
        found, _ = play(task, data, name, engine)
        for key, tensor in wanted.items():
            torch.testing.assert_close(
                found[key], tensor, rtol=1e-3, atol=1e-4, msg=f"{engine} {key}"
            )


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "ddome"])
@pytest.mark.parametrize("kind", ["squared", "huber", "labels", "own", "function"])
def test_the_metric_gets_better(kind, name):
    """Not ``ist`` on a plain network: its whole adds up units that were trained apart."""
    before, after = play(*make_problem(kind), name, "serial")[1]
    assert after > before


def test_a_method_that_needs_classes_refuses_numbers():
    task, _ = make_problem("squared")
    with pytest.raises(ValueError, match="dmoe fits one number by normal regressions"):
        METHODS["dmoe"].make(replace(task, shape=(8,), classes=2))


def test_what_is_no_objective_is_refused():
    task, _ = make_two_class_workers(stream(0, "demo"))
    with pytest.raises(TypeError, match=r"give a value of moiety\.tasks"):
        Task(task.model, objective=nn.MSELoss())  # pyright: ignore[reportArgumentType]


def test_two_ranks_agree_with_serial_bit_for_bit(spawned):
    """One spawn for all kinds; workers keep the optimiser's memory, and a rank is idle at times."""

    def end(task, name, make):
        options = {"experts": 3} if name == "ddome" else {}
        method = METHODS[name].make(task, **options)
        engine, method = make(method)
        state = initialise_state(method)
        for cohort in ((0, 1, 2, 3), (4,), (5, 0)):
            state = play_round(method, engine, state, cohort=cohort, seed=0)
        return state.params

    def job(ranks):
        wrong = []
        for kind in ("squared", "labels", "own", "function"):
            task, data = make_problem(kind)
            task = replace(task, local=replace(task.local, optimizer_state="send"))
            for name in ("fedavg", "ddome", "ist"):

                def open_for(method, data=data):
                    rows = data.__getitem__
                    through = method.transform
                    return rows if through is None else TransformedRows(rows, through)

                def scatter(method, open_for=open_for):
                    made = Collective(open_for(method), ranks=ranks)
                    engine, stages = scatter_pieces(made, [Stage(method, 3)])
                    return engine, stages[0].method

                two = end(task, name, scatter)
                one = end(task, name, lambda m, open_for=open_for: (Serial(open_for(m)), m))
                wrong += [f"{kind} {name} {k}" for k in one if not torch.equal(one[k], two[k])]
        return wrong

    assert spawned(2, job) == [[], []]
