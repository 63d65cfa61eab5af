"""Any module as a model."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from moiety.core.axes import Along, Part, take_piece
from moiety.core.errors import WorkerError
from moiety.core.rows import TableRows
from moiety.core.state import Job, Reply, Share
from moiety.engine.choose import make_engine
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.methods.demo import make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.fedper import fedper
from moiety.methods.ist import ist
from moiety.methods.task import LocalTraining, Task
from moiety.models.module import from_module
from moiety.ops.optim import SGD
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.serve.config import rebuild_model
from moiety.solve.sgd import LocalSGD
from moiety.tasks.classes import Classes
from moiety.tasks.objectives import RowLosses

SIZES = (12, 13, 7, 9, 12)


def drawn(module: nn.Module, **choices):
    """Make a model with addressed first values."""
    model = from_module(module, **choices)
    return replace(model, params=model.redraw(torch.Generator().manual_seed(0)))


def people(shape=(6,), whole=False) -> dict[int, TableRows]:
    """Give five workers rows of unequal numbers."""
    data = {}
    for worker, size in enumerate(SIZES):
        rng = torch.Generator().manual_seed(worker)
        if whole:
            x = torch.randint(7, (size, *shape), generator=rng)
        else:
            x = torch.randn(size, *shape, generator=rng) + worker
        data[worker] = TableRows({"x": x, "y": torch.arange(size) % 3}, torch.arange(size))
    return data


def run(engine, model, rounds: int = 2, local: LocalTraining | None = None):
    method = fedavg(Task(model, local or LocalTraining(lr=0.1, batch=4, epochs=2)))
    state = initialise_state(method)
    for _ in range(rounds):
        state = play_round(method, engine, state, range(5), 0)
    return state


def net_of(name: str):
    """Give a module, the shape of its rows, and whether they are whole numbers."""
    flat = (6,)
    return {
        "linear": (nn.Linear(6, 3), flat, False),
        "conv": (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
            (1, 4, 4),
            False,
        ),
        "groupnorm": (
            nn.Sequential(nn.Linear(6, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, 3)),
            flat,
            False,
        ),
        "layernorm": (
            nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)), flat, False
        ),
        "embedding": (
            nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3)), (5,), True
        ),
        "batchnorm": (
            nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                nn.Linear(16, 5), nn.BatchNorm1d(5), nn.Linear(5, 3),
            ),
            (1, 4, 4),
            False,
        ),
    }[name]  # fmt: skip


NETS = ("linear", "conv", "groupnorm", "layernorm", "embedding", "batchnorm")


def close(found, wanted, tolerance):
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NETS)
def test_modules_agree_on_every_engine(name):
    """Unequal sizes, ragged last batches; a batch of one row would be refused by batch norm."""
    module, shape, whole = net_of(name)
    model, data = drawn(module), people(shape, whole)
    local = LocalTraining(lr=0.02, batch=5 if name == "batchnorm" else 4, epochs=2)
    wanted = run(Serial(data.__getitem__), model, local=local)
    assert not torch.equal(
        wanted.params[next(iter(model.params))], model.params[next(iter(model.params))]
    )
    close(run(Vectorized(data.__getitem__), model, local=local).params, wanted.params, 1e-5)
    pool = Pool(data.__getitem__, processes=2)
    try:
        close(run(pool, model, local=local).params, wanted.params, 0)
    finally:
        pool.close()


def test_local_training_is_torchs_own_with_running_statistics():
    """One worker, one epoch: a plain loop over the module in training mode."""
    module, shape, _ = net_of("batchnorm")
    model, rows = drawn(module), people(shape)[0]
    solve = LocalSGD(
        {"": RowLosses(Classes(), model.forward)}, (("*", SGD(0.1, 0.9)),), 5, 2,
        frozen=frozenset(model.buffers), uses_batch_statistics=True,
    )  # fmt: skip
    job = Job(0, 0, 0, Share(), model.params)
    (reply,) = Serial(lambda worker: rows).map(solve, [job])
    net, _, _ = net_of("batchnorm")
    net.load_state_dict(dict(model.params))
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9)
    plan = solve.plan(rows.size, job)
    for ids, weights in zip(plan.rows, plan.weights, strict=True):
        batch = rows.take(ids[weights > 0])
        optimizer.zero_grad()
        F.cross_entropy(net(batch["x"]), batch["y"]).backward()
        optimizer.step()
    close(reply.piece, net.state_dict(), 1e-5)
    assert reply.piece["1.num_batches_tracked"].item() == plan.steps == 6


def test_evaluation_uses_running_statistics_and_leaves_the_module():
    module, shape, _ = net_of("batchnorm")
    before = {n: t.clone() for n, t in module.state_dict().items()}
    model = drawn(module)
    batch = people(shape)[1].take(torch.arange(8))
    alone = model.logits(model.params, {"x": batch["x"][:1]}, {})
    torch.testing.assert_close(model.logits(model.params, batch, {})[:1], alone)
    out, after = model.forward(model.params, batch, {})
    assert not torch.allclose(out[:1], alone)
    assert set(after) == set(model.buffers)
    assert after["1.num_batches_tracked"].item() == 1
    assert model.params["1.num_batches_tracked"].item() == 0
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(("rule", "mean", "count"), [("mean", 3.0, 3), ("keep", 0.0, 0)])
def test_buffers_merge_by_their_rule(rule, mean, count):
    """Means of 1, 5 and 3 give 3; counters 2, 3 and 3 average to 2.67 and round to 3."""
    model = from_module(nn.BatchNorm1d(1), buffers=rule)
    method = fedavg(Task(model))
    replies = []
    for worker, (m, n) in enumerate([(1.0, 2), (5.0, 3), (3.0, 3)]):
        told = {"running_mean": torch.tensor([m]), "num_batches_tracked": torch.tensor(n)}
        replies.append(Reply(worker, Share(), {**model.params, **told}))
    after = commit_replies(method, initialise_state(method), replies).params
    assert after["running_mean"].tolist() == [mean]
    assert after["num_batches_tracked"].item() == count
    assert after["num_batches_tracked"].dtype == torch.int64


def test_buffers_may_have_a_rule_each():
    rules = {"running_mean": "mean", "running_var": "keep", "num_batches_tracked": "keep"}
    assert from_module(nn.BatchNorm1d(1), buffers=rules).buffers == rules
    with pytest.raises(ValueError, match="'mean' or 'keep'"):
        from_module(nn.BatchNorm1d(1), buffers="sum")
    with pytest.raises(ValueError, match="'mean' or 'keep'"):
        from_module(nn.BatchNorm1d(1), buffers={"running_mean": "mean"})


def test_dropout_draws_from_its_steps_address():
    """Equal bits on Serial, Pool and again; other rounds draw otherwise; no global draw."""
    net = nn.Sequential(nn.Linear(6, 20), nn.Dropout(0.5), nn.Linear(20, 3))
    model, data = drawn(net), people()
    assert model.draws_noise
    torch.manual_seed(5)
    mark = torch.get_rng_state()
    wanted = run(Serial(data.__getitem__), model)
    assert torch.equal(torch.get_rng_state(), mark)
    torch.manual_seed(6)
    pool = Pool(data.__getitem__, processes=2)
    try:
        close(run(pool, model).params, wanted.params, 0)
    finally:
        pool.close()
    close(run(Vectorized(data.__getitem__), model).params, wanted.params, 1e-5)
    batch = data[0].take(torch.arange(4))
    one, two = (
        model.forward(model.params, {**batch, "seed": torch.tensor(s)}, {})[0] for s in (1, 2)
    )
    assert not torch.equal(one, two)
    still = [model.logits(model.params, {**batch, "seed": torch.tensor(s)}, {}) for s in (1, 2)]
    assert torch.equal(*still)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(0.1), nn.Dropout2d(0.1), nn.AlphaDropout(0.1), nn.FeatureAlphaDropout(0.1),
        nn.RReLU(), nn.MultiheadAttention(4, 2, dropout=0.1), nn.LSTM(4, 4, 2, dropout=0.1),
        nn.TransformerEncoderLayer(4, 2, dropout=0.1),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_layers_that_draw_are_known(layer):
    assert from_module(nn.Sequential(layer)).draws_noise


@pytest.mark.parametrize("layer", [nn.Dropout(0.0), nn.Linear(2, 2), nn.GRU(2, 2)])
def test_layers_that_do_not_draw_are_not(layer):
    assert not from_module(nn.Sequential(layer)).draws_noise


REFUSED = {
    "LayerNorm": (nn.LayerNorm(4), "weight", 1),
    "RMSNorm": (nn.RMSNorm(4), "weight", 1),
    "MultiheadAttention": (nn.MultiheadAttention(4, 2), "in_proj_weight", 2),
    "GRU": (nn.GRU(4, 4), "weight_hh_l0", 2),
    "LSTM": (nn.LSTM(4, 4), "bias_ih_l0", 1),
    "LSTMCell": (nn.LSTMCell(4, 4), "weight_hh", 2),
    "TransformerEncoderLayer": (nn.TransformerEncoderLayer(4, 2, 8), "linear1.weight", 2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_refuse_slices_are_named_with_the_way_out(name):
    layer, weight, dims = REFUSED[name]
    net = nn.Sequential(nn.Linear(4, 4), layer)
    entries = ("wide",) + (None,) * (dims - 1)
    with pytest.raises(ValueError, match=r"torch\.nn\.functional") as caught:
        from_module(net, {f"1.{weight}": entries})
    assert f"layer '1' is a {name}" in str(caught.value)
    assert f"'1.{weight}'" in str(caught.value)
    assert "Leave it whole" in str(caught.value)
    rest = {"0.weight": ("h", None), "0.bias": ("h",)}
    whole = from_module(net, {f"1.{weight}": (None,) * dims, **rest})
    assert whole.axes["0.weight"] == ("h", None)


def test_axes_must_fit():
    with pytest.raises(ValueError, match="no such parameter"):
        from_module(nn.Linear(4, 4), {"weigth": ("h", None)})
    with pytest.raises(ValueError, match="axis 'h' has length"):
        from_module(nn.Linear(4, 3), {"weight": ("h", "h")})


MLP = {"0.weight": ("h", None), "0.bias": ("h",), "2.weight": (None, "h")}


@pytest.mark.parametrize(("net", "axes", "said"), [
    (nn.Linear(6, 4), {"weight": ("h", None)}, "['weight', 'bias'] are one, the outputs of a Lin"),
    (nn.Linear(6, 4), {"bias": ("h",)}, "'bias': ('h',)}; name the same axis for each"),
    (nn.Conv2d(3, 4, 3), {"weight": ("c", None, None, None)}, "of a Conv2d"),
    (nn.BatchNorm1d(4), {"weight": ("h",), "bias": ("h",)}, "'running_mean': (None,)"),
    (nn.Linear(6, 4), {"weight": ("h", None), "bias": (Along("g", 2),)}, "name the same axis"),
])  # fmt: skip
def test_a_bias_lies_along_the_outputs_of_its_layer(net, axes, said):
    with pytest.raises(ValueError, match="the first dims of") as caught:
        from_module(net, axes)
    assert said in str(caught.value)


def test_tied_weights_and_layers_without_a_bias_may_be_cut():
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    axes = {"0.weight": ("h", "i"), "0.bias": ("h",), "1.bias": ("h",)}
    assert from_module(tied, axes).axes == axes
    assert from_module(nn.Linear(4, 4, bias=False), {"weight": ("h", None)}).axes


@pytest.mark.parametrize("engine", ["serial", "vectorized"])
def test_an_axis_that_misses_the_next_layer_is_told_at_the_first_step(engine):
    """Only running a piece shows that the inputs of layer 2 are the outputs of layer 0."""
    axes = {name: entries for name, entries in MLP.items() if name != "2.weight"}
    model = from_module(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), axes)
    method = ist(Task(model, LocalTraining(batch=4), workers=5))
    with pytest.raises(
        WorkerError, match=r"worker \d, round 1, step 0: .*run on a piece"
    ) as caught:
        play_round(
            method, make_engine(engine, people().__getitem__), initialise_state(method), range(5), 0
        )
    told = "['0.weight', '0.bias'] are cut, ['2.weight', '2.bias'] are not; name in axes every dim"
    assert told in str(caught.value)


def test_an_error_of_the_whole_is_told_as_it_is():
    model = from_module(nn.Linear(6, 4))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        model.logits(model.params, {"x": torch.zeros(2, 5)}, {})


def test_pieces_of_a_module_run():
    """Two linear layers cut along the hidden axis are the masked whole."""
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    model = drawn(net, axes=MLP)
    part = Part({"h": torch.tensor([1, 4])})
    x = people()[0].take(torch.arange(5))["x"]
    found = model.logits(take_piece(model.params, model.axes, part), {"x": x}, {})
    hidden = F.relu(x @ model.params["0.weight"].T + model.params["0.bias"])
    hidden[:, [0, 2, 3]] = 0
    torch.testing.assert_close(found, hidden @ model.params["2.weight"].T + model.params["2.bias"])


class Tied(nn.Module):
    """Reads and writes through one table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x):
        return self.out(self.table(x).mean(1))


