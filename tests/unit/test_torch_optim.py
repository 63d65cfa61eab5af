"""Classes of torch.optim as rules: the numbers of a plain loop, and memory that is values."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

import moiety
from moiety.core.ledger import read_ledger
from moiety.ops.torch_optim import TorchRule

KINDS = [
    torch.optim.SGD, partial(torch.optim.SGD, momentum=0.9, nesterov=True), torch.optim.AdamW,
    partial(torch.optim.Adam, amsgrad=True), torch.optim.RMSprop, torch.optim.Adagrad,
    torch.optim.Adadelta, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam,
    torch.optim.Rprop, torch.optim.ASGD, torch.optim.Adafactor,
]  # fmt: skip


def loop(make, start, grads):
    """Step as anybody would."""
    param = nn.Parameter(start.clone())
    optimizer = make([param], lr=0.1)
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
    return param.detach()


@pytest.mark.parametrize("make", KINDS, ids=range(len(KINDS)))
@pytest.mark.parametrize("shape", [(3, 4), (5,)])
def test_a_rule_moves_as_the_optimizer_does_in_a_plain_loop(make, shape):
    rng = torch.Generator().manual_seed(0)
    start, *grads = (torch.randn(shape, generator=rng) for _ in range(5))
    wanted, rule = loop(make, start, grads), TorchRule(make, 0.2)
    pure, memory = start, rule.start(start)
    there, kept = start.clone(), {name: t.clone() for name, t in memory.items()}
    for grad in grads:
        before = {name: t.clone() for name, t in memory.items()}, pure.clone(), memory
        pure, memory = rule.update(pure, grad, memory, 0.5)
        assert all(torch.equal(before[2][name], t) for name, t in before[0].items())
        rule.update_in_place(there, grad, kept, 0.5)
    assert torch.equal(pure, wanted)
    assert torch.equal(there, wanted)
    assert all(torch.equal(kept[name], t) for name, t in memory.items())


def workers():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=rng)
    return {w: {"x": x[w::3], "y": (x[w::3, 0] > 0).long()} for w in range(3)}


def play(folder, engine="serial", rounds=4, watch=(), **changes):
    torch.manual_seed(0)
    local = moiety.LocalTraining(optimizer=torch.optim.RMSprop, lr=0.01, batch=8)
    how = moiety.TrainConfig(rounds=rounds, engine=engine, local=replace(local, **changes))
    state = moiety.train(nn.Linear(4, 2), workers(), folder, how, watch=watch)
    return state.params["weight"]


@pytest.mark.parametrize("kept", ["reset", "keep"])
def test_engines_agree_and_a_stop_is_invisible(tmp_path, kept):
    wanted = play(tmp_path / "serial", optimizer_state=kept)
    for engine in ("vectorized", "pool"):
        found = play(tmp_path / engine, engine, optimizer_state=kept)
        assert torch.equal(found, wanted)
    cut = tmp_path / "cut"
    play(cut, optimizer_state=kept, watch=lambda entry: getattr(entry, "round", 0) == 2)
    assert torch.equal(play(cut, optimizer_state=kept), wanted)
    assert len(read_ledger(cut / "ledger.jsonl").rounds) == 4
    other = "keep" if kept == "reset" else "reset"
    assert not torch.equal(play(tmp_path / "other", optimizer_state=other), wanted)


@pytest.mark.parametrize(("changes", "said"), [
    ({"optimizer": torch.optim.LBFGS}, "LBFGS cannot step on a parameter of shape"),
    ({"optimizer": torch.optim.Rprop, "weight_decay": 0.1}, "Rprop cannot step .*weight_decay"),
    ({"optimizer": "rmsprop"}, r"optimizer='rmsprop'; choose .* class of torch.optim"),
    ({"optimizer": 3}, "optimizer=3; choose"),
    ({"optimizer_state": "send"}, "'send' cuts and averages .* choose 'reset' or 'keep'"),
    ({"momentum": 0.5}, "=0.5 is not read by the optimizer, which is a class of torch: give it"),
    ({"optimizer": "adam", "momentum": 0.5}, "momentum=0.5 is not read by local.optimizer='adam'"),
    ({"optimizer": "sgd", "betas": (0.5, 0.9)}, r"betas=\(0.5, 0.9\) is not read by .*='sgd'"),
    ({"drops": (0.1,)}, r"drops=\(0.1,\) is not read by local.lr_schedule='constant'"),
])  # fmt: skip
def test_what_a_class_of_torch_cannot_is_refused(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        play(tmp_path / "x", **changes)
    assert not (tmp_path / "x").exists()


def test_it_is_named_on_the_command_line_and_by_a_partial(tmp_path):
    make = partial(torch.optim.RMSprop, alpha=0.5)
    assert not torch.equal(play(tmp_path / "a", optimizer=make), play(tmp_path / "b"))
    assert torch.equal(play(tmp_path / "c", optimizer="RMSprop"), play(tmp_path / "d"))
    config = read_ledger(tmp_path / "a" / "ledger.jsonl").start.config
    assert config["local"]["optimizer"] == "RMSprop(alpha=0.5)"
