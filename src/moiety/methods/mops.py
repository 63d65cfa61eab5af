"""MoPs over workers: prompts of a frozen language model as DDOME's experts, on the axis ``prompt``.

Dun et al., *Sweeping Heterogeneity with Smart MoPs: Mixture of Prompts for LLM Task Adaptation*,
arXiv:2310.02842; the gate, the query and the split are those of arXiv:2306.08586.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from moiety.core.axes import Part
from moiety.core.objective import Objective
from moiety.core.protocols import Kept, Method, Query, Transform
from moiety.core.rows import Rows
from moiety.core.types import Batch, Params
from moiety.methods.task import Task
from moiety.models.base import FeatureModel, find_constants
from moiety.ops.top import select_best
from moiety.serve.choose import average_gate_scores
from moiety.solve.score import TopScores
from moiety.solve.usage import weigh_by_usage
from moiety.split.gated import Gated
from moiety.split.whole import Whole
from moiety.tasks.tokens import Tokens

AXIS = "prompt"
MERGES = ("usage", "holders")


@runtime_checkable
class GatedPrompts(FeatureModel, Protocol):
    """A frozen model with prompts on the axis ``prompt`` and a gate over them."""

    @property
    def common(self) -> Transform:
        """Adds the column that the gate reads."""
        ...

    def log_gate(self, params: Params, batch: Batch, /) -> Tensor: ...


@dataclass(frozen=True)
class ServePrompts:
    """A worker uses the prompts that score highest over all its requests, mixed by the gate.

    Args:
        model: the language model.
        k: experts per worker; 0 serves all.
        objective: what answers are.
    """

    model: GatedPrompts
    k: int = 0
    objective: Objective = field(default_factory=Tokens)

    def config(self) -> dict[str, Any]:
        """Say how to build this again."""
        return {"kind": "prompts", "k": self.k}

    def choose(self, params: Params, rows: Rows, /) -> Part:
        score_E = average_gate_scores(self.model, params, rows)
        count = self.k or len(score_E)
        return Part({AXIS: select_best(score_E, count).sort().values})

    def scores(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return self.objective.answer(self.model.logits(piece, batch, kept).float())

    def routes(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor | None:
        score_BE = self.model.log_gate(piece, self.model.common(batch))
        if AXIS not in kept:
            return score_BE.argmax(-1)
        held = kept[AXIS].to(score_BE.device)
        return held[score_BE.index_select(-1, held).argmax(-1)]


def mops(
    task: Task,
    *,
    k: int = 0,
    gate_rate: float = 0.1,
    random: bool = False,
    capacity: int = 0,
    merge: str = "usage",
) -> Method:
    """Train prompts and their gate over workers; the language model is a constant.

    Args:
        task: what is to be learnt; its model is a language model with prompts
            (``moiety.prompts.make_prompted``).
        k: experts that a worker holds, those that its gate prefers; 0 for all.
        gate_rate: factor on the learning rate for the gate; 0 keeps it as it was taught.
        random: control: workers get k experts at random.
        capacity: the most workers of a round that may hold one expert; 0 for any number.
        merge: ``usage`` weighs each worker's expert by how much its gate used it; ``holders`` is
            the mean over those who held it.
    """
    if merge not in MERGES:
        raise ValueError(f"mops.merge={merge!r}; choose one of {MERGES}")
    if not gate_rate >= 0:
        raise ValueError(f"mops.gate_rate={gate_rate}; choose a number of at least 0")
    if task.local.optimizer_state == "keep" and k:
        raise ValueError("local.optimizer_state='keep' is for fixed parts, but mops deals others "
                         "each round; use 'reset' or 'send'")  # fmt: skip
    model = find_prompts(task)
    size = count_prompts(model)
    if not 0 <= k <= size:
        raise ValueError(f"mops.k={k}, but the model has {size} experts; choose from 0 to {size}")
    if (random or capacity) and not k:
        raise ValueError(f"mops.{random=} or {capacity=} choose experts, but k=0 gives all; set k")
    gate = replace(task.local, lr=task.local.lr * gate_rate).make_rule()
    losses = {"": task.losses(task.objective, model.forward)}
    solve = task.local.make_solver(losses, task.rounds, model=model, rules=(("gate.*", gate),))
    scores = TopScores(model, k, full=capacity > 0)
    return Method(
        name="mops",
        model=model,
        query=Query(scores, Part(names=("gate.*",))) if k and not random else None,
        split=Gated(AXIS, k, {}, capacity or None, random, size) if k else Whole(),
        solve=weigh_by_usage(solve, model, AXIS) if merge == "usage" else solve,
        merge=task.choose_merge(),
        serve=ServePrompts(model, k, task.objective),
        transform=model.common,
        gated=AXIS,
        constants=find_constants(model),
    )


def find_prompts(task: Task) -> GatedPrompts:
    """Find the language model with prompts in a task.

    Raises:
        ValueError: if the model has none.
    """
    if not isinstance(task.model, GatedPrompts):
        raise ValueError(  # noqa: TRY004  (a user's choice, as others)
            f"mops trains prompts of a language model, but the model is a "
            f"{type(task.model).__name__}; make it by moiety.prompts.make_prompted(tuned)"
        )
    return task.model


def count_prompts(model: GatedPrompts) -> int:
    """Count the experts of a model by its axis."""
    return next(
        len(model.params[name])
        for name, entries in model.axes.items()
        if entries and entries[0] == AXIS
    )


def measure_usage(model: GatedPrompts, params: Params, rows: Rows) -> Tensor:
    """Average the gate's weights over a worker's requests, [E]: a row of a heat map."""
    with torch.no_grad():
        return average_gate_scores(model, params, rows)
