"""Methods on the made-up skills: one prompt, prompts without a gate, and forms of MoPs.

Every method is played as a federation: central training is that of one worker who has all.
Letters: B rows, D width, E experts, H hidden units of the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from benchmarks.mops_parts.cells import Cell
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
from benchmarks.mops_parts.records import measure_perplexity
from benchmarks.mops_parts.skilled import prune_base
from benchmarks.mops_parts.skills import LONGEST, NAMES, SKILLS, draw_records, encode
from moiety.core.protocols import Method
from moiety.core.rows import Rows
from moiety.core.streams import stream
from moiety.core.types import Params
from moiety.methods.fedprompt import fedprompt
from moiety.methods.mops import mops
from moiety.methods.task import LocalTraining, Task
from moiety.prompts import MopsConfig
from moiety.prompts.language import PromptedLM
from moiety.tasks.answers import Answers

EACH, BATCH = 4, 16
TAUGHT, TRAIN, VALID, TEST = 16, 64, 8, 24
"""Requests of a skill that teach the gate; records of one that a worker has, and that judge."""

TEXT = "Read what is wanted, and answer: "
GRID = (3e-3, 1e-2, 3e-2)


@dataclass(frozen=True)
class Place:
    """Who has what.

    Args:
        skills: of each worker.
        playing: rounds, and workers a round.
        steps: of a worker in a round.
        pruned: the share of the base's numbers that are 0.
    """

    skills: tuple[tuple[int, ...], ...]
    playing: Playing
    steps: int
    pruned: float = 0.0


COUNT = len(SKILLS)
CENTRAL, ONE, TWO = "central", "one skill a worker", "two skills a worker"
IN_CENTRAL = Place((tuple(range(COUNT)),), Playing(1, 1), 600)
OVER_WORKERS = Place(tuple((w % COUNT,) for w in range(16)), Playing(40, 4), 5)
PRUNED = 0.3
PLACES: Mapping[str, Place] = {
    CENTRAL: IN_CENTRAL,
    ONE: OVER_WORKERS,
    TWO: replace(
        OVER_WORKERS, skills=tuple((w % COUNT, (w + 1 + w // COUNT) % COUNT) for w in range(16))
    ),
    f"{CENTRAL}, {PRUNED:.0%} pruned": replace(IN_CENTRAL, pruned=PRUNED),
    f"{ONE}, {PRUNED:.0%} pruned": replace(OVER_WORKERS, pruned=PRUNED),
}


@dataclass(frozen=True, eq=False)
class Field:
    """The frozen model with prompts of a seed, and its gate once it is taught."""

    model: PromptedLM
    taught: Params


@dataclass(frozen=True)
class Variant:
    """A method.

    Args:
        make: makes it of a task.
        gate: parameters that it starts at.
        top_k: experts that are open for a row; 0 for all.
        alone: whether workers train without an exchange.
    """

    make: Callable[[Task], Method]
    gate: Callable[[Field], Params | None] = lambda field: field.taught
    top_k: int = 0
    alone: bool = False


def start_fresh(_: Field) -> None:
    """Start at the gate as the tuner makes it: all experts count alike."""


VARIANTS: Mapping[str, Variant] = {
    "prompt tuning": Variant(fedprompt),
    "deep prompts, no gate": Variant(lambda task: fedprompt(task, deep=True)),
    "MoPs": Variant(mops),
    "MoPs, all uses heard": Variant(lambda task: mops(task, least_usage=0.0)),
    "MoPs, one expert a worker": Variant(lambda task: mops(task, k=1)),
    "MoPs, two experts a worker": Variant(lambda task: mops(task, k=2)),
    "MoPs, one expert a request": Variant(mops, top_k=1),
    "MoPs, plain mean": Variant(lambda task: mops(task, merge="holders")),
    "MoPs, gate learns on": Variant(lambda task: mops(task, gate_rate=0.1)),
    "MoPs, one expert a worker, gate learns on": Variant(
        lambda task: mops(task, k=1, gate_rate=0.1)
    ),
    "MoPs, gate not taught": Variant(mops, start_fresh),
    "MoPs, gate not taught, plain mean": Variant(
        lambda task: mops(task, merge="holders"), start_fresh
    ),
    "MoPs, gate drawn and frozen": Variant(
        lambda task: mops(task, gate_rate=0.0),
        lambda field: {**field.taught, **draw_gate(field.model)},
    ),
    "oracle": Variant(make_oracle),
    "deep prompts, each worker alone": Variant(lambda task: fedprompt(task, deep=True), alone=True),
}


def make_field(base: Any, seed: int, top_k: int = 0) -> Field:
    """Put prompts into a copy of a base, and teach the gate."""
    config = MopsConfig(
        task_type="CAUSAL_LM",
        num_experts=COUNT,
        prompts_per_expert=EACH,
        gate_layer=2,
        gate_hidden_size=32,
        top_k=top_k or None,
        seed=seed,
    )
    model = make_model(base, config, encode(TEXT))
    some = [one for s in range(COUNT) for one in draw_records(s, TAUGHT, stream(seed, "gate", s))]
    known = fill_rows(some, LONGEST).take(torch.arange(len(some)))
    taught, accuracy = model.teach(known["x"], known["y"], seed)
    print(f"    gate: accuracy {accuracy:.2f}", flush=True)
    return Field(model, taught)


def share_records(place: Place, seed: int) -> Mapping[int, Rows]:
    """Draw the records of every worker."""
    return {
        worker: fill_rows(
            [
                one
                for skill in skills
                for one in draw_records(skill, TRAIN, stream(seed, worker, "train", skill))
            ],
            LONGEST,
        )
        for worker, skills in enumerate(place.skills)
    }


def share_tests(place: Place, part: str, size: int) -> Mapping[int, Rows]:
    """Give the first workers, who have all skills among them, fresh records: of no seed."""
    return {
        worker: fill_rows(
            [
                one
                for skill in skills
                for one in draw_records(skill, size, stream(0, worker, part, skill))
            ],
            LONGEST,
        )
        for worker, skills in enumerate(place.skills[:COUNT])
    }


def run_cell(base: Any, cell: Cell) -> dict[str, Any]:
    """Train, and measure perplexity, numbers, CPU seconds, and how the gate deals requests."""
    variant, place = VARIANTS[cell.name], PLACES[cell.place]
    field = make_field(prune_base(base, place.pruned), cell.seed, variant.top_k)
    local = LocalTraining(optimizer="adam", lr=cell.lr, batch=BATCH, epochs=0, steps=place.steps)
    objective = Answers(NAMES, tuple(SKILLS))
    task = Task(field.model, local, rounds=place.playing.rounds, start=variant.gate(field),
                objective=objective)  # fmt: skip
    method, workers = variant.make(task), share_records(place, cell.seed)
    play = play_alone if variant.alone else play_rounds
    params, spent = play(method, workers, place.playing, cell.seed)
    test = share_tests(place, "test", TEST)
    numbers = sum(t.numel() for t in method.model.params.values())
    told = {
        "valid": measure_served(method, params, share_tests(place, "valid", VALID))["all"],
        "test": measure_served(method, params, test), "numbers": numbers, "cpu_s": spent,
    }  # fmt: skip
    return told if method.gated is None else {**told, **judge_gate(method, params[0], test)}


@torch.no_grad()
def judge_gate(method: Method, params: Params, test: Mapping[int, Rows]) -> dict[str, float]:
    """Count skills whose mean weight peaks at their expert; say what a pick tells of a skill."""
    assert isinstance(method.model, PromptedLM)
    assert method.transform is not None
    weights: list[Tensor] = []
    skills: list[Tensor] = []
    for rows in test.values():
        batch = method.transform(rows.take(torch.arange(rows.size)))
        weights.append(method.model.log_gate(params, batch).exp())
        skills.append(batch["y"][:, 0])
    weight_BE, skill_B = torch.cat(weights), torch.cat(skills)
    peaks = [int(weight_BE[skill_B == s].mean(0).argmax()) for s in range(COUNT)]
    told = normalized_mutual_info_score(skill_B.numpy(), weight_BE.argmax(-1).numpy())
    return {"aligned": sum(peak == s for s, peak in enumerate(peaks)), "nmi": float(told)}


def measure_zero(base: Any, pruned: float) -> dict[str, Any]:
    """Measure a base as it is."""
    some = [one for s in range(COUNT) for one in draw_records(s, TEST, stream(0, s, "test", s))]
    return {"test": measure_perplexity(prune_base(base, pruned), some, lambda *_: {})}
