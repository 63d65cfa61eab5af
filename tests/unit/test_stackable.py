"""Which engine runs a module of one's own, and that no global draw goes unnoticed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import moiety
from moiety.core.errors import WorkerError
from moiety.core.solver import Descent
from moiety.core.state import Job, Share
from moiety.engine.choose import choose_engine, make_engine
from moiety.engine.stackable import can_stack
from moiety.models.module import from_module
from moiety.rounds.synchronous import initialise_state, play_round


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = kind(4, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.layer(x)[0][:, -1])


class Then(nn.Module):
    """A linear layer, then whatever one does with its outputs."""

    def __init__(self, then):
        super().__init__()
        self.out = nn.Linear(8, 3)
        self.then = then

    def forward(self, x):
        return self.then(self.out(x.flatten(1)))


def hide(out):
    out = out.clone()
    out[out > 0] = 0.0
    return out


NETS = {
    "lstm": (lambda: Recurrent(nn.LSTM), False),
    "gru": (lambda: Recurrent(nn.GRU), False),
    "rnn": (lambda: Recurrent(nn.RNN), False),
    "branch": (lambda: Then(lambda out: out * 2 if out.mean() > 0 else out), False),
    "item": (lambda: Then(lambda out: out * out.sum().item()), False),
    "mask": (lambda: Then(hide), False),
    "loop": (lambda: Then(lambda out: sum(out for _ in range(int(out.abs().max()) + 1))), False),
    "linear": (lambda: Then(torch.relu), True),
    "attention": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
            nn.Flatten(),
            nn.Linear(8, 3),
        ),
        False,  # its kernel would run in a loop
    ),
}

NOISE = {
    "dropout": lambda out: F.dropout(out, 0.5),
    "randn_like": lambda out: out + torch.randn_like(out),
    "gumbel": F.gumbel_softmax,
}


def world():
    rng = torch.Generator().manual_seed(0)
    table = {
        "x": torch.randn(80, 2, 4, generator=rng),
        "y": torch.randint(3, (80,), generator=rng),
    }
    return {w: moiety.TableRows(table, torch.arange(w, 80, 8)) for w in range(8)}


def method_of(model):
    model = moiety.from_module(model) if isinstance(model, nn.Module) else model
    drawn = model.redraw(torch.Generator().manual_seed(0))
    task = moiety.Task(model, moiety.LocalTraining(batch=4), start=drawn)
    return moiety.METHODS["fedavg"].make(task)


@pytest.mark.parametrize("name", NETS)
def test_what_cannot_be_stacked_is_given_to_the_pool_and_runs(name):
    make, wanted = NETS[name]
    method, workers = method_of(make()), world()
    job = Job(0, 0, 0, Share(), initialise_state(method).params)
    assert isinstance(method.solve, Descent)
    found = can_stack(method.solve, job, workers[0])
    assert found is wanted
    chosen = choose_engine(method, "cpu", 8, lambda: found)
    assert chosen == ("vectorized" if wanted else "pool")
    assert choose_engine(method, "cuda", 8, lambda: found) == ("vectorized" if wanted else "serial")
    engine = make_engine(chosen, workers.__getitem__)
    state = play_round(method, engine, initialise_state(method), range(8), 0)
    engine.close()
    serial = make_engine("serial", workers.__getitem__)
    twin = play_round(method, serial, initialise_state(method), range(8), 0)
    for key, tensor in twin.params.items():
        torch.testing.assert_close(state.params[key], tensor, rtol=1e-4, atol=1e-5)


def test_nothing_is_tried_where_size_decides():
    def ask():
        raise AssertionError

    assert choose_engine(method_of(NETS["linear"][0]()), "cpu", 2, ask) == "pool"


@pytest.mark.parametrize("engine", ["serial", "vectorized", "pool"])
@pytest.mark.parametrize("name", NOISE)
def test_noise_of_the_global_generator_is_refused_or_repeated(name, engine):
    workers, net = world(), Then(NOISE[name])
    made = make_engine(engine, workers.__getitem__)
    method = method_of(net)
    with pytest.raises(WorkerError, match=r"global generator.*from_module\(module, draws_noise"):
        play_round(method, made, initialise_state(method), range(8), 0)
    made.close()
    known = method_of(from_module(net, draws_noise=True))
    found = []
    for number in (1, 2):
        made = make_engine(engine, workers.__getitem__)
        torch.default_generator.manual_seed(number)
        found.append(play_round(known, made, initialise_state(known), range(8), 0).params)
        made.close()
    for key, tensor in found[0].items():
        assert torch.equal(tensor, found[1][key])
    x = workers[0].take(torch.arange(4))
    one, two = (known.serve.scores(found[0], x, {}) for _ in range(2))
    assert torch.equal(one, two)  # also where it draws in use, as dropout without its mode does


def test_rows_that_draw_are_refused():
    class Augmented:
        size = 12

        def take(self, ids):
            return {"x": torch.randn(len(ids), 2, 4), "y": ids % 3}

    method = method_of(NETS["linear"][0]())
    serial = make_engine("serial", lambda worker: Augmented())
    with pytest.raises(WorkerError, match="or the rows, drew from torch's global generator"):
        play_round(method, serial, initialise_state(method), range(1), 0)


def test_a_module_takes_the_columns_that_it_names():
    class Two(nn.Module):
        def forward(self, a, b=None, weight=None):
            assert weight is None
            return a if b is None else a - b

    batch = {"a": torch.ones(2, 3), "weight": torch.ones(2), "y": torch.zeros(2)}
    model = from_module(Two())
    assert torch.equal(model.logits({}, batch, {}), batch["a"])
    both = {**batch, "b": torch.ones(2, 3)}
    assert not model.logits({}, both, {}).any()
    with pytest.raises(ValueError, match=r"columns \['z'\], but the module takes \['a', 'b'\]"):
        model.logits({}, {"z": batch["a"]}, {})
    assert from_module(nn.Linear(3, 2)).logits(
        dict(nn.Linear(3, 2).named_parameters()), {"x": batch["a"]}, {}
    ).shape == (2, 2)


def test_outputs_that_are_no_tensor_are_refused_with_the_way_out():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(TypeError, match=r"returns a tuple, not a tensor .* call=lambda net"):
        from_module(Pair()).logits({}, {"x": torch.ones(2)}, {})
    model = from_module(Pair(), call=lambda net, batch: net(batch["x"])[0])
    assert model.logits({}, {"x": torch.ones(2)}, {}).shape == (2,)
