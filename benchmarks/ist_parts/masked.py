"""One-hidden-layer ReLU nets whose neurons are masked or dealt.

Liao and Kyrillidis, *On the Convergence of Shallow Neural Network Training with Randomly Masked
Neurons*, arXiv:2112.02668. f(x) = m^-1/2 sum_r a_r relu(<w_r, x>) with fixed signs a, squared
loss, full batches; parts are unscaled, the whole is used with the share xi of a part.
Letters: B rows, D inputs, M hidden units, P parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.streams import stream
from moiety.split.assigned import Assignment, RoundRobin


@dataclass(frozen=True)
class Setting:
    """One run.

    Args:
        assignment: of the hidden units.
        parts: P.
        width: M.
        steps: local steps of a round.
        total: local steps in all.
        rate: learning rate.
        kappa: standard deviation of the first weights.
        targets: standard deviation of the targets.
        graph: whether rows are first averaged over a graph of the rows (a graph net).
    """

    assignment: Assignment
    parts: int
    width: int = 400
    steps: int = 5
    total: int = 1500
    rate: float = 0.5
    kappa: float = 1.0
    targets: float = 1.0
    graph: bool = False


ROWS, INPUTS = 30, 12


def problem(seed: int, *, graph: bool = False) -> tuple[Tensor, Tensor]:
    """Draw rows of length 1, [B, D], and targets, [B]."""
    rng = stream(seed, "rows")
    x_BD = torch.randn(ROWS, INPUTS, generator=rng, dtype=torch.float64)
    y_B = torch.randn(ROWS, generator=rng, dtype=torch.float64)
    if graph:  # a ring: every row and its two neighbours, normalised
        x_BD = (x_BD + x_BD.roll(1, 0) + x_BD.roll(-1, 0)) / 3
    return x_BD / x_BD.norm(dim=1, keepdim=True), y_B


def first(setting: Setting, seed: int) -> tuple[Tensor, Tensor]:
    """Draw weights [M, D] and signs [M]."""
    rng = stream(seed, "net", setting.width)
    w_MD = torch.randn(setting.width, INPUTS, generator=rng, dtype=torch.float64)
    a_M = (torch.randint(2, (setting.width,), generator=rng) * 2 - 1).double()
    return setting.kappa * w_MD, a_M


def masks(setting: Setting, seed: int, place: int) -> Tensor:
    """Deal the units of a round, [P, M]."""
    subnets = setting.assignment(setting.width, setting.parts, stream(seed, place, "deal"))
    mask_PM = torch.zeros(setting.parts, setting.width, dtype=torch.float64)
    for part, subnet in enumerate(subnets):
        mask_PM[part, subnet] = 1
    return mask_PM


def local(w_PMD: Tensor, sign_PM: Tensor, x_BD: Tensor, y_B: Tensor, rate: float) -> Tensor:
    """Make one step of gradient descent in every part; ``sign`` is a / sqrt(m), 0 outside it."""
    z_PBM = torch.einsum("bd,pmd->pbm", x_BD, w_PMD)
    on_PBM = (z_PBM > 0).to(z_PBM.dtype)
    left_PB = torch.einsum("pbm,pm->pb", z_PBM * on_PBM, sign_PM) - y_B
    grad_PMD = torch.einsum("pbm,pb,bd->pmd", on_PBM, left_PB, x_BD) * sign_PM[..., None]
    return w_PMD - rate * grad_PMD


def merged(w_MD: Tensor, w_PMD: Tensor, mask_PM: Tensor) -> Tensor:
    """Add the mean change over holders."""
    holders_M = mask_PM.sum(0).clamp_min(1)
    return w_MD + ((w_PMD - w_MD) * mask_PM[..., None]).sum(0) / holders_M[:, None]


def outputs(w_MD: Tensor, sign_M: Tensor, x_BD: Tensor) -> Tensor:
    """Use the whole, unscaled, [B]."""
    return (x_BD @ w_MD.T).relu() @ sign_M


def train(setting: Setting, seed: int) -> dict[str, Any]:
    """Train; give the mean squared error of the whole after each round, and the last weights."""
    (x_BD, y_B), (w_MD, a_M) = problem(seed, graph=setting.graph), first(setting, seed)
    y_B = setting.targets * y_B
    sign_M, share = a_M / setting.width**0.5, setting.assignment.share(setting.width, setting.parts)
    errors = []
    for place in range(setting.total // setting.steps):
        mask_PM = masks(setting, seed, place)
        w_PMD = w_MD.expand(setting.parts, -1, -1)
        for _ in range(setting.steps):
            w_PMD = local(w_PMD, sign_M * mask_PM, x_BD, y_B, setting.rate)
        w_MD = merged(w_MD, w_PMD, mask_PM)
        left_B = share * outputs(w_MD, sign_M, x_BD) - y_B
        errors.append(float(left_B.square().mean()))
    return {"errors": errors, "weights": w_MD}


def floor(setting: Setting, seeds: int = 1) -> float:
    """Average the error over the last fifth of the rounds, and over seeds."""
    found = []
    for seed in range(seeds):
        errors = train(setting, seed)["errors"]
        tail = errors[-max(1, len(errors) // 5) :]
        found.append(sum(tail) / len(tail))
    return sum(found) / seeds


def distance(setting: Setting, seed: int) -> float:
    """Measure how far training by masked parts ends from gradient descent on the whole (LoFT).

    A unit that somebody holds, as it does with probability theta, sees others with probability
    xi; descent on the whole follows the same mean: residual xi u - y, rate eta theta.
    """
    share = setting.assignment.share(setting.width, setting.parts)
    theta = 1 - (1 - share) ** setting.parts
    plain = replace(
        setting,
        assignment=RoundRobin(),
        parts=1,
        rate=setting.rate * theta * share,
        targets=1 / share,
    )
    one, two = train(setting, seed)["weights"], train(plain, seed)["weights"]
    return float((one - two).norm())
