"""The server's optimisers against algorithm 2 of arXiv:2003.00295, computed by hand."""

import math

import pytest
import torch

from moiety.core.protocols import adopt_merged
from moiety.server.optimizers import Momentum, PseudoGradientServer, fedadagrad, fedadam, fedyogi

DELTAS = (0.5, -0.2, 0.3)


def adam(m, v, d):
    m, v = 0.9 * m + 0.1 * d, 0.99 * v + 0.01 * d * d
    return 0.1 * m / (math.sqrt(v) + 0.01), m, v


def yogi(m, v, d):
    m, v = 0.9 * m + 0.1 * d, v - 0.01 * d * d * math.copysign(1, v - d * d)
    return 0.1 * m / (math.sqrt(v) + 0.01), m, v


def adagrad(m, v, d):
    m, v = 0.5 * m + 0.5 * d, v + d * d
    return 0.1 * m / (math.sqrt(v) + 0.01), m, v


def heavy(m, v, d):
    m = 0.9 * m + d
    return 0.1 * m, m, v


def nesterov(m, v, d):
    m = 0.9 * m + d
    return 0.1 * (d + 0.9 * m), m, v


RULES = {
    "adam": (fedadam(0.1, tau=0.01), adam),
    "yogi": (fedyogi(0.1, tau=0.01), yogi),
    "adagrad": (fedadagrad(0.1, beta1=0.5, tau=0.01), adagrad),
    "momentum": (Momentum(0.1), heavy),
    "nesterov": (Momentum(0.1, nesterov=True), nesterov),
}


@pytest.mark.parametrize("name", RULES)
def test_three_steps_by_hand(name):
    """The first memory is m = 0 and v = tau^2, as the algorithm says."""
    rule, hand = RULES[name]
    server, held = PseudoGradientServer(rule), {"w": torch.tensor(True)}
    params, memory = {"w": torch.tensor([1.0], dtype=torch.double)}, {}
    x, m, v = 1.0, 0.0, 0.01**2
    for delta in DELTAS:
        step, m, v = hand(m, v, delta)
        x += step
        merged = {"w": params["w"] + delta}
        params, memory = server(params, merged, held, memory)
        assert params["w"].item() == pytest.approx(x, rel=1e-12)


def test_first_step_of_adam_in_numbers():
    """m = 0.05, v = 0.99e-4 + 0.0025 = 0.002599, x = 1 + 0.1 * 0.05 / (0.0509804 + 0.01)."""
    params = {"w": torch.tensor([1.0], dtype=torch.double)}
    merged = {"w": torch.tensor([1.5], dtype=torch.double)}
    after, _ = PseudoGradientServer(fedadam(0.1, tau=0.01))(
        params, merged, {"w": torch.tensor(True)}, {}
    )
    assert after["w"].item() == pytest.approx(1.0819935, abs=1e-6)


def test_rate_one_without_momentum_is_a_jump():
    """Identity: FedOpt with SGD at rate 1 is FedAvg."""
    rng = torch.Generator().manual_seed(0)
    params, merged = ({"w": torch.randn(4, generator=rng)} for _ in range(2))
    held = {"w": torch.ones(4, dtype=torch.bool)}
    after, _ = PseudoGradientServer(Momentum(1.0, 0.0))(params, merged, held, {})
    torch.testing.assert_close(after["w"], adopt_merged(params, merged, held, {})[0]["w"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Momentum(-1.0), "lr=-1.0"),
        (lambda: Momentum(math.nan), "lr=nan"),
        (lambda: Momentum(0.7, 1.5), "momentum=1.5; choose"),
        (lambda: Momentum(0.7, math.nan), "momentum=nan"),
        (lambda: fedadam(-0.1), "lr=-0.1"),
        (lambda: fedyogi(math.inf), "lr=inf"),
        (lambda: fedadagrad(0.1, beta1=1.0), "beta1=1.0"),
        (lambda: fedadam(0.1, tau=0.0), "tau=0.0"),
        (lambda: fedadam(0.1, tau=math.nan), "tau=nan"),
    ],
)
def test_a_server_that_cannot_be_is_refused(make, said):
    with pytest.raises(ValueError, match="the server's lr") as caught:
        make()
    assert said in str(caught.value)


def test_ten_rounds_of_momentum_are_one_optimizer():
    """DiLoCo's outer Nesterov is ``torch.optim.SGD`` on minus the difference."""
    target = torch.tensor([1.0, -2.0])
    param = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([param], 0.7, 0.9, nesterov=True)
    params, memory = {"w": torch.zeros(2)}, {}
    server, held = (
        PseudoGradientServer(Momentum(0.7, nesterov=True)),
        {"w": torch.ones(2, dtype=torch.bool)},
    )
    for _ in range(10):
        param.grad = 0.1 * (param.detach() - target)
        optimizer.step()
        merged = {"w": params["w"] + 0.1 * (target - params["w"])}
        params, memory = server(params, merged, held, memory)
        torch.testing.assert_close(params["w"], param.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_what_nobody_held_stays_with_its_memory(name):
    """The first row is held in both rounds, the second only in the first: equal bits after."""
    server = PseudoGradientServer(RULES[name][0])
    params = {"w": torch.tensor([[0.3, 0.1], [0.7, 0.9]]), "other": torch.tensor([0.1])}
    merged = {"w": params["w"] + 0.5, "other": params["other"]}
    one, kept = server(params, merged, {"w": torch.tensor([[True], [True]])}, {})
    assert one["other"] is params["other"]
    assert all(set(tensors) == {"w"} for tensors in kept.values())
    again = {"w": one["w"] + 0.5, "other": one["other"]}
    two, after = server(one, again, {"w": torch.tensor([[True], [False]])}, kept)
    assert torch.equal(two["w"][1], one["w"][1])
    assert not torch.equal(two["w"][0], one["w"][0])
    for slot, memory in kept.items():
        assert torch.equal(after[slot]["w"][1], memory["w"][1])
        assert not torch.equal(after[slot]["w"][0], memory["w"][0])


def test_counters_are_set_not_stepped():
    params, merged = {"n": torch.tensor(3)}, {"n": torch.tensor(8)}
    after, memory = PseudoGradientServer(fedadam(0.1))(
        params, merged, {"n": torch.tensor(True)}, {}
    )
    assert after["n"].item() == 8
    assert not any(memory.values())
