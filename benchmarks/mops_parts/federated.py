"""Over workers of one skill each: prompts with a gate beside one prompt, played as runs are."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.mops_parts.prefixed import make_prefixed
from benchmarks.mops_parts.records import LENGTH, SKILLS, Record, Study
from benchmarks.mops_parts.rivals import EACH, TEXT
from moiety import initialise_state, make_engine, play_round
from moiety.core.axes import take_piece
from moiety.core.protocols import Method
from moiety.core.rows import Rows, TableRows, TransformedRows
from moiety.core.streams import stream
from moiety.core.types import Params
from moiety.data.records import PADDING
from moiety.methods.fedavg import fedavg
from moiety.methods.fedprompt import fedprompt
from moiety.methods.mops import mops
from moiety.methods.task import LocalTraining, Task
from moiety.prompts.network import build_prompted
from moiety.rounds.cohort import UniformCohort
from moiety.tasks.answers import Answers

ROUNDS, TOGETHER, STEPS, BATCH = 6, 3, 3, 6


@dataclass(frozen=True)
class Federated:
    """A method over workers.

    Args:
        make: makes it, of a task whose model has prompts and a gate.
        rates: the learning rates that are tried.
    """

    make: Callable[[Task, Study], Method]
    rates: tuple[float, float]


METHODS: Mapping[str, Federated] = {
    "FedPrompt": Federated(lambda task, _: fedprompt(task), (3e-2, 1e-2)),
    "MoPs, by usage": Federated(lambda task, _: mops(task), (1e-2, 3e-3)),
    "prefix tuning": Federated(
        lambda task, study: fedavg(replace(task, model=make_prefixed(study), start=None)),
        (1e-2, 3e-3),
    ),
    "deep prompts, no gate": Federated(lambda task, _: fedprompt(task, deep=True), (1e-2, 3e-3)),
    "MoPs, one expert a worker": Federated(lambda task, _: mops(task, k=1), (1e-2, 3e-3)),
    "MoPs, plain mean": Federated(lambda task, _: mops(task, merge="holders"), (1e-2, 3e-3)),
}


@dataclass(frozen=True)
class TrimmedRows:
    """Rows whose batches end where their longest row does."""

    inner: Rows

    @property
    def size(self) -> int:
        return self.inner.size

    def take(self, ids: Tensor, /) -> Mapping[str, Tensor]:
        batch = self.inner.take(ids)
        length = int((batch["x"] != PADDING).any(0).sum())
        return {**batch, "x": batch["x"][:, :length], "y": batch["y"][:, : 1 + length]}


def fill_rows(records: list[Record]) -> Rows:
    """Write records as rows of the federation."""
    x = torch.full((len(records), LENGTH), PADDING)
    y = torch.full((len(records), LENGTH), -1)
    for row, one in enumerate(records):
        ids, last = torch.tensor(one.ids), len(one.ids) - 1
        marked = torch.where(torch.arange(len(ids)) < one.start, ids, -2 - ids)
        x[row, :last] = marked[:-1]
        y[row, one.start - 1 : last] = ids[one.start :]
    skill = torch.tensor([[one.skill] for one in records])
    return TableRows({"x": x, "y": torch.cat([skill, y], 1)}, torch.arange(len(records)))


def share_out(study: Study, part: str) -> Mapping[int, Rows]:
    """Give each worker the records of one skill."""
    some = getattr(study, part)
    return {k: fill_rows([one for one in some if one.skill == k]) for k in range(SKILLS)}


@functools.lru_cache(maxsize=1)
def open_prompted(seed: int) -> Any:
    """Open the frozen model with prompts from the text, once for all methods.

    Eager attention costs a step a third less than sdpa, whose backward pass is slow in bfloat16.
    """
    choices: dict[str, Any] = {
        "folder": os.environ["MOIETY_LM"], "dtype": "bfloat16", "attention": "eager", "start": TEXT,
        "experts": SKILLS, "prompts": EACH, "gate_layer": 0, "gate_hidden": 32, "top_k": 0,
    }  # fmt: skip
    return build_prompted(stream(seed, "net"), choices)


@functools.lru_cache(maxsize=1)
def teach_once(study: Study, seed: int) -> tuple[Any, Params]:
    """Make the frozen model with prompts, and teach its gate on training records."""
    model = open_prompted(seed)
    known = fill_rows(list(study.train)).take(torch.arange(len(study.train)))
    start, accuracy = model.teach(known["x"], known["y"], seed)
    print(f"    gate: accuracy {accuracy:.2f}", flush=True)
    return model, start


def make_task(study: Study, lr: float, seed: int) -> Task:
    """Make the task of a seed at one rate."""
    model, start = teach_once(study, seed)
    local = LocalTraining(optimizer="adam", lr=lr, batch=BATCH, epochs=0, steps=STEPS)
    objective = Answers(study.tokenizer.names, study.skills)
    return Task(model, local, rounds=ROUNDS, start=start, objective=objective)


def train_workers(study: Study, name: str, lr: float, seed: int) -> dict[str, Any]:
    """Play the rounds of one method; perplexities, numbers trained, and what a round costs."""
    method = METHODS[name].make(make_task(study, lr, seed), study)
    train = TransformedRows(share_out(study, "train").__getitem__, method.transform or dict)
    engine = make_engine("serial", lambda worker: TrimmedRows(train(worker)))
    state, cohort = initialise_state(method), UniformCohort(SKILLS, TOGETHER)
    begun = time.process_time()
    for place in range(ROUNDS):
        state = play_round(method, engine, state, cohort=cohort(place, seed), seed=seed)
    engine.close()
    steps = ROUNDS * TOGETHER * STEPS
    return {
        "valid": measure_workers(method, state.params, study, "valid")["all"],
        "test": measure_workers(method, state.params, study, "test"),
        "numbers": sum(t.numel() for t in state.params.values()),
        "cpu_s_per_step": (time.process_time() - begun) / steps,
    }


@torch.no_grad()
def measure_workers(method: Method, params: Params, study: Study, part: str) -> dict[str, Any]:
    """Serve each worker its own records: perplexity of all, and by skill."""
    skills, nats, tokens = [], 0.0, 0
    for rows in share_out(study, part).values():
        seen = TransformedRows(lambda _, rows=rows: rows, method.transform or dict)(0)
        chosen = method.serve.choose(params, seen)
        piece = take_piece(params, method.model.axes, chosen)
        batch = TrimmedRows(seen).take(torch.arange(seen.size))
        told = method.serve.scores(piece, batch, chosen.axes)
        answer, y = method.serve.objective.select(told, batch["y"])
        mine = -float(answer.gather(-1, y[:, None]).double().sum())
        skills.append(math.exp(mine / len(y)))
        nats, tokens = nats + mine, tokens + len(y)
    return {"all": math.exp(nats / tokens), "skills": skills}
