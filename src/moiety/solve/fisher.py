"""How well a worker knows each of its parameters: the diagonal of the empirical Fisher.

Matena and Raffel, *Merging Models with Fisher-Weighted Averaging*, arXiv:2111.09832.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moiety.core.rows import split_batch
from moiety.core.solver import Descent
from moiety.core.state import Update
from moiety.core.types import Batch, Carry, Params
from moiety.ops.trees import map_tree
from moiety.solve.wrapped import FinishedJob, Wrapped

ROWS_AT_ONCE = 32
"""Rows whose gradients are held at once, each as large as the piece."""


@dataclass(frozen=True)
class FisherDiagonal:
    """Mean over all rows of the squared gradient of a row's loss, after the last step.

    The loss is that of the row's own label (the empirical Fisher), not of labels that the model
    draws.

    Args:
        floor: added to every entry, so that what no row says anything of is a plain mean; far below
            it, weights would be ratios of rounding errors.
    """

    floor: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.floor < math.inf:
            raise ValueError(f"floor={self.floor}; choose a finite number above 0")

    def look(self, solve: Descent, carry: Carry, batch: Batch, role: str, /) -> Params:
        def value(params: Params, row: Batch) -> Tensor:
            one = {name: column[None] for name, column in row.items()}
            return solve.loss(params, carry, one, role)[0]

        each = torch.vmap(torch.func.grad(value), in_dims=(None, 0))
        total: Params = {}
        for some in split_batch(batch, -(-len(batch["weight"]) // ROWS_AT_ONCE)):
            grads = each(carry["params"], some)
            squares = {name: grad.square().sum(0) for name, grad in grads.items()}
            total = map_tree(torch.add, total, squares) if total else squares
        return total

    def end(self, update: Update, done: FinishedJob, /) -> Update:
        known = {n: t + self.floor for n, t in done.mean().items() if n in update.piece}
        return replace(update, precision=replace(update.precision, diagonal=known))


def weigh_by_fisher(solve: Descent, floor: float) -> Wrapped:
    """Send the Fisher diagonal along with a piece, as its precision."""
    fisher = FisherDiagonal(floor)
    return Wrapped(solve, look=fisher.look, end=fisher.end, weighs=True)
