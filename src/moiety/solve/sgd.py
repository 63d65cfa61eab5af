"""Local descent: some epochs or steps of minibatches on a worker's own rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor

from moiety.core.state import NO_SEEDS, Job, Plan, Update, require_rows
from moiety.core.streams import hash_address, stream
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.ops.optim import Rule
from moiety.ops.trees import clip_norm
from moiety.solve.lr_schedule import RateSchedule, constant_rate
from moiety.solve.plan import shuffle_rows, shuffle_windows
from moiety.tasks.objectives import Losses, Term, weigh_rows

OWN = "own"
"""The section of worker memory that holds personal parameters."""


OPTIMIZER_STATES = ("reset", "keep", "send")
"""What may become of the optimiser's memory between rounds."""


@dataclass(frozen=True)
class LocalSGD:
    """Descend on the worker's own rows; the server gets absolute values back.

    Args:
        losses: role -> one loss a row. A worker without a role has the role ``""``.
        rules: patterns of parameter names -> how they move; the first that fits counts.
        batch: rows in a step; the last of an epoch may be short.
        window: neighbouring rows that are shuffled together; 0 for all.
        epochs: passes over the rows; 0 for as many as ``steps`` need.
        steps: a cap on steps in a round, or None.
        terms: penalties added to the loss.
        lr_schedule: factor on the learning rates, by round.
        clip: the largest norm of a gradient, or None.
        accumulate: pieces that a batch is computed in, to save memory; changes no number
            beyond rounding, but for layers that draw noise or couple rows.
        frozen: names that travel but are not trained (buffers).
        own: first values of the parameters that never leave the worker.
        optimizer_state: what becomes of the optimiser's memory: ``reset`` starts it afresh every
            round, ``keep`` leaves it at the worker, ``send`` sends it along with the piece, to be
            cut and merged like the parameters it belongs to.
        bfloat16: compute the loss in bfloat16 by autocast; parameters stay as they are.
        draws_noise: the model draws noise inside a step (dropout), from the step's seed.
        uses_batch_statistics: rows of a batch see each other (batch norm).
    """

    losses: Mapping[str, Losses]
    rules: tuple[tuple[str, Rule], ...]
    batch: int = 32
    epochs: int = 1
    steps: int | None = None
    window: int = 0
    terms: tuple[Term, ...] = ()
    lr_schedule: RateSchedule = constant_rate
    clip: float | None = None
    accumulate: int = 1
    frozen: frozenset[str] = frozenset()
    own: Params = field(default_factory=dict)
    optimizer_state: str = "reset"
    bfloat16: bool = False
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def __post_init__(self) -> None:
        least = min(self.batch, self.epochs or self.steps or 0, self.accumulate, self.steps or 1)
        if least < 1:
            raise ValueError(
                f"batch={self.batch}, epochs={self.epochs}, steps={self.steps} and "
                f"accumulate={self.accumulate} must be at least 1 (epochs=0 needs steps)"
            )

        if self.optimizer_state not in OPTIMIZER_STATES:
            raise ValueError(
                f"optimizer_state={self.optimizer_state!r}; choose one of {OPTIMIZER_STATES}"
            )
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip={self.clip} would turn gradients round; choose a norm above 0")
        if self.optimizer_state == "send" and not all(rule.elementwise for _, rule in self.rules):
            raise ValueError(
                "optimizer_state='send' cuts and averages the optimiser's memory, which nobody "
                "knows of a class of torch.optim; choose 'reset' or 'keep', or the optimisers "
                "'sgd', 'adam' or 'adamw'"
            )
        if self.window < 0:
            raise ValueError(f"window={self.window}; choose neighbouring rows, or 0 for all")

    @property
    def stackable(self) -> bool:
        return not self.draws_noise and all(rule.elementwise for _, rule in self.rules)

    @property
    def needs_statistics(self) -> bool:
        return False

    @property
    def keeps_memory(self) -> bool:
        return self.optimizer_state == "keep" or bool(self.own)

    @property
    def needs_origin(self) -> bool:
        return bool(self.terms)

    def first_optimizer_state(self, params: Params, /) -> Memory:
        if self.optimizer_state != "send":
            return {}
        sections: dict[str, dict[str, Tensor]] = {}
        for name, tensor in params.items():
            if name not in self.frozen and name not in self.own:
                for section, slot in self.rule(name).start(tensor).items():
                    sections.setdefault(section, {})[name] = slot
        return sections

    def plan(self, size: int, job: Job, /) -> Plan:
        require_rows(size)
        rng = stream(job.seed, job.round, job.worker, "plan")
        width = self.batch
        while self.uses_batch_statistics and size > 1 and size % width == 1:
            width += 1  # batch norm knows no statistics of a single row
        each = -(-size // min(width, size))
        epochs = self.epochs or -(-(self.steps or 1) // each)
        steps = min(epochs * each, self.steps or epochs * each)
        if self.window:
            rows, weights = shuffle_windows(size, width, steps, self.window, rng)
        else:
            rows, weights = shuffle_rows(size, width, epochs, rng)
        if steps < rows.shape[0]:
            rows, weights = rows[:steps], weights[:steps]
        rates = np.array([self.lr_schedule(job.round + step / steps) for step in range(steps)])
        return Plan(rows, weights, torch.from_numpy(rates), self.draw_noise_seeds(job, steps))

    def draw_noise_seeds(self, job: Job, steps: int) -> Tensor:
        """Draw a seed for the noise of each step, [steps]; none where the model draws no noise."""
        if not self.draws_noise:
            return NO_SEEDS
        first = hash_address(job.seed, job.round, job.worker, "noise") // 2
        return first + torch.arange(steps)

    def rule(self, name: str) -> Rule:
        """Find the rule of a parameter."""
        for pattern, rule in self.rules:
            if pattern == "*" or fnmatchcase(name, pattern):
                return rule
        raise ValueError(f"no optimiser rule fits parameter {name!r}; add a last rule ('*', ...)")

    def start(self, job: Job, memory: Memory, /) -> Carry:
        if self.optimizer_state == "keep" and job.share.part.axes:
            raise ValueError(
                f"optimizer_state='keep' keeps memory of the whole, but worker {job.worker} "
                f"holds a part cut along {sorted(job.share.part.axes)}; use 'reset' or 'send'"
            )
        params = {**job.piece, **self.own, **memory.get(OWN, {})}
        moving = {name: t for name, t in params.items() if name not in self.frozen}
        optimizer_state = {name: dict(self.rule(name).start(t)) for name, t in moving.items()}
        for section, tensors in [*memory.items(), *job.optimizer_state.items()]:
            if self.optimizer_state != "reset" and section != OWN:
                for name, tensor in tensors.items():
                    if section in optimizer_state.get(name, {}):  # else it is a wrapper's
                        optimizer_state[name][section] = tensor
        return {
            "params": moving,
            "frozen": {name: t for name, t in params.items() if name in self.frozen},
            "optimizer_state": optimizer_state,
            "origin": moving if self.terms else {},
            "kept": dict(job.share.part.axes),
        }

    def loss(
        self, params: Params, carry: Carry, batch: Batch, role: str, /
    ) -> tuple[Tensor, Params]:
        losses_B, after = self.each(params, carry, batch, role)
        losses_B = weigh_rows(losses_B, batch)
        value = torch.dot(losses_B, batch["weight"].to(losses_B.dtype))
        for term in self.terms:
            share = batch["weight"].sum()  # a piece of a batch bears its share of the penalty
            value = value + share * term(params, carry["origin"])
        return value, {**carry["frozen"], **after}

    def each(
        self, params: Params, carry: Carry, batch: Batch, role: str, /
    ) -> tuple[Tensor, Params]:
        """Give the loss of each row, [B], and new values of buffers."""
        whole = {**params, **carry["frozen"]}
        if not self.bfloat16:  # entering autocast costs as much as a small layer
            return self.losses[role](whole, batch, carry["kept"])
        with torch.autocast(next(iter(params.values())).device.type, torch.bfloat16):
            return self.losses[role](whole, batch, carry["kept"])

    def move(self, carry: Carry, grads: Params, lr: Tensor | float, /) -> Carry:
        if self.clip is not None:
            grads = clip_norm(grads, self.clip)
        params, optimizer_state = {}, {}
        for name, param in carry["params"].items():
            params[name], optimizer_state[name] = self.rule(name).update(
                param, grads[name], carry["optimizer_state"][name], lr
            )
        return {**carry, "params": params, "optimizer_state": optimizer_state}

    def move_in_place(self, carry: Carry, grads: Params, lr: float, /) -> None:
        if self.clip is not None:
            grads = clip_norm(grads, self.clip)
        for name, param in carry["params"].items():
            self.rule(name).update_in_place(param, grads[name], carry["optimizer_state"][name], lr)

    def statistics(self, carry: Carry, batch: Batch, role: str, /) -> Params:
        del carry, batch, role
        return {}

    def finish(self, job: Job, plan: Plan, carry: Carry, statistics: Params, /) -> Update:
        del plan, statistics
        params = {**carry["params"], **carry["frozen"]}
        memory: dict[str, dict[str, Tensor]] = {}
        if self.own:
            memory[OWN] = {name: params[name] for name in self.own}
        sent: dict[str, dict[str, Tensor]] = {}
        for name, optimizer_state in (
            carry["optimizer_state"].items() if self.optimizer_state != "reset" else ()
        ):
            goes = sent if self.optimizer_state == "send" and name in job.piece else memory
            for section, tensor in optimizer_state.items():
                goes.setdefault(section, {})[name] = tensor
        return Update({name: params[name] for name in job.piece}, memory, optimizer_state=sent)
