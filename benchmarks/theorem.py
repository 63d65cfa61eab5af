"""Theorem 1 of DDOME in simulation: experts and router fitted apart, or jointly.

Gaussian x in d dimensions falls into the region of the v_j it points at most, and y = w_j x there;
router and experts are linear, the loss is squared, and zero loss is attainable (arXiv:2306.08586).

Letters: B rows, D dimensions, M regions, experts and rows of the router.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from moiety.core.streams import stream
from moiety.ops.optim import Adam

Loss = Callable[[Tensor, Tensor], Tensor]
"""Share of each expert and its error, both [B, M], to a loss, [B]."""

STEPS, BATCH, RATE, HELD_OUT = 4000, 256, 0.01, 20_000


@dataclass(frozen=True)
class Truth:
    """The regions v [M, D] and the maps w [M, D], each orthonormal."""

    v: Tensor
    w: Tensor

    def draw(self, rows: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """Draw x [B, D] and y [B]."""
        x_BD = torch.randn(rows, self.v.shape[1], generator=rng)
        return x_BD, top1(self.v, self.w, x_BD)


def top1(v_MD: Tensor, w_MD: Tensor, x_BD: Tensor) -> Tensor:
    """Answer each row by the expert its router prefers, [B]."""
    return (w_MD[(x_BD @ v_MD.T).argmax(-1)] * x_BD).sum(-1)


def orthonormal(count: int, size: int, rng: Generator) -> Tensor:
    """Draw orthonormal rows, [count, size]."""
    return torch.linalg.qr(torch.randn(size, count, generator=rng)).Q.T.contiguous()


def truth_of(size: int, count: int, seed: int) -> Truth:
    """Draw a problem."""
    rng = stream(seed, "theorem")
    return Truth(orthonormal(count, size, rng), orthonormal(count, size, rng))


def first_router(size: int, count: int, seed: int) -> Tensor:
    """Draw a router, N(0, 1/d), [M, D]."""
    return torch.randn(count, size, generator=stream(seed, "router")) / size**0.5


def experts_of(v_MD: Tensor, truth: Truth, seed: int) -> Tensor:
    """Fit experts to convergence, by least squares, on what a frozen router sends them, [M, D]."""
    size = v_MD.shape[1]
    x_BD, y_B = truth.draw(400 * size, stream(seed, "experts"))
    sent_B = (x_BD @ v_MD.T).argmax(-1)
    return torch.stack(
        [
            torch.linalg.lstsq(x_BD[sent_B == place], y_B[sent_B == place, None]).solution[:, 0]
            for place in range(len(v_MD))
        ]
    )


def of_answers(share_BM: Tensor, error_BM: Tensor) -> Tensor:
    """Give the loss expected where the router draws who answers (DDOME's ``sumloss``), [B]."""
    return (share_BM * error_BM**2).sum(-1)


def of_mixture(share_BM: Tensor, error_BM: Tensor) -> Tensor:
    """Give the loss of the mixed answer, [B]."""
    return (share_BM * error_BM).sum(-1) ** 2


def descend(
    v_MD: Tensor, w_MD: Tensor, truth: Truth, seed: int, *, joint: bool, loss: Loss = of_answers
) -> None:
    """Fit the router, and jointly the experts, in place, by Adam with a softmax router."""
    rng, rule = stream(seed, "descend"), Adam(RATE)
    moved = [v_MD, w_MD] if joint else [v_MD]
    optimizer_state = [rule.start(tensor) for tensor in moved]
    for tensor in moved:
        tensor.requires_grad_()
    for _ in range(STEPS):
        x_BD, y_B = truth.draw(BATCH, rng)
        share_BM = (x_BD @ v_MD.T).softmax(-1)
        error_BM = y_B[:, None] - x_BD @ w_MD.T
        grads = torch.autograd.grad(loss(share_BM, error_BM).mean(), moved)
        with torch.no_grad():
            for tensor, grad, slot in zip(moved, grads, optimizer_state, strict=True):
                rule.update_in_place(tensor, grad, slot, 1.0)
    for tensor in moved:
        tensor.requires_grad_(requires_grad=False)


def left(v_MD: Tensor, w_MD: Tensor, truth: Truth, seed: int) -> float:
    """Give the loss on rows held out, answered by the best expert, over that of answering 0."""
    x_BD, y_B = truth.draw(HELD_OUT, stream(seed, "held out"))
    return float(((top1(v_MD, w_MD, x_BD) - y_B) ** 2).mean() / (y_B**2).mean())


def apart(size: int, count: int, seed: int) -> float:
    """Fit the experts under a frozen random router, then the router; give the loss left."""
    truth, v_MD = truth_of(size, count, seed), first_router(size, count, seed)
    w_MD = experts_of(v_MD, truth, seed)
    descend(v_MD, w_MD, truth, seed, joint=False)
    return left(v_MD, w_MD, truth, seed)


def together(size: int, count: int, seed: int, loss: Loss = of_answers) -> float:
    """Fit both jointly; give the loss left."""
    truth, v_MD = truth_of(size, count, seed), first_router(size, count, seed)
    w_MD = torch.randn(count, size, generator=stream(seed, "first experts")) / size**0.5
    descend(v_MD, w_MD, truth, seed, joint=True, loss=loss)
    return left(v_MD, w_MD, truth, seed)


def distance(size: int, count: int, seed: int) -> float:
    """Give the least squared distance of an expert, fitted under a random router, to a true one."""
    truth = truth_of(size, count, seed)
    w_MD = experts_of(first_router(size, count, seed), truth, seed)
    return float(torch.cdist(w_MD, truth.w).min() ** 2)