def test_tied_weights_are_one_parameter_with_both_gradients():
    model = from_module(Tied())
    assert set(model.params) == {"table.weight"}
    weight = model.params["table.weight"].clone().requires_grad_()
    x = torch.tensor([[0, 1], [2, 2]])
    out = model.logits({"table.weight": weight}, {"x": x}, {})
    wanted = F.embedding(x, weight).mean(1) @ weight.T
    torch.testing.assert_close(out, wanted)
    found, right = (torch.autograd.grad(t.square().sum(), weight)[0] for t in (out, wanted))
    torch.testing.assert_close(found, right)
    data = people((2,), whole=True)
    serial, stacked = (run(e(data.__getitem__), model).params for e in (Serial, Vectorized))
    close(stacked, serial, 1e-5)


def test_features_are_what_the_last_linear_layer_reads():
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    model = drawn(net)
    x = people()[0].take(torch.arange(5))["x"]
    wanted = F.relu(x @ model.params["0.weight"].T + model.params["0.bias"])
    torch.testing.assert_close(model.features(model.params, {"x": x}), wanted)
    assert not net[2]._forward_pre_hooks
    with pytest.raises(ValueError, match="no linear layer"):
        from_module(nn.Conv2d(1, 1, 1)).features({}, {"x": torch.zeros(1)})


