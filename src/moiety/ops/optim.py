"""SGD, momentum, Adam and AdamW as values: pure, and once more in place for the fast engines.

Both ways make the same floating-point operations in the same order, so they agree bit for bit,
and both agree with ``torch.optim``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

OptimizerState = Mapping[str, Tensor]


def subtract_step(param: Tensor, step: Tensor, rate: Tensor | float) -> Tensor:
    """Subtract a step, rounded as ``sub_`` in place rounds it where the rate is a number."""
    if isinstance(rate, Tensor):
        return param - step * rate.to(step.dtype)
    return torch.sub(param, step, alpha=rate)


class Rule(Protocol):
    """How a parameter moves along its gradient; ``lr`` is a factor on the rule's own rate."""

    @property
    def elementwise(self) -> bool:
        """Whether each entry moves alone, with memory that may be stacked, cut and averaged."""
        ...

    def start(self, param: Tensor, /) -> OptimizerState:
        """Make the memory of one parameter."""
        ...

    def update(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: Tensor | float, /
    ) -> tuple[Tensor, OptimizerState]:
        """Move one parameter; nothing is changed in place."""
        ...

    def update_in_place(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: float, /
    ) -> None:
        """Move one parameter and its memory."""
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum as in ``torch.optim.SGD`` (dampening 0)."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.lr < math.inf or not 0 <= self.momentum < 1:
            raise ValueError(f"SGD needs a finite lr >= 0 and 0 <= momentum < 1, got {self}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"SGD needs a finite weight_decay >= 0, got {self}")
        if self.nesterov and not self.momentum:
            raise ValueError(f"Nesterov momentum needs momentum > 0, got {self}")

    @property
    def elementwise(self) -> bool:
        return True

    def start(self, param: Tensor, /) -> OptimizerState:
        return {"velocity": torch.zeros_like(param)} if self.momentum else {}

    def update(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: Tensor | float, /
    ) -> tuple[Tensor, OptimizerState]:
        if self.weight_decay:
            grad = grad + param * self.weight_decay
        if not self.momentum:
            return subtract_step(param, grad, lr * self.lr), optimizer_state
        velocity = optimizer_state["velocity"] * self.momentum + grad
        grad = grad + velocity * self.momentum if self.nesterov else velocity
        return subtract_step(param, grad, lr * self.lr), {"velocity": velocity}

    def update_in_place(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: float, /
    ) -> None:
        if self.weight_decay:
            grad = grad + param * self.weight_decay
        if self.momentum:
            velocity = optimizer_state["velocity"].mul_(self.momentum).add_(grad)
            grad = grad + velocity * self.momentum if self.nesterov else velocity
        param.sub_(grad, alpha=lr * self.lr)


@dataclass(frozen=True)
class Adam:
    """Adam, or AdamW where the decay is decoupled; as in ``torch.optim`` without AMSGrad."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.lr < math.inf or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"Adam needs a finite lr >= 0 and 0 <= betas < 1, got {self}")
        if not 0 <= self.weight_decay < math.inf or not 0 <= self.eps < math.inf:
            raise ValueError(f"Adam needs finite weight_decay and eps >= 0, got {self}")

    @property
    def elementwise(self) -> bool:
        return True

    def start(self, param: Tensor, /) -> OptimizerState:
        # The two products stay scalars of the parameter, so that they stack over workers.
        one = torch.ones((), dtype=param.dtype, device=param.device)
        zero = torch.zeros_like(param)
        return {"mean": zero, "square": zero.clone(), "left1": one, "left2": one.clone()}

    def update(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: Tensor | float, /
    ) -> tuple[Tensor, OptimizerState]:
        (b1, b2), rate = self.betas, lr * self.lr
        if self.weight_decay and self.decoupled:
            param = param - param * (rate * self.weight_decay)
        elif self.weight_decay:
            grad = grad + param * self.weight_decay
        mean = optimizer_state["mean"] * b1 + grad * (1 - b1)
        square = optimizer_state["square"] * b2 + grad * grad * (1 - b2)
        left1, left2 = optimizer_state["left1"] * b1, optimizer_state["left2"] * b2
        step = (mean / (1 - left1)) / ((square / (1 - left2)).sqrt() + self.eps)
        moved = {"mean": mean, "square": square, "left1": left1, "left2": left2}
        return subtract_step(param, step, rate), moved

    def update_in_place(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: float, /
    ) -> None:
        # As ``update``, operation by operation, with two tensors besides at the most.
        (b1, b2), rate = self.betas, lr * self.lr
        if self.weight_decay and self.decoupled:
            param.sub_(param * (rate * self.weight_decay))
        elif self.weight_decay:
            grad = (param * self.weight_decay).add_(grad)
        optimizer_state["mean"].mul_(b1).add_(grad * (1 - b1))
        optimizer_state["square"].mul_(b2).add_((grad * grad).mul_(1 - b2))
        left1, left2 = optimizer_state["left1"].mul_(b1), optimizer_state["left2"].mul_(b2)
        spread = (optimizer_state["square"] / (1 - left2)).sqrt_().add_(self.eps)
        param.sub_((optimizer_state["mean"] / (1 - left1)).div_(spread), alpha=rate)


@dataclass(frozen=True)
class Phased:
    """Another rule in some of the steps of a round; in the others the parameter stands still.

    Args:
        rule: how the parameter moves.
        first: the first step in which it does, counted from 0.
        last: the first step in which it does no more, or None.
    """

    rule: Rule
    first: int
    last: int | None = None

    @property
    def elementwise(self) -> bool:
        return self.rule.elementwise

    def start(self, param: Tensor, /) -> OptimizerState:
        count = torch.zeros((), dtype=torch.int64, device=param.device)
        return {**self.rule.start(param), "step": count}

    def is_moving(self, step: Tensor) -> Tensor:
        """Say whether the parameter moves in a step, bool []."""
        begun = step >= self.first
        return begun if self.last is None else begun & (step < self.last)

    def update(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: Tensor | float, /
    ) -> tuple[Tensor, OptimizerState]:
        held = {name: t for name, t in optimizer_state.items() if name != "step"}
        step = optimizer_state["step"]
        moved, after = self.rule.update(param, grad, held, lr)
        here = self.is_moving(step)
        kept = {name: torch.where(here, tensor, held[name]) for name, tensor in after.items()}
        return torch.where(here, moved, param), {**kept, "step": step + 1}

    def update_in_place(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: float, /
    ) -> None:
        if bool(self.is_moving(optimizer_state["step"])):
            held = {name: t for name, t in optimizer_state.items() if name != "step"}
            self.rule.update_in_place(param, grad, held, lr)
        optimizer_state["step"].add_(1)


def adamw(lr: float, weight_decay: float = 0.01, betas: tuple[float, float] = (0.9, 0.999)) -> Adam:
    """Choose AdamW: Adam with decoupled weight decay. Loshchilov and Hutter, arXiv:1711.05101."""
    return Adam(lr, betas, weight_decay=weight_decay, decoupled=True)
