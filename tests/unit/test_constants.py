"""What is frozen is downloaded once, never in a piece, and comes back with the final model."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import moiety
from moiety.core.errors import RunError
from moiety.core.ledger import read_ledger
from moiety.core.state import count_bytes
from moiety.engine.choose import make_engine
from moiety.methods.demo import make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.models.base import find_constants
from moiety.models.gated import common_expert
from moiety.models.module import from_module
from moiety.rounds.synchronous import initialise_state, play_round

AXES = {
    "0.weight": ("a", None), "0.bias": ("a",), "2.weight": ("b", "a"), "2.bias": ("b",),
    "4.weight": (None, "b"),
}  # fmt: skip


def net(*, freeze=("0", "2"), seed=1):
    module = nn.Sequential(
        nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 6)
    )
    rng = torch.Generator().manual_seed(seed)
    for name, tensor in module.named_parameters():
        tensor.data = torch.randn(tensor.shape, generator=rng) * 0.4
        tensor.requires_grad_(name.split(".")[0] not in freeze)
    return module


def world():
    task, data = make_two_class_workers(torch.Generator().manual_seed(0))
    return task, {worker: data[worker] for worker in sorted(data)}


def play(method, engine, data, rounds=2):
    made, state = make_engine(engine, data.__getitem__), initialise_state(method)
    for _ in range(rounds):
        state = play_round(method, made, state, sorted(data)[:4], 0)
    made.close()
    return state.params


@pytest.mark.parametrize("freeze", [(), ("0",), ("0", "2")])
def test_bytes_are_those_of_what_is_trained(tmp_path, freeze):
    task, workers = world()
    module = net(freeze=freeze)
    method = fedavg(replace(task, model=from_module(module)))
    moiety.train(method, workers, tmp_path / "run", moiety.TrainConfig(rounds=1))
    ledger = read_ledger(tmp_path / "run" / "ledger.jsonl")
    trained = sum(4 * t.numel() for t in module.parameters() if t.requires_grad)
    frozen = sum(4 * t.numel() for t in module.parameters() if not t.requires_grad)
    for work in ledger.rounds[0].workers:
        assert (work.down_bytes, work.up_bytes) == (trained, trained)
    assert ledger.start.constant_bytes == frozen


@pytest.mark.parametrize("name", ["fedavg", "ist", "ddome"])
def test_engines_agree_and_nobody_moves_what_is_frozen(name):
    """With ist the frozen layer lies between two that are cut: each worker cuts its own copy."""
    task, data = world()
    model = from_module(net(freeze=("2",)), AXES)
    before = {name: t.clone() for name, t in model.constants.items()}
    some = {w: data[w] for w in sorted(data)[:4]}
    task = replace(task, model=model, workers=4)
    if name == "ddome":
        x = data[0].take(torch.arange(20))["x"]
        task = replace(task, common=common_expert(model, model.params, x))
    method = moiety.METHODS[name].make(task)
    if method.transform is not None:
        opened = moiety.TransformedRows(some.__getitem__, method.transform)
        some = {w: opened(w) for w in some}
    serial = play(method, "serial", some)
    assert not any("2.weight" in key for key in serial)
    for engine, tolerance in (("vectorized", 1e-5), ("pool", 0)):
        other = play(method, engine, some)
        for key, wanted in serial.items():
            torch.testing.assert_close(other[key], wanted, rtol=tolerance, atol=tolerance)
    for key, old in before.items():
        assert torch.equal(model.constants[key], old)


def test_a_cut_constant_computes_what_cut_parameters_would():
    """The same first round, with the middle layer frozen or trained at a rate of nothing."""
    _, data = world()
    some = {w: data[w] for w in sorted(data)[:4]}
    local = moiety.LocalTraining(lr=0.05, momentum=0.0, batch=16)
    frozen, trained = (
        moiety.METHODS["ist"].make(Task(from_module(net(freeze=f), AXES), local, workers=4))
        for f in (("2",), ())
    )
    still = replace(trained, solve=replace(trained.solve, frozen=frozenset({"2.weight", "2.bias"})))
    one, two = play(frozen, "serial", some, 1), play(still, "serial", some, 1)
    for key, tensor in one.items():
        assert torch.equal(tensor, two[key])


def test_the_final_model_has_what_is_frozen(tmp_path):
    """Whoever loads it gives a module of the same form, whatever its values."""
    task, workers = world()
    method = fedavg(replace(task, model=from_module(net())))
    state = moiety.train(method, workers, tmp_path / "run", moiety.TrainConfig(rounds=2))
    x = workers[0].take(torch.arange(12))["x"]
    wanted = method.serve.scores(state.params, {"x": x}, {})
    served = moiety.load_model(tmp_path / "run", module=from_module(net(seed=7)))
    assert torch.equal(served.predict_log_proba(x), wanted)
    other = net()
    other[0] = nn.Linear(8, 4).requires_grad_(requires_grad=False)
    with pytest.raises(ValueError, match=r"frozen '0.weight' is \[4, 8\], but the saved .*\[10, 8"):
        moiety.load_model(tmp_path / "run", module=from_module(other))
    other[4] = nn.Linear(10, 5)
    with pytest.raises(RunError, match=r"another .*: 4.weight is \[5, 10\], saved was \[6, 10\]"):
        moiety.load_model(tmp_path / "run", module=from_module(other))
    plain = net(seed=9)
    plain.load_state_dict(load_file(tmp_path / "run" / "final" / "model.safetensors"))
    assert torch.equal(plain(x).log_softmax(-1), wanted)


def test_experts_share_what_is_frozen(tmp_path):
    """Five experts and the common one, one backbone: it is counted once; the mixture loads."""
    task, workers = world()
    model = from_module(net())
    x = workers[0].take(torch.arange(20))["x"]
    task = replace(task, model=model, common=common_expert(model, model.params, x))
    method = moiety.METHODS["ddome"].make(task, experts=5, k=2)
    assert count_bytes(find_constants(model)) == 4 * (8 * 10 + 10 + 110)
    own = count_bytes(model.params) + 2 * 4 * 10  # of the common expert, and of its 10 features
    assert count_bytes(method.constants) == count_bytes(find_constants(model)) + own
    other = from_module(net(seed=2))
    apart = replace(task, model=other)  # another backbone than the common expert's
    more = count_bytes(moiety.METHODS["ddome"].make(apart).constants)
    assert more == count_bytes(method.constants) + count_bytes(find_constants(other))
    how = moiety.TrainConfig(rounds=2, size=4)
    state = moiety.train(method, workers, tmp_path / "run", how)
    served = moiety.load_model(tmp_path / "run", module=from_module(net(seed=5)))
    part = method.serve.choose(state.params, moiety.TableRows({"x": x}, torch.arange(20)))
    piece = moiety.take_piece(state.params, method.model.axes, part)
    wanted = method.serve.scores(piece, method.transform({"x": x}), part.axes)
    assert torch.equal(served.predict_log_proba(x), wanted)
