"""The directions of the bounds on compressed iterates (thesis) and on residual nets (ResIST)."""

from __future__ import annotations

import torch

from moiety.core.streams import stream
from moiety.split.assigned import RoundRobin


def iterates(keep: float, noise: float, far: float, *, seed: int = 0) -> float:
    """Give the mean squared gradient that masked iterates end at.

    y = M(x) keeps a coordinate with probability ``keep`` and divides by it; x = y - eta g(y). The
    objective is a diagonal quadratic around x*, of length ``far``; g has variance ``noise``.
    """
    rng, chains, size = stream(seed, "iterates"), 2000, 8
    curve_D = torch.linspace(1.0, 2.0, size, dtype=torch.float64)
    best_D = torch.full((size,), far / size**0.5, dtype=torch.float64)
    rate, x_CD = 1 / (2 * float(curve_D.max())), torch.zeros(chains, size, dtype=torch.float64)
    found = []
    for step in range(200):
        kept_CD = (torch.rand(chains, size, generator=rng) < keep).double() / keep
        y_CD = x_CD * kept_CD
        noise_CD = torch.randn(chains, size, generator=rng, dtype=torch.float64)
        x_CD = y_CD - rate * (curve_D * (y_CD - best_D) + (noise / size) ** 0.5 * noise_CD)
        if step >= 150:
            found.append(float((curve_D * (x_CD - best_D)).square().sum(1).mean()))
    return sum(found) / len(found)


def residual(width: int, *, parts: int = 2, rounds: int = 300, seed: int = 0) -> list[float]:
    """Deal the blocks of a residual net; give the loss of the whole after each round.

    h <- h + relu(h V_k) U_k / sqrt(m), read out by a fixed vector; a part holds half of the
    blocks, unscaled, and makes three steps. The whole is used with branches times 1 / parts.
    """
    rng, blocks, rows, size, steps = stream(seed, "residual", width), 4, 12, 16, 3
    x_BD = torch.randn(rows, size, generator=rng, dtype=torch.float64)
    x_BD /= x_BD.norm(dim=1, keepdim=True)
    y_B = torch.randn(rows, generator=rng, dtype=torch.float64)
    out_D = torch.randn(size, generator=rng, dtype=torch.float64)
    into = torch.randn(blocks, size, width, generator=rng, dtype=torch.float64)
    back = torch.randn(blocks, width, size, generator=rng, dtype=torch.float64) * 0.1

    def loss(back: torch.Tensor, held: list[int], scale: float) -> torch.Tensor:
        h_BD = x_BD
        for block in held:
            h_BD = h_BD + scale * (h_BD @ into[block]).relu() @ back[block] / width**0.5
        return (h_BD @ out_D - y_B).square().sum() / 2

    found = []
    for place in range(rounds):
        moved = back.clone()
        for block in RoundRobin()(blocks, parts, stream(seed, place, "blocks")):
            mine = back.clone().requires_grad_()
            for _ in range(steps):
                (grad,) = torch.autograd.grad(loss(mine, block.tolist(), 1.0), mine)
                mine = (mine - 0.01 * grad).detach().requires_grad_()
            moved[block] = mine.detach()[block]
        back = moved
        found.append(float(loss(back, list(range(blocks)), 1 / parts)))
    return found
