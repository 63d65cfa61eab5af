"""Any class of ``torch.optim`` as a rule: its memory is values, and it moves one parameter."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from moiety.ops.optim import OptimizerState

MakeOptimizer = Callable[..., Optimizer]
"""A class of ``torch.optim``, or a partial of one with options."""

BEGUN = "torch.begun"
"""Whether a first step was made: before it the optimiser has no memory, and its zeros are none."""

AHEAD = "torch."
"""What the names of its memory begin with, so that they are nobody else's."""


@dataclass(frozen=True)
class TorchRule:
    """Move a parameter as an optimiser of torch does, made anew for each step with its memory.

    Args:
        make: the class, or a partial of it.
        lr: learning rate.
        options: other arguments.
    """

    make: MakeOptimizer
    lr: float
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def elementwise(self) -> bool:
        """Whether memory may be stacked, cut and averaged: of a foreign class nobody knows."""
        return False

    def start(self, param: Tensor, /) -> OptimizerState:
        """Make the memory of a parameter, whose names and shapes a step on zeros tells.

        Raises:
            ValueError: for a class that cannot move one parameter by its gradient alone.
        """
        probe = torch.zeros_like(param)
        try:
            found = self.step(probe, torch.zeros_like(param), {}, 1.0)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"optimizer {name_optimizer(self.make)} cannot step on a parameter of shape "
                f"{list(param.shape)} ({error}); choose another"
            ) from error
        odd = [name for name, value in found.items() if not isinstance(value, Tensor)]
        if odd:
            raise ValueError(
                f"optimizer {name_optimizer(self.make)} remembers {odd}, which are no tensors and "
                "cannot be kept; choose another"
            )
        zeros = {f"{AHEAD}{name}": torch.zeros_like(value) for name, value in found.items()}
        return {**zeros, BEGUN: torch.zeros(())}

    def update(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: Tensor | float, /
    ) -> tuple[Tensor, OptimizerState]:
        moved = param.detach().clone()
        memory = {name: value.clone() for name, value in optimizer_state.items()}
        self.update_in_place(moved, grad, memory, float(lr))
        return moved, memory

    def update_in_place(
        self, param: Tensor, grad: Tensor, optimizer_state: OptimizerState, lr: float, /
    ) -> None:
        known = bool(optimizer_state[BEGUN])
        memory = {name.removeprefix(AHEAD): value for name, value in optimizer_state.items()}
        begun = memory.pop(BEGUN.removeprefix(AHEAD))
        found = self.step(param, grad, memory if known else {}, lr)
        for name, value in found.items():
            memory[name].copy_(value)
        begun.fill_(1.0)

    def step(
        self, param: Tensor, grad: Tensor, memory: Mapping[str, Tensor], lr: float
    ) -> Mapping[str, Any]:
        """Make one step in place; give the memory after it, without what is nothing."""
        with torch.no_grad():
            leaf = param.detach()
            leaf.grad = grad.detach()
            optimizer = self.make([leaf], lr=lr * self.lr, **self.options)
            if memory:  # torch counts steps on the CPU wherever the parameter lies
                optimizer.state[leaf] = {
                    name: value.cpu() if name == "step" else value for name, value in memory.items()
                }
            optimizer.step()
        found = optimizer.state[leaf]
        return {name: value for name, value in found.items() if value is not None}


def find_optimizer(name: str) -> MakeOptimizer | None:
    """Find a class of ``torch.optim`` by its name; None where there is none.

    >>> find_optimizer("RMSprop"), find_optimizer("rmsprop"), find_optimizer("Optimizer")
    (<class 'torch.optim.rmsprop.RMSprop'>, None, None)
    """
    found = getattr(torch.optim, name, None)
    is_class = isinstance(found, type) and issubclass(found, Optimizer)
    return found if is_class and found is not Optimizer else None


def name_optimizer(make: MakeOptimizer) -> str:
    """Name a class, with its options where it is a partial.

    >>> name_optimizer(functools.partial(torch.optim.RMSprop, alpha=0.9))
    'RMSprop(alpha=0.9)'
    """
    if isinstance(make, functools.partial):
        options = ", ".join(f"{name}={value!r}" for name, value in make.keywords.items())
        return f"{name_optimizer(make.func)}({options})"
    return getattr(make, "__name__", repr(make))
