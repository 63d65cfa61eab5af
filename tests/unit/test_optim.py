"""Local optimisers against ``torch.optim``, pure and in place."""

import math

import pytest
import torch

from moiety.ops.optim import SGD, Adam, adamw
from moiety.ops.trees import clip_norm, compute_norm

NAN = math.nan

STEPS = 7
CASES = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "decay": (SGD(0.1, weight_decay=0.2), lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.2)),
    "momentum": (SGD(0.1, 0.9), lambda p: torch.optim.SGD(p, 0.1, 0.9)),
    "nesterov": (
        SGD(0.1, 0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, weight_decay=0.01),
    ),
    "adam": (Adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adam-decay": (
        Adam(0.01, (0.8, 0.95), 1e-6, 0.1),
        lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.95), 1e-6, 0.1),
    ),
    "adamw": (adamw(0.01, 0.1), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
}


def draws() -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, generator=rng) for _ in range(STEPS + 1)]


@pytest.mark.parametrize("name", CASES)
def test_rules_follow_torch(name):
    rule, make = CASES[name]
    first, *grads = draws()
    param = first.clone().requires_grad_()
    optimizer = make([param])
    pure, optimizer_state = first, rule.start(first)
    moving, held = first.clone(), {key: t.clone() for key, t in rule.start(first).items()}
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
        pure, optimizer_state = rule.update(pure, grad, optimizer_state, 1.0)
        rule.update_in_place(moving, grad, held, 1.0)
        assert torch.equal(moving, pure)
        for key in optimizer_state:
            assert torch.equal(held[key], optimizer_state[key])
        torch.testing.assert_close(pure, param.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_pure_updates_change_nothing_and_follow_the_factor(name):
    """A factor of one half is half the learning rate, as a number or as a tensor."""
    rule, make = CASES[name]
    first, *grads = draws()
    param = first.clone().requires_grad_()
    optimizer = make([param])
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    pure, optimizer_state = first, rule.start(first)
    other, more = first, rule.start(first)
    before = [t.clone() for t in (first, *grads)]
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
        kept = {key: t.clone() for key, t in optimizer_state.items()}
        pure, after = rule.update(pure, grad, optimizer_state, 0.5)
        assert all(torch.equal(optimizer_state[key], kept[key]) for key in kept)
        optimizer_state = after
        other, more = rule.update(other, grad, more, torch.tensor(0.5, dtype=torch.double))
        torch.testing.assert_close(pure, param.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(other, pure, rtol=1e-6, atol=1e-7)
    for was, now in zip(before, (first, *grads), strict=True):
        assert torch.equal(was, now)


def test_momentum_by_hand():
    """v = 1, then 0.5 * 1 + 1 = 1.5; w = 1 - 0.1 - 0.15 = 0.75."""
    rule, w, g = SGD(0.1, 0.5), torch.ones(1), torch.ones(1)
    w, optimizer_state = rule.update(w, g, rule.start(w), 1.0)
    w, optimizer_state = rule.update(w, g, optimizer_state, 1.0)
    torch.testing.assert_close(w, torch.tensor([0.75]))
    assert optimizer_state["velocity"].tolist() == [1.5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(-1), lambda: SGD(0.1, 1.0), lambda: SGD(0.1, nesterov=True),
        lambda: Adam(-0.1), lambda: Adam(0.1, (0.9, 1.0)),
        lambda: SGD(NAN), lambda: SGD(math.inf), lambda: SGD(0.1, NAN),
        lambda: SGD(0.1, weight_decay=-1), lambda: SGD(0.1, weight_decay=NAN),
        lambda: Adam(NAN), lambda: Adam(0.1, (NAN, 0.9)), lambda: Adam(0.1, eps=NAN),
        lambda: Adam(0.1, weight_decay=NAN), lambda: Adam(0.1, weight_decay=-1.0),
    ],
)  # fmt: skip
def test_impossible_choices_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make()


@pytest.mark.parametrize("most", [0.1, 5.0, 1e6])
def test_clip_follows_torch(most):
    rng = torch.Generator().manual_seed(0)
    tree = {"a": torch.randn(3, 2, generator=rng) * 4, "b": torch.randn(5, generator=rng) * 4}
    params = [torch.zeros_like(t).requires_grad_() for t in tree.values()]
    for param, grad in zip(params, tree.values(), strict=True):
        param.grad = grad.clone()
    total = torch.nn.utils.clip_grad_norm_(params, most)
    torch.testing.assert_close(compute_norm(list(tree.values())), total)
    for found, param in zip(clip_norm(tree, most).values(), params, strict=True):
        torch.testing.assert_close(found, param.grad)
