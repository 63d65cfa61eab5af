"""Over workers of one or two skills each: prompts with a gate beside one prompt, played as runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.mops_parts.oracle import make_oracle
from benchmarks.mops_parts.played import (
    Playing,
    draw_gate,
    fill_rows,
    make_model,
    measure_served,
    play_alone,
    play_rounds,
)
from benchmarks.mops_parts.prefixed import make_prefixed
from benchmarks.mops_parts.records import SKILLS, Record, Study
from benchmarks.mops_parts.rivals import EACH, TEXT
from moiety.core.protocols import Method
from moiety.core.rows import Rows
from moiety.core.types import Params
from moiety.methods.fedavg import fedavg
from moiety.methods.fedprompt import fedprompt
from moiety.methods.mops import mops
from moiety.methods.task import LocalTraining, Task
from moiety.prompts import MopsConfig
from moiety.prompts.language import PromptedLM
from moiety.tasks.answers import Answers

HIGHER, LEARNS = (3e-2, 1e-2, 3e-3), 0.1
"""Rates of what is best at the higher of two, and the gate's multiple where it learns on."""

PLAYING, STEPS, BATCH = Playing(6, 3), 3, 6


@dataclass(frozen=True)
class Federated:
    """A method over workers.

    Args:
        make: makes it, of a task whose model has prompts and a gate.
        rates: the learning rates that are tried.
        alone: whether workers train without an exchange.
    """

    make: Callable[[Task, Study], Method]
    rates: tuple[float, ...] = (1e-2, 3e-3)
    alone: bool = False


def make_drawn(task: Task) -> Method:
    """Make MoPs whose gate was drawn, knows nothing, and stays so."""
    model: Any = task.model
    return mops(replace(task, start={**(task.start or {}), **draw_gate(model)}), gate_rate=0.0)


METHODS: Mapping[str, Federated] = {
    "FedPrompt": Federated(lambda task, _: fedprompt(task), (3e-2, 1e-2, 1e-1, 3e-1)),
    "MoPs": Federated(lambda task, _: mops(task), HIGHER),
    "MoPs, one expert a worker": Federated(lambda task, _: mops(task, k=1), HIGHER),
    "prefix tuning": Federated(
        lambda task, study: fedavg(replace(task, model=make_prefixed(study), start=None)), HIGHER
    ),
    "deep prompts, no gate": Federated(lambda task, _: fedprompt(task, deep=True), HIGHER),
    "MoPs, two experts a worker": Federated(lambda task, _: mops(task, k=2), HIGHER),
    "MoPs, gate learns on": Federated(lambda task, _: mops(task, gate_rate=LEARNS)),
    "MoPs, one expert a worker, gate learns on": Federated(
        lambda task, _: mops(task, k=1, gate_rate=LEARNS)
    ),
    "MoPs, gate learns on, all uses heard": Federated(
        lambda task, _: mops(task, gate_rate=LEARNS, least_usage=0.0)
    ),
    "MoPs, gate learns on, plain mean": Federated(
        lambda task, _: mops(task, gate_rate=LEARNS, merge="holders")
    ),
    "MoPs, gate drawn and frozen": Federated(lambda task, _: make_drawn(task)),
    "oracle": Federated(lambda task, _: make_oracle(task)),
    "deep prompts, each worker alone": Federated(
        lambda task, _: fedprompt(task, deep=True), alone=True
    ),
    "prefix tuning, each worker alone": Federated(
        lambda task, study: fedavg(replace(task, model=make_prefixed(study), start=None)),
        alone=True,
    ),
}

SHARES: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "one skill each": tuple((k,) for k in range(SKILLS)),
    "a skill by two": tuple((k % SKILLS,) for k in range(2 * SKILLS)),
    "two skills each": tuple((k, (k + 1) % SKILLS) for k in range(SKILLS)),
}
"""Who has which skills; those who have the same share its records out."""


def share_out(study: Study, part: str, where: str) -> Mapping[int, Rows]:
    """Give each worker the records of its skills: to learn from, its share of them."""
    some: list[Record] = list(getattr(study, part))
    owners = {k: [w for w, has in enumerate(SHARES[where]) if k in has] for k in range(SKILLS)}
    found: dict[int, list[Record]] = {w: [] for w in range(len(SHARES[where]))}
    for skill, workers in owners.items():
        mine = [one for one in some if one.skill == skill]
        for place, worker in enumerate(workers):
            found[worker] += mine[place :: len(workers)]
    return {worker: fill_rows(records, study.length) for worker, records in found.items()}


@functools.lru_cache(maxsize=1)
def teach_once(study: Study, seed: int) -> tuple[PromptedLM, Params]:
    """Put prompts that start from the text into the model, and teach the gate; for all methods.

    Eager attention costs a step a third less than sdpa, whose backward pass is slow in bfloat16.
    """
    config = MopsConfig(
        task_type="CAUSAL_LM", num_experts=SKILLS, prompts_per_expert=EACH, gate_hidden_size=32
    )
    model = make_model(study.model, config, study.tokenizer.encode(TEXT))
    known = fill_rows(study.train, study.length).take(torch.arange(len(study.train)))
    start, accuracy = model.teach(known["x"], known["y"], seed)
    print(f"    gate: accuracy {accuracy:.2f}", flush=True)
    return model, start


def make_task(study: Study, lr: float, seed: int) -> Task:
    """Make the task of a seed at one rate."""
    model, start = teach_once(study, seed)
    local = LocalTraining(optimizer="adam", lr=lr, batch=BATCH, epochs=0, steps=STEPS)
    objective = Answers(study.tokenizer.names, study.skills)
    return Task(model, local, rounds=PLAYING.rounds, start=start, objective=objective)


def train_workers(study: Study, name: str, lr: float, seed: int, where: str) -> dict[str, Any]:
    """Play the rounds of one method; perplexities, numbers trained, and what a step costs."""
    method = METHODS[name].make(make_task(study, lr, seed), study)
    play = play_alone if METHODS[name].alone else play_rounds
    params, spent = play(method, share_out(study, "train", where), PLAYING, seed)
    return {
        "valid": measure_served(method, params, share_out(study, "valid", where))["all"],
        "test": measure_served(method, params, share_out(study, "test", where)),
        "numbers": sum(t.numel() for t in method.model.params.values()),
        "cpu_s_per_step": spent / (PLAYING.rounds * PLAYING.together * STEPS),
    }
