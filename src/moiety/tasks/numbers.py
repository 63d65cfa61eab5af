"""One or several numbers for each row.

Letters: B rows, N rows, K numbers (of a mixture: E experts at hand).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from moiety.core.errors import UnknownNameError
from moiety.core.objective import Metric, describe_kind
from moiety.tasks.metrics import MAE, R2, RMSE
from moiety.tasks.targets import check_finite_numbers, check_width

STRATA = 5
"""Kinds of rows by their first number: fifths of the training rows."""


@dataclass(frozen=True)
class NumbersLoss:
    """The loss of one number, of an output ``o`` and a target ``t``.

    Args:
        loss: of each, elementwise.
        surprise: -log of a density of ``t``, without constants, elementwise.
        standardised: whether targets are standardised first; else the output is the log of the
            mean, relative to that of the training rows.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    surprise: Callable[[Tensor, Tensor], Tensor]
    standardised: bool = True


def squared(o: Tensor, t: Tensor) -> Tensor:
    """Square the error."""
    return (o - t).square()


def absolute(o: Tensor, t: Tensor) -> Tensor:
    """Take the size of the error."""
    return (o - t).abs()


def huber(o: Tensor, t: Tensor) -> Tensor:
    """Give half the square of errors up to 1, and grow by 1 a unit beyond."""
    return F.huber_loss(o, t, reduction="none")


def poisson(o: Tensor, t: Tensor) -> Tensor:
    """Give -log of Poisson's density of counts whose log mean is ``o``, without ``log t!``."""
    return o.exp() - t * o


NUMBER_LOSSES: Mapping[str, NumbersLoss] = {
    "squared": NumbersLoss(squared, lambda o, t: 0.5 * squared(o, t)),
    "absolute": NumbersLoss(absolute, absolute),
    "huber": NumbersLoss(huber, huber),
    "poisson": NumbersLoss(poisson, poisson, standardised=False),
}


