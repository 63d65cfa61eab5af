"""An ordinary optimiser at the server, on the mean gradient of workers that made one step each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from moiety.core.types import Memory, Params
from moiety.ops.optim import Rule
from moiety.ops.trees import clip_norm

CLOCK, ROUNDS = "clock", "rounds"
"""The section, and the entry, that count the steps made."""


class ServerRateSchedule(Protocol):
    """Factor on the learning rate after some rounds."""

    def __call__(self, progress: float, /) -> float: ...


@dataclass(frozen=True)
class GradientServer:
    """Take back the gradient that one plain step of size ``lr`` made, and let a rule use it.

    Args:
        rule: the optimiser.
        lr: of the workers' step.
        lr_schedule: factor on the rule's rate, by rounds made.
        clip: the largest norm of the gradient, or None.
    """

    rule: Rule
    lr: float
    lr_schedule: ServerRateSchedule
    clip: float | None = None

    def __call__(
        self, params: Params, merged: Params, held: Params, memory: Memory, /
    ) -> tuple[Params, Memory]:
        clock = memory.get(CLOCK, {}).get(ROUNDS, torch.zeros(()))
        grads = {
            n: (params[n] - merged[n]) / self.lr for n in held if params[n].is_floating_point()
        }
        grads = clip_norm(grads, self.clip) if self.clip is not None else grads
        moved, kept = dict(merged), {CLOCK: {ROUNDS: clock + 1}}
        for name, grad in grads.items():
            fresh = dict(self.rule.start(params[name]))
            optimizer_state = {slot: memory.get(slot, {}).get(name, t) for slot, t in fresh.items()}
            rate = self.lr_schedule(float(clock))
            moved[name], after = self.rule.update(params[name], grad, optimizer_state, rate)
            for slot, tensor in after.items():
                kept.setdefault(slot, {})[name] = tensor
        return moved, kept
