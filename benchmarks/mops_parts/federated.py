"""Over workers of one skill each: prompts with a gate beside one prompt, played as runs are."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.mops_parts.records import LENGTH, SKILLS, Record, Study
from benchmarks.mops_parts.rivals import EACH, TEXT
from moiety import initialise_state, make_engine, play_round
from moiety.core.axes import take_piece
from moiety.core.protocols import Method
from moiety.core.rows import Rows, TableRows, TransformedRows
from moiety.core.streams import stream
from moiety.data.records import PADDING
from moiety.methods.fedprompt import fedprompt
from moiety.methods.mops import mops
from moiety.methods.task import LocalTraining, Task
from moiety.prompts.network import build_prompted
from moiety.rounds.cohort import UniformCohort
from moiety.tasks.answers import Answers

ROUNDS, TOGETHER, STEPS, BATCH = 6, 3, 4, 6

METHODS: Mapping[str, tuple[str, Callable[[Task], Method]]] = {
    "FedPrompt": ("prompt tuning", fedprompt),
    "MoPs, by usage": ("MoPs", mops),
    "deep prompts, no gate": (
        "deep prompts, no gate",
        lambda task: fedprompt(task, deep=True),
    ),
    "MoPs, one expert a worker": ("MoPs", lambda task: mops(task, k=1)),
    "MoPs, plain mean": ("MoPs", lambda task: mops(task, merge="holders")),
}
"""Name -> the central method whose rate it takes, and what makes it."""


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


def make_task(study: Study, lr: float, seed: int) -> Task:
    """Make the frozen model with prompts from the text and a gate taught on training records."""
    choices: dict[str, Any] = {
        "folder": os.environ["MOIETY_LM"], "dtype": "bfloat16", "attention": "sdpa", "start": TEXT,
        "experts": SKILLS, "prompts": EACH, "gate_layer": 0, "gate_hidden": 32, "top_k": 0,
    }  # fmt: skip
    model = build_prompted(stream(seed, "net"), choices)
    known = fill_rows(list(study.train)).take(torch.arange(len(study.train)))
    start, accuracy = model.teach(known["x"], known["y"], seed)
    print(f"    gate: accuracy {accuracy:.2f}", flush=True)
    local = LocalTraining(optimizer="adam", lr=lr, batch=BATCH, epochs=0, steps=STEPS)
    objective = Answers(study.tokenizer.names, study.skills)
    return Task(model, local, rounds=ROUNDS, start=start, objective=objective)


def train_workers(study: Study, name: str, lr: float, seed: int) -> dict[str, Any]:
    """Play the rounds of one method; perplexity of all test records, and bytes of a worker."""
    method = METHODS[name][1](make_task(study, lr, seed))
    train = TransformedRows(share_out(study, "train").__getitem__, method.transform or dict)
    engine = make_engine("serial", lambda worker: TrimmedRows(train(worker)))
    state, cohort = initialise_state(method), UniformCohort(SKILLS, TOGETHER)
    for place in range(ROUNDS):
        state = play_round(method, engine, state, cohort=cohort(place, seed), seed=seed)
    engine.close()
    numbers = sum(t.numel() for t in state.params.values())
    return {**measure_workers(method, state.params, study), "numbers": numbers, "rate": lr}


@torch.no_grad()
def measure_workers(method: Method, params: Any, study: Study) -> dict[str, Any]:
    """Serve each worker its own test records."""
    skills, nats, tokens = [], 0.0, 0
    for rows in share_out(study, "test").values():
        seen = TransformedRows(lambda _, rows=rows: rows, method.transform or dict)(0)
        part = method.serve.choose(params, seen)
        piece = take_piece(params, method.model.axes, part)
        batch = TrimmedRows(seen).take(torch.arange(seen.size))
        told = method.serve.scores(piece, batch, part.axes)
        answer, y = method.serve.objective.select(told, batch["y"])
        mine = -float(answer.gather(-1, y[:, None]).double().sum())
        skills.append(math.exp(mine / len(y)))
        nats, tokens = nats + mine, tokens + len(y)
    return {"test": {"all": math.exp(nats / tokens), "skills": skills}}
