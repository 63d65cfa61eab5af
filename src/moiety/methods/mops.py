"""MoPs over workers: prompts of a frozen language model as DDOME's experts, on the axis ``prompt``.

Dun et al., *Sweeping Heterogeneity with Smart MoPs: Mixture of Prompts for LLM Task Adaptation*,
arXiv:2310.02842; the gate, the query and the split are those of arXiv:2306.08586.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from moiety.core.axes import Part
from moiety.core.protocols import Method, Query
from moiety.core.rows import Rows, TableRows
from moiety.core.types import Params
from moiety.data.records import encode_records
from moiety.data.skills import KINDS, make_skill_records
from moiety.methods.demo import WORKERS, Demo
from moiety.methods.task import LocalTraining, Task
from moiety.models.base import find_constants
from moiety.serve.choose import average_gate_scores
from moiety.serve.language import build_lm
from moiety.serve.prompts import AXIS, GatedPrompts, ServePrompts
from moiety.solve.score import TopScores
from moiety.solve.usage import weigh_by_usage
from moiety.split.gated import Gated
from moiety.split.whole import Whole
from moiety.tasks.answers import Answers

MERGES = ("usage", "holders")

LEAST_USAGE = 0.25

AS_TAUGHT, UNTAUGHT_RATE = -1.0, 0.1
"""A gate that was taught is kept: see ``docs/results/mops.md`` for what learning on does to it."""


def mops(
    task: Task,
    *,
    k: int = 0,
    gate_rate: float = AS_TAUGHT,
    random: bool = False,
    capacity: int = 0,
    merge: str = "usage",
    least_usage: float = LEAST_USAGE,
) -> Method:
    """Train prompts and their gate over workers; the language model is a constant.

    Args:
        task: what is to be learnt; its model is a language model with prompts
            (``moiety.prompts.make_prompted``).
        k: experts that a worker holds, those that its gate prefers; 0 for all.
        gate_rate: factor on the learning rate for the gate; 0 keeps it as it is. -1 keeps one that
            was taught, and gives 0.1 to one that knows nothing.
        random: control: workers get k experts at random.
        capacity: the most workers of a round that may hold one expert; 0 for any number.
        merge: ``usage`` weighs each worker's expert by how much its gate used it; ``holders`` is
            the mean over those who held it.
        least_usage: with ``usage``, a worker says nothing of an expert that its gate used less than
            this share of an even use (1 by the experts at hand); an expert of which nobody says
            anything stays as it is. 0 hears all.
    """
    check_merge(merge, least_usage)
    if task.local.optimizer_state == "keep" and k:
        raise ValueError("local.optimizer_state='keep' is for fixed parts, but mops deals others "
                         "each round; use 'reset' or 'send'")  # fmt: skip
    model = find_prompts(task)
    size = count_prompts(model)
    if not 0 <= k <= size:
        raise ValueError(f"mops.k={k}, but the model has {size} experts; choose from 0 to {size}")
    if (random or capacity) and not k:
        raise ValueError(f"mops.{random=} or {capacity=} choose experts, but k=0 gives all; set k")
    known: Any = model
    model = replace(known, taught=find_taught(model, task.start))
    rate = task.local.lr * find_gate_rate(model, gate_rate)
    gate = replace(task.local, lr=rate).make_rule()
    losses = {"": task.losses(task.objective, model.forward)}
    solve = task.local.make_solver(losses, task.rounds, model=model, rules=(("gate.*", gate),))
    scores = TopScores(model, k, full=capacity > 0)
    return Method(
        name="mops",
        model=model,
        query=Query(scores, Part(names=("gate.*",))) if k and not random else None,
        split=Gated(AXIS, k, {}, capacity or None, random, size) if k else Whole(),
        solve=weigh_by_usage(solve, model, AXIS, least_usage) if merge == "usage" else solve,
        merge=task.choose_merge(),
        serve=ServePrompts(model, k, task.objective),
        transform=model.common,
        first=task.start,
        gated=AXIS,
        constants=find_constants(model),
    )


def check_merge(merge: str, least_usage: float) -> None:
    """Refuse a merge that is not there, and a bound that it does not read."""
    if merge not in MERGES:
        raise ValueError(f"mops.merge={merge!r}; choose one of {MERGES}")
    if not 0 <= least_usage < 1:
        raise ValueError(f"mops.least_usage={least_usage}; choose a share of at least 0, below 1")
    if merge != "usage" and least_usage != LEAST_USAGE:
        raise ValueError(f"mops.least_usage={least_usage} is read by merge='usage' alone, but "
                         f"merge={merge!r}; leave it {LEAST_USAGE}")  # fmt: skip


def find_taught(model: GatedPrompts, start: Params | None) -> bool:
    """Say whether a gate was taught: for this task, of which it starts, or before."""
    last = [(start or {}).get(name) for name in ("gate.layer2.w", "gate.layer2.b")]
    here = [t for t in last if t is not None]
    return any(t.is_meta or bool(t.any()) for t in here) if here else model.taught


def find_gate_rate(model: GatedPrompts, asked: float) -> float:
    """Find the factor for a gate: 0 where none was asked for and it was taught.

    Raises:
        ValueError: for a factor below 0 that is not -1.
    """
    if asked != AS_TAUGHT:
        if not 0 <= asked < math.inf:
            raise ValueError(f"mops.gate_rate={asked}; choose a number of at least 0, or -1 to "
                             "keep a gate that was taught")  # fmt: skip
        return asked
    return 0.0 if model.taught else UNTAUGHT_RATE


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


def make_skill_workers(rng: Generator, kinds: int = len(KINDS)) -> tuple[Task, Mapping[int, Rows]]:
    """Give requests of one skill each to six workers, of so many kinds; a gate knows others."""
    from moiety.prompts.base import Letters  # transformers and peft are an extra

    length, letters = 16, Letters()
    records, known = make_skill_records(96), 24
    x, y, _ = encode_records(records, letters, length)
    skills = torch.tensor([[*KINDS].index(one) for one in records.skills])
    table = {"x": x, "y": torch.cat([skills[:, None], y], 1)}
    net = build_lm((length,), len(letters.names), rng, attention="eager", gate_hidden=8)
    assert isinstance(net, GatedPrompts)
    start, _ = net.teach(x[:known], table["y"][:known], 0)
    data: dict[int, Rows] = {}
    for worker in range(WORKERS):
        mine = (skills == worker % kinds).nonzero()[:, 0]
        data[worker] = TableRows(table, mine[mine >= known][worker // kinds :: 2][:6])
    local = LocalTraining(lr=10.0, batch=6, epochs=4)
    objective = Answers(letters.names, tuple(KINDS))
    return Task(net, local, rounds=10, start=start, objective=objective), data


def demo(rng: Generator) -> Demo:
    """Learn what is to be said to requests of four skills, of which each worker has one."""
    task, data = make_skill_workers(rng)
    return Demo(mops(task, k=1), data)
