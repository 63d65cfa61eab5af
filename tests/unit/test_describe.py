"""What tells one run from others covers everything that a value is made of."""

import functools
import re
import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import moiety
from moiety.core.describe import OPAQUE, describe_leaves
from moiety.core.streams import stream
from moiety.methods import METHODS

SCALE = 2.0


@dataclass(frozen=True)
class Choice:
    rate: float = 0.5
    sizes: tuple[int, ...] = (3, 4)
    more: object = None


class Scaled(nn.Module):
    factor = 1.0

    def __init__(self, width=4):
        super().__init__()
        self.layer = nn.Linear(3, width)
        self.width = width

    def forward(self, x):
        return self.layer(x) * SCALE * self.factor


def scaled(width=4):
    net = Scaled(width)
    for tensor in net.parameters():
        tensor.data = torch.ones_like(tensor)
    return net


def pair():
    """Give two functions of the same name that differ in one constant."""
    return tuple(eval(f"lambda x: x + {number}", {"__name__": __name__}) for number in (1, 2))


def closing(value):
    return lambda x: x * value


def differing(one, two):
    """Name the leaves in which two values differ."""
    first, second = describe_leaves(one, "v"), describe_leaves(two, "v")
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}


@pytest.mark.parametrize(
    ("one", "two", "where"),
    [
        (Choice(), Choice(rate=0.25), "v.rate"),
        (Choice(), Choice(sizes=(3, 5)), "v.sizes.1"),
        (Choice(more={"a": [1]}), Choice(more={"a": [2]}), "v.more.a.0"),
        (Choice(more=torch.zeros(2)), Choice(more=torch.ones(2)), "v.more"),
        (Choice(more=torch.zeros(2, 1)), Choice(more=torch.zeros(1, 2)), "v.more"),
        (Choice(more=np.zeros(2)), Choice(more=np.ones(2)), "v.more.state.4"),
        (Choice(more=closing(2)), Choice(more=closing(3)), "v.more.value"),
        (Choice(more=pair()[0]), Choice(more=pair()[1]), "v.more"),
        (functools.partial(int, base=2), functools.partial(int, base=3), "v.state.2.base"),
        (re.compile("a"), re.compile("b"), "v.made.0"),
        ({1, 2}, {1, 3}, "v.1"),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2), "v.state.0"),
        (nn.Dropout(0.1), nn.Dropout(0.2), "v.p"),
        (b"a" * 100, b"b" * 100, "v"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_differs_is_named(one, two, where):
    assert where in differing(one, two)
    assert not differing(one, one)


def test_a_default_and_a_number_set_to_it_are_the_same():
    """Whether two equal values are one object is the interpreter's affair."""
    assert not differing(Choice(more=(3, 4)), Choice(sizes=(3, int("4")), more=(3, int("4"))))
    shared = [1.0, torch.ones(2)]
    assert not differing([shared, shared], [shared, [1.0, torch.ones(2)]])


def test_a_module_is_its_code_its_values_and_its_attributes(monkeypatch):
    net = scaled()
    assert not differing(net, scaled().eval())  # how it is called is not what it is
    assert {"v.width", "v.layer.weight"} <= differing(net, scaled(5))
    before = describe_leaves(net, "v")
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "SCALE", 3.0)
        after = describe_leaves(net, "v")
        assert {name for name in before if before[name] != after[name]} == {"v.class.forward.SCALE"}
    monkeypatch.setattr(Scaled, "factor", 2.0)
    assert describe_leaves(net, "v")["v.class.factor"] != before["v.class.factor"]


def test_circles_end():
    one: list[Any] = [1]
    two: list[Any] = [1]
    one.append(one)
    two.append(two)
    assert not differing(one, two)
    assert differing(one, [1, [1]])


def test_what_cannot_be_described_is_said():
    leaves = describe_leaves(Choice(more=threading.Lock()), "v")
    assert leaves["v.more"] == f"{OPAQUE} (_thread.lock)"


def test_every_choice_of_a_method_is_a_leaf():
    local = moiety.LocalTraining()
    others = {
        "optimizer": "adam", "lr": 0.3, "momentum": 0.1, "weight_decay": 0.1, "batch": 7,
        "epochs": 2, "steps": 3, "window": 4, "clip": 1.0, "accumulate": 2,
        "lr_schedule": "cosine", "bfloat16": True, "by_rows": True, "optimizer_state": "keep",
        "flips": True, "nesterov": True,
    }  # fmt: skip
    model = moiety.mlp((3, 4, 2), moiety.stream(0, "net"))
    make = moiety.METHODS["fedprox"].make
    plain = make(moiety.Task(model, local))
    for name, value in others.items():
        assert differing(plain, make(moiety.Task(model, replace(local, **{name: value})))), name
    assert "v.solve.terms.0.mu" in differing(plain, make(moiety.Task(model, local), mu=0.3))
    assert not differing(plain, make(moiety.Task(model, local)))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_described_alike_when_made_twice(name):
    """Also where a compiled type of a library stands in it, whose module has no name."""
    one, two = (METHODS[name].demo(stream(0, "demo")).method for _ in range(2))
    assert describe_leaves(one, "method") == describe_leaves(two, "method")
