"""A loss of the user's: one of torch's, or any function of outputs and targets.

Letters: B rows, N rows, O outputs, K experts at hand.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

from moiety.core.objective import Metric
from moiety.tasks.metrics import divide_totals, make_totals

TorchLoss = Callable[[Tensor, Tensor], Tensor]
"""Outputs [B, ...] and targets [B, ...] -> their loss."""


@dataclass(frozen=True)
class OwnLoss:
    """A loss of your own; answers are the outputs themselves, scored by the mean loss of a row.

    Args:
        loss: a loss of ``torch.nn``, of which each row's value is taken before any mean (so that
            class weights are not divided by their sum in a batch); or a function that is called
            on one row at a time, [1, ...].
        names: of the outputs.
        metrics: how answers are scored; by default by the mean loss of a row.

    Raises:
        ValueError: for a cross-entropy of fewer than two outputs.

    >>> OwnLoss(torch.nn.L1Loss(), ("u",)).rows(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))
    tensor([1., 3.])
    """

    loss: TorchLoss | None
    names: tuple[str, ...]
    metrics: tuple[Metric, ...] = field(default=(), compare=False)

    name: str = field(default="own", init=False)
    categorical: bool = field(default=False, init=False)
    log_probabilities: bool = field(default=False, init=False)
    strata: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        if isinstance(self.loss, torch.nn.CrossEntropyLoss) and len(self.names) < 2:
            raise ValueError(
                f"CrossEntropyLoss of the outputs {self.names} is 0 whatever they are; name an "
                "output for each class, or take torch.nn.BCEWithLogitsLoss"
            )
        if not self.metrics:
            loss = Metric("loss", self.add_losses, divide_totals, higher_is_better=False)
            object.__setattr__(self, "metrics", (loss,))

    @property
    def outputs(self) -> int:
        return len(self.names)

    def add_losses(self, answer: Tensor, y: Tensor) -> Tensor:
        """Add the losses of rows, and count them."""
        return make_totals(self.rows(answer, y).double().sum(), len(y))

    def fit(self, y: Tensor, /) -> OwnLoss:
        del y
        return self

    def check(self, y: Tensor, /) -> Tensor:
        if y.is_floating_point() and not torch.isfinite(y).all():
            raise ValueError("y holds a number that is not finite; leave such rows out")
        return y

    def stratify(self, y: Tensor, /) -> Tensor:
        return torch.zeros(len(y), dtype=torch.int64, device=y.device)

    def rows(self, out: Tensor, y: Tensor, /) -> Tensor:
        if self.loss is None:
            raise ValueError("this objective was loaded without its loss; it can answer alone")
        out, y = align_rows(out, y)
        if isinstance(self.loss, _Loss):
            each = copy.copy(self.loss)
            each.reduction = "none"
            losses = each(out, y)
            return losses.flatten(1).mean(1) if losses.ndim > 1 else losses
        loss = self.loss
        one = torch.vmap(lambda o, t: loss(o[None], t[None]))(out, y)
        return one.reshape(len(y))

    def mix(self, out: Tensor, log_gate: Tensor, y: Tensor, /) -> Tensor:
        losses_BK = torch.stack([self.rows(one, y) for one in out], -1)
        return -torch.logsumexp(log_gate - losses_BK, -1)

    def answer(self, out: Tensor, /) -> Tensor:
        return out

    def answer_mix(self, out: Tensor, log_gate: Tensor, /) -> Tensor:
        gate = log_gate.exp().T
        return (gate.reshape(*gate.shape, *[1] * (out.ndim - 2)) * out).sum(0)

    def decide(self, answer: Tensor, /) -> Tensor:
        return answer

    def select(self, answer: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        return answer, y

    def to_json(self) -> Mapping[str, Any]:
        return {"kind": self.name, "names": list(self.names)}


def align_rows(out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Give one number a row the same shape on both sides, or torch would pair rows with all others.

    >>> [tuple(one.shape) for one in align_rows(torch.zeros(3, 1), torch.zeros(3))]
    [(3, 1), (3, 1)]
    """
    if out.ndim == y.ndim + 1 and out.shape[-1] == 1:
        return out, y[..., None]
    if y.ndim == out.ndim + 1 and y.shape[-1] == 1:
        return out[..., None], y
    return out, y


def answer_alone(names: tuple[str, ...]) -> OwnLoss:
    """Build the objective of a loaded model, whose loss was not saved."""
    return OwnLoss(None, names)
