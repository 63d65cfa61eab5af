"""SCAFFOLD's control variates: the drift of a worker's gradients is taken out of them.

Karimireddy et al., *SCAFFOLD: Stochastic Controlled Averaging for Federated Learning*,
arXiv:1910.06378, algorithm 1 with option II.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moiety.core.solver import Descent
from moiety.core.state import Job, Update
from moiety.core.types import Carry, Memory, Params
from moiety.ops.optim import SGD
from moiety.solve.wrapped import FinishedJob, Wrapped

CONTROL = "control"
"""The section of control variates: the server's, told with the piece, and the worker's own."""


def measure_reach(rule: SGD, rates: Tensor) -> float:
    """Say how far a gradient that is always 1 moves a parameter, without weight decay.

    What a parameter moved, divided by this, is the mean of its gradients, weighed as the steps
    used them; for plain SGD it is K times the learning rate.

    >>> measure_reach(SGD(0.5), torch.ones(4)), measure_reach(SGD(0.5, 0.5), torch.ones(2))
    (2.0, 1.25)
    """
    velocity = total = 0.0
    for rate in rates.tolist():
        velocity = velocity * rule.momentum + 1.0
        total += rate * (1.0 + rule.momentum * velocity if rule.nesterov else velocity)
    return total * rule.lr


@dataclass(frozen=True)
class ControlVariate:
    """Descend along ``g - c_i + c``, and make the mean gradient the next ``c_i``.

    Args:
        rule: how every parameter moves.
    """

    rule: SGD

    def begin(self, carry: Carry, job: Job, memory: Memory, /) -> Carry:
        told = job.optimizer_state[CONTROL]
        none = {name: torch.zeros_like(tensor) for name, tensor in told.items()}
        own = memory.get(CONTROL, none)
        shift = {name: tensor - own[name] for name, tensor in told.items()}
        return {**carry, CONTROL: own, "shift": shift}

    def correct(self, carry: Carry, grads: Params, /) -> Params:
        return {name: grad + carry["shift"][name] for name, grad in grads.items()}

    def end(self, update: Update, done: FinishedJob, /) -> Update:
        own, shift, sent = done.carry[CONTROL], done.carry["shift"], done.job.piece
        reach = measure_reach(self.rule, done.plan.lr)
        if reach:
            own = {n: (sent[n] - update.piece[n]) / reach - shift[n] for n in own}
        change = {name: tensor - done.carry[CONTROL][name] for name, tensor in own.items()}
        return replace(
            update,
            memory={**update.memory, CONTROL: own},
            optimizer_state={**update.optimizer_state, CONTROL: change},
        )


def control_drift(solve: Descent, rule: SGD) -> Wrapped:
    """Take the drift out of a descent all of whose parameters move by one rule."""
    control = ControlVariate(rule)
    return Wrapped(solve, control.begin, control.correct, end=control.end, keeps=True)
