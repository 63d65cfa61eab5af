"""Losses of a model after one step of its own: first-order meta-learning.

Fallah, Mokhtari and Ozdaglar, arXiv:2002.07948, equation 7 without the Hessian. Letters: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.tasks.objectives import Losses, weigh_rows

HALVES = 2


@dataclass(frozen=True)
class AdaptedLosses:
    """Score each half of a batch by the model after a step on the other half.

    Halves are every other row, so that rows without weight at the end of a batch change neither.
    The step within is a constant to the gradient, which is so that at the adapted model: the
    first-order approximation. A batch of one row is scored as it is.

    Args:
        losses: of the model.
        alpha: rate of the step within.
    """

    losses: Losses
    alpha: float

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        size = len(batch["y"])
        if size < HALVES:
            return self.losses(params, batch, kept)
        parts = [cut_rows(batch, slice(k, None, HALVES)) for k in range(HALVES)]
        steps = [self.find_step(params, part, kept) for part in parts]
        found = [
            self.losses({n: t - steps[1 - k][n] for n, t in params.items()}, part, kept)[0]
            for k, part in enumerate(parts)
        ]
        back = torch.cat([torch.arange(k, size, HALVES) for k in range(HALVES)]).argsort()
        return torch.cat(found).index_select(0, back.to(found[0].device)), {}

    def find_step(self, params: Params, part: Batch, kept: Kept) -> Params:
        """Find the step on some rows: ``alpha`` times the gradient of their mean loss."""

        def mean(moving: Params) -> Tensor:
            losses_B = weigh_rows(self.losses(moving, part, kept)[0], part)
            weight_B = part["weight"].to(losses_B.dtype)
            return torch.dot(losses_B, weight_B) / weight_B.sum().clamp_min(1e-12)

        still = {name: tensor.detach() for name, tensor in params.items()}
        grads = torch.func.grad(mean)(still)
        return {name: self.alpha * grad.detach() for name, grad in grads.items()}


def cut_rows(batch: Batch, where: slice) -> Batch:
    """Cut rows out of a batch; ``seed`` goes to each."""
    return {name: c if name == "seed" else c[where] for name, c in batch.items()}