def test_a_call_of_ones_own():
    net = nn.Linear(6, 3)
    model = from_module(net, call=lambda module, batch: module(batch["x"]) * batch["scale"])
    batch = {"x": torch.ones(2, 6), "scale": torch.tensor(2.0)}
    plain = from_module(net).logits(model.params, batch, {})
    torch.testing.assert_close(model.logits(model.params, batch, {}), 2 * plain)


def test_redrawing_is_addressed_and_touches_nothing():
    module, _, _ = net_of("batchnorm")
    before = {n: t.clone() for n, t in module.state_dict().items()}
    model, mark = from_module(module), torch.get_rng_state()
    one, same, other = (model.redraw(torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), mark)
    close(same, one, 0)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert set(one) == set(model.params)
    close(dict(module.state_dict()), before, 0)


def test_a_saved_module_must_be_given_again():
    model = from_module(nn.Linear(2, 2))
    assert rebuild_model(model.config(), model) is model
    with pytest.raises(ValueError, match="your module 'Linear'; give it again"):
        rebuild_model(model.config())


def test_layers_that_are_frozen_stay_as_they_are():
    first = nn.Linear(8, 6)
    net = nn.Sequential(first, nn.ReLU(), nn.Linear(6, 6))
    net[0].requires_grad_(requires_grad=False)
    model = from_module(net)
    task, data = make_two_class_workers(torch.Generator().manual_seed(0))
    method = fedavg(replace(task, model=model))
    state = play_round(method, Serial(data.__getitem__), initialise_state(method), range(3), 0)
    assert set(state.params) == set(model.params) == {"2.weight", "2.bias"}
    assert torch.equal(method.constants["0.weight"], first.weight)
    assert not torch.equal(state.params["2.weight"], model.params["2.weight"])


def test_the_module_given_is_left_alone():
    net = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6)).eval()
    model = from_module(net)
    model.forward(model.params, {"x": torch.ones(4, 8)}, {})
    assert not net.training
    assert net[1].num_batches_tracked == 0


def test_a_lone_last_row_joins_its_batch_where_rows_are_coupled():
    net = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6))
    task, data = make_two_class_workers(torch.Generator().manual_seed(0))
    held: Any = data[0]
    rows = TableRows(held.table, torch.arange(33))
    method = fedavg(replace(task, model=from_module(net), local=LocalTraining(batch=16)))
    state = play_round(method, Serial({0: rows}.__getitem__), initialise_state(method), [0], 0)
    assert all(torch.isfinite(tensor).all() for tensor in state.params.values())


def test_fedper_keeps_the_last_trained_parameters():
    net = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 6))
    task, _ = make_two_class_workers(torch.Generator().manual_seed(0))
    solve: Any = fedper(replace(task, model=from_module(net))).solve
    assert set(solve.own) == {"2.weight", "2.bias"}