@dataclass(frozen=True)
class Numbers:
    """Numbers, in their own unit outside and standardised inside.

    The loss of a row is the mean over its numbers. Of a mixture, experts are densities (normal,
    Laplace, Huber's, each of scale 1 in standardised units; Poisson's) of all numbers of a row.

    Args:
        names: of the numbers, in the order of outputs.
        loss: ``squared``, ``absolute``, ``huber`` or ``poisson`` (counts; outputs are logs).
        shift: of each number, its mean over the training rows; 0 each where it is empty.
        scale: of each number, likewise its standard deviation; 1 each where it is empty.
        edges: of the first number, between the fifths of the training rows.
        metrics: how answers are scored.

    >>> price = Numbers(("price",)).fit(torch.tensor([1.0, 3.0]))
    >>> price.shift, price.scale, price.answer(torch.zeros(1, 1)).tolist()
    ((2.0,), (1.0,), [[2.0]])
    """

    names: tuple[str, ...]
    loss: str = "squared"
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    metrics: tuple[Metric, ...] = (RMSE, MAE, R2)

    name: str = field(default="numbers", init=False)
    categorical: bool = field(default=False, init=False)
    log_probabilities: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.loss not in NUMBER_LOSSES:
            raise UnknownNameError(
                f"loss {self.loss!r} of numbers; choose one of {tuple(NUMBER_LOSSES)}"
            )
        if not self.names:
            raise ValueError("numbers without names; name each number that is predicted")

    @property
    def outputs(self) -> int:
        return len(self.names)

    @property
    def strata(self) -> tuple[str, ...]:
        if not self.edges:
            return ()
        ends = [f"{edge:.4g}" for edge in self.edges]
        inner = [f"{low} to {high}" for low, high in pairwise(ends)]
        return (f"below {ends[0]}", *inner, f"from {ends[-1]}")

    def fit(self, y: Tensor, /) -> Numbers:
        columns = y.reshape(len(y), -1).double().cpu()
        if not len(columns):
            raise ValueError("no rows to standardise the target on; give at least one")
        mean, std = columns.mean(0), columns.std(0, correction=0)
        flat = (columns.amax(0) == columns.amin(0)) | (std == 0)
        steps = torch.arange(1, STRATA, dtype=torch.float64) / STRATA
        edges = columns[:, 0].quantile(steps).unique().tolist()
        if NUMBER_LOSSES[self.loss].standardised:
            scale = torch.where(flat, torch.ones_like(std), std)
        else:
            mean, scale = mean.clamp_min(1e-6).log(), torch.ones_like(std)
        return replace(
            self, shift=tuple(mean.tolist()), scale=tuple(scale.tolist()), edges=tuple(edges)
        )

    def check(self, y: Tensor, /) -> Tensor:
        if y.dtype == torch.bool or y.is_complex():
            raise ValueError(f"y is {y.dtype}, but the objective is numbers; give floats")
        wide = y[:, None] if y.ndim == 1 else y
        if wide.ndim != 2 or wide.shape[1] != self.outputs:
            raise ValueError(
                f"y has shape {list(y.shape)}, but a row has {self.outputs} numbers "
                f"{self.names}: give [N, {self.outputs}]"
            )
        check_finite_numbers(wide)
        if not NUMBER_LOSSES[self.loss].standardised and (wide < 0).any():
            raise ValueError(
                f"y holds {float(wide.min())}, but loss 'poisson' is of counts; give targets of "
                "at least 0, or choose squared"
            )
        return wide.float()

    def stratify(self, y: Tensor, /) -> Tensor:
        first = y.reshape(len(y), -1)[:, 0].contiguous()
        edges = torch.tensor(self.edges, dtype=first.dtype, device=first.device)
        return torch.bucketize(first, edges, right=True)

    def bring(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Bring targets to the shape of outputs, [..., B, K], and both to the unit inside."""
        t = y.reshape(len(y), -1).to(o.dtype)
        if not NUMBER_LOSSES[self.loss].standardised:
            return o + self.tensor(self.shift, 0.0, o), t.expand_as(o)
        t = (t - self.tensor(self.shift, 0.0, t)) / self.tensor(self.scale, 1.0, t)
        return o, t.expand_as(o)

    def widen(self, out: Tensor, dims: int) -> Tensor:
        """Take outputs [..., K]; of a model that gives one number without an axis too."""
        return check_width(out[..., None] if out.ndim == dims - 1 else out, self.outputs, self.name)

    def tensor(self, values: tuple[float, ...], default: float, like: Tensor) -> Tensor:
        """Make a tensor of a value for each number, [K]."""
        known = values or (default,) * self.outputs
        return torch.tensor(known, dtype=like.dtype, device=like.device)

    def rows(self, out: Tensor, y: Tensor, /) -> Tensor:
        return NUMBER_LOSSES[self.loss].loss(*self.bring(self.widen(out, 2), y)).mean(-1)

    def mix(self, out: Tensor, log_gate: Tensor, y: Tensor, /) -> Tensor:
        surprise_EB = NUMBER_LOSSES[self.loss].surprise(*self.bring(self.widen(out, 3), y)).sum(-1)
        return -torch.logsumexp(log_gate - surprise_EB.T, -1)

    def answer(self, out: Tensor, /) -> Tensor:
        return self.unscale(self.widen(out, 2))

    def unscale(self, o: Tensor) -> Tensor:
        """Bring outputs to the target's unit."""
        if not NUMBER_LOSSES[self.loss].standardised:
            return (o + self.tensor(self.shift, 0.0, o)).exp()
        return o * self.tensor(self.scale, 1.0, o) + self.tensor(self.shift, 0.0, o)

    def answer_mix(self, out: Tensor, log_gate: Tensor, /) -> Tensor:
        return (log_gate.exp().T[:, :, None] * self.unscale(self.widen(out, 3))).sum(0)

    def decide(self, answer: Tensor, /) -> Tensor:
        return answer

    def select(self, answer: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        return answer, y

    def to_json(self) -> Mapping[str, Any]:
        return {
            **describe_kind(self),
            "loss": self.loss,
            "shift": list(self.shift),
            "scale": list(self.scale),
            "edges": list(self.edges),
        }
