"""What workers minimise who hold several models: each alone, or the likelihood of their mixture.

Letters: B rows, C classes, K models at hand, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moiety.core.objective import Objective
from moiety.core.protocols import Kept
from moiety.core.solver import Descent
from moiety.core.state import Job, Plan, Update, make_empty_plan
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.models.components import LABELS, MIX, Components
from moiety.solve.sgd import OWN
from moiety.solve.wrapped import FinishedJob, Wrapped
from moiety.tasks.objectives import shift_outputs

HELD = "held"
"""Sums over rows of how much each model answers for them, [K]."""

LEAST_LABEL_SHARE = 1e-6
"""Shares below count as this: a class that nobody brought says nothing against a model."""


@dataclass(frozen=True)
class LossesAlone:
    """The sum of the losses of all models at hand: each descends on its own, as if it were alone.

    Args:
        model: the models.
        objective: what is learnt.
    """

    model: Components
    objective: Objective

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        del kept
        out, after = self.model.ask_in_training(params, batch)
        return lose_each(self.objective, out, batch).sum(0), after


@dataclass(frozen=True)
class MixtureLosses:
    """``-log sum_k mix_k exp(-loss_k)``, whose gradient weighs each model by what it answers for.

    Where models are told how often they have each class, ``mix_k`` is over the share of the row's.

    Args:
        model: the models; their weights are not trained here.
        objective: what is learnt.
    """

    model: Components
    objective: Objective

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        del kept
        out, after = self.model.ask_in_training(params, batch)
        log_BK = weigh_models(params, batch).expand(out.shape[1], -1)
        return self.objective.mix(shift_outputs(out.float(), batch), log_BK, batch["y"]), after


def weigh_models(params: Params, batch: Batch) -> Tensor:
    """Give the log weights of a worker's models for its rows, [1, K], or by their class [B, K]."""
    log_1K = params[MIX].log_softmax(-1)[None]
    if LABELS not in params:
        return log_1K
    share_KC = params[LABELS].clamp_min(LEAST_LABEL_SHARE)
    share_KC = share_KC / share_KC.mean(-1, keepdim=True)  # equal shares are 1
    return log_1K - share_KC.log().index_select(-1, batch["y"]).T


def lose_each(objective: Objective, out: Tensor, batch: Batch) -> Tensor:
    """Give the loss of each row under each model, [K, B], of outputs [K, B, ..., O]."""
    shifted = shift_outputs(out.float(), batch)
    return torch.stack([objective.rows(one, batch["y"]) for one in shifted])


@dataclass(frozen=True)
class Responsibilities:
    """The weights of a worker's mixture: mean shares of its rows for which each model answers.

    Args:
        model: the models.
        objective: what is learnt.
    """

    model: Components
    objective: Objective

    def look(self, solve: Descent, carry: Carry, batch: Batch, role: str, /) -> Params:
        del solve, role
        params = {**carry["params"], **carry["frozen"]}
        loss_KB = lose_each(self.objective, self.model.ask(params, batch), batch)
        held_KB = (weigh_models(params, batch).T - loss_KB).softmax(0)
        weight_B = batch["weight"].to(held_KB.dtype)
        found = {HELD: held_KB @ weight_B}
        if LABELS in params:
            classes_C = torch.arange(params[LABELS].shape[-1], device=held_KB.device)
            of_class_BC = batch["y"][:, None] == classes_C
            found[LABELS] = (held_KB * weight_B) @ of_class_BC.to(held_KB.dtype)
        return found

    def end(self, update: Update, done: FinishedJob, /) -> Update:
        found = done.mean()
        own = {**update.memory.get(OWN, {}), MIX: found[HELD].clamp_min(1e-6).log()}
        told = {name: found[name] for name in update.piece if name == LABELS}
        piece = {**update.piece, **told}
        return replace(update, piece=piece, memory={**update.memory, OWN: own})


def weigh_by_rows_held(solve: Descent, model: Components, objective: Objective) -> Wrapped:
    """Let a worker set the weights of its mixture by its rows, after its last step."""
    found = Responsibilities(model, objective)
    return Wrapped(solve, look=found.look, end=found.end, keeps=True)


@dataclass(frozen=True)
class LeastLoss:
    """Answer with the model of the least mean loss on all rows; labels are read.

    Args:
        model: the models.
        objective: what is learnt.
    """

    model: Components
    objective: Objective
    stackable: bool = True
    needs_statistics: bool = True
    keeps_memory: bool = False

    def first_optimizer_state(self, params: Params, /) -> Memory:
        return {}

    def plan(self, size: int, job: Job, /) -> Plan:
        if size == 0:
            raise ValueError("the worker has no rows; leave it out of the cohort or give it data")
        return make_empty_plan()

    def start(self, job: Job, memory: Memory, /) -> Carry:
        return {"params": dict(job.piece)}

    def statistics(self, carry: Carry, batch: Batch, role: str, /) -> Params:
        loss_KB = lose_each(self.objective, self.model.ask(carry["params"], batch), batch)
        return {HELD: loss_KB @ batch["weight"].to(loss_KB.dtype)}

    def finish(self, job: Job, plan: Plan, carry: Carry, statistics: Params, /) -> Update:
        return Update({}, answer={"ids": statistics[HELD].argmin(-1, keepdim=True).int().cpu()})
