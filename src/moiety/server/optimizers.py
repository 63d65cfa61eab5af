"""The server's optimiser: what was merged, less what was there, is a gradient to descend on.

Reddi et al., *Adaptive Federated Optimization*, arXiv:2003.00295, algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from moiety.core.types import Memory, Params


class ServerRule(Protocol):
    """How far to move, given the difference and the optimiser's memory of one parameter."""

    @property
    def optimizer_state(self) -> Mapping[str, float]:
        """Name the memories this rule keeps, each the shape of the parameter, with their start."""
        ...

    def __call__(self, delta: Tensor, optimizer_state: tuple[Tensor, ...], /) -> tuple[Tensor, ...]:
        """Give the step, then the new memories."""
        ...


@dataclass(frozen=True)
class Momentum:
    """SGD on the differences, heavy ball or Nesterov (as DiLoCo uses, arXiv:2311.08105)."""

    lr: float = 1.0
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.lr < math.inf or not 0 <= self.momentum < 1:
            raise ValueError(
                f"the server's lr={self.lr}, momentum={self.momentum}; choose a finite rate of at "
                "least 0, and a momentum of at least 0 and below 1"
            )

    @property
    def optimizer_state(self) -> Mapping[str, float]:
        return {"velocity": 0.0}

    def __call__(self, delta: Tensor, optimizer_state: tuple[Tensor, ...], /) -> tuple[Tensor, ...]:
        velocity = optimizer_state[0] * self.momentum + delta
        ahead = delta + velocity * self.momentum if self.nesterov else velocity
        return ahead * self.lr, velocity


@dataclass(frozen=True)
class Adaptive:
    """Divide a mean of the differences by the root of their second moment, as Adam does.

    Without bias correction, as in the paper.

    Args:
        second: from the second moment and the new square of the difference, the next.
        lr: learning rate of the server.
        beta1: memory of the mean.
        tau: adaptivity; the second moment starts at its square.
    """

    second: Callable[[Tensor, Tensor], Tensor]
    lr: float
    beta1: float
    tau: float

    def __post_init__(self) -> None:
        if not 0 <= self.lr < math.inf or not 0 <= self.beta1 < 1 or not 0 < self.tau < math.inf:
            raise ValueError(
                f"the server's lr={self.lr}, beta1={self.beta1}, tau={self.tau}; choose a finite "
                "rate of at least 0, beta1 of at least 0 and below 1, a finite tau above 0"
            )

    @property
    def optimizer_state(self) -> Mapping[str, float]:
        return {"mean": 0.0, "square": self.tau**2}

    def __call__(self, delta: Tensor, optimizer_state: tuple[Tensor, ...], /) -> tuple[Tensor, ...]:
        mean = optimizer_state[0] * self.beta1 + delta * (1 - self.beta1)
        square = self.second(optimizer_state[1], delta.square())
        return self.lr * mean / (square.sqrt() + self.tau), mean, square


def fedadagrad(lr: float = 0.01, *, beta1: float = 0.0, tau: float = 1e-3) -> Adaptive:
    """Choose FedAdagrad: the second moment only grows."""
    return Adaptive(torch.add, lr, beta1, tau)


def fedadam(
    lr: float = 0.01, *, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
) -> Adaptive:
    """Choose FedAdam: the second moment forgets."""
    return Adaptive(lambda old, new: old * beta2 + new * (1 - beta2), lr, beta1, tau)


def fedyogi(
    lr: float = 0.01, *, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
) -> Adaptive:
    """Choose FedYogi: the second moment moves by a share of the new square at a time."""
    return Adaptive(
        lambda old, new: old - (1 - beta2) * new * torch.sign(old - new), lr, beta1, tau
    )


@dataclass(frozen=True)
class PseudoGradientServer:
    """Apply a rule to what somebody held; other coordinates and their memory stay.

    Args:
        rule: the rule.
    """

    rule: ServerRule

    def __call__(
        self, params: Params, merged: Params, held: Params, memory: Memory, /
    ) -> tuple[Params, Memory]:
        moved = dict(params)
        kept = {slot: dict(memory.get(slot, {})) for slot in self.rule.optimizer_state}
        for name, mask in held.items():
            old = params[name]
            if not old.is_floating_point():
                moved[name] = merged[name]
                continue
            before = tuple(
                kept[slot].get(name, torch.full_like(old, start))
                for slot, start in self.rule.optimizer_state.items()
            )
            step, *after = self.rule(merged[name] - old, before)
            moved[name] = torch.where(mask, old + step, old)
            for slot, was, now in zip(self.rule.optimizer_state, before, after, strict=True):
                kept[slot][name] = torch.where(mask, now, was)
        return moved, kept
