"""Methods over workers of a language model, played as runs are, and measured as they are served."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.mops_parts.records import Record
from moiety import initialise_state, make_engine, play_round
from moiety.core.axes import take_piece
from moiety.core.protocols import Method
from moiety.core.rows import Rows, TableRows, TransformedRows
from moiety.core.types import Params
from moiety.data.records import PADDING
from moiety.prompts import MopsConfig, make_prompted
from moiety.prompts.edit import find_tuner
from moiety.prompts.language import PromptedLM
from moiety.prompts.starts import record_inputs, tile_tokens
from moiety.rounds.cohort import UniformCohort


@dataclass(frozen=True)
class Playing:
    """How a method is played: rounds, and workers in each of them."""

    rounds: int
    together: int


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


def fill_rows(records: Sequence[Record], length: int) -> Rows:
    """Write records as rows of the federation."""
    x = torch.full((len(records), length), PADDING)
    y = torch.full((len(records), length), -1)
    for row, one in enumerate(records):
        ids, last = torch.tensor(one.ids), len(one.ids) - 1
        marked = torch.where(torch.arange(len(ids)) < one.start, ids, -2 - ids)
        x[row, :last] = marked[:-1]
        y[row, one.start - 1 : last] = ids[one.start :]
    skill = torch.tensor([[one.skill] for one in records])
    return TableRows({"x": x, "y": torch.cat([skill, y], 1)}, torch.arange(len(records)))


def make_model(base: Any, config: MopsConfig, text: list[int]) -> PromptedLM:
    """Put prompts and a gate into a copy of a base; all prompts start from a text, a stretch each.

    Args:
        base: the frozen model; the copy attends eagerly.
        config: of the mixture.
        text: tokens, repeated where there are more prompts.
    """
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a property that PEFT asks
        own = copy.deepcopy(base)
        own.set_attn_implementation("eager")
        model = make_prompted(get_peft_model(own, config))
    shape = config.num_experts, config.prompts_per_expert
    tokens_EM = tile_tokens([text], shape[0] * shape[1]).view(shape)
    given = record_inputs(find_tuner(model.tuned).model, tokens_EM)
    starts = {
        name: given[int(name.removeprefix("prompts."))].float()
        for name in model.params
        if name.startswith("prompts.")
    }
    return replace(model, params={**model.params, **starts}, first=tokens_EM)


def draw_gate(model: PromptedLM) -> Params:
    """Make a gate that was never taught, uneven over experts."""
    gate: Any = find_tuner(model.tuned).adapters(["default"])["default"].gate
    drawn = copy.deepcopy(gate)
    drawn.redraw(1)
    names = {"layer1": drawn.hidden, "layer2": drawn.out}
    told = {f"gate.{n}.w": m.weight.detach().clone() for n, m in names.items()}
    return told | {f"gate.{n}.b": m.bias.detach().clone() for n, m in names.items()}


def play_rounds(
    method: Method, workers: Mapping[int, Rows], playing: Playing, seed: int
) -> tuple[Mapping[int, Params], float]:
    """Play all rounds; what each worker has then, and CPU seconds."""
    rows = TransformedRows(workers.__getitem__, method.transform or dict)
    engine = make_engine("serial", lambda worker: TrimmedRows(rows(worker)))
    cohort = UniformCohort(len(workers), playing.together)
    state = initialise_state(method)
    begun = time.process_time()
    for place in range(playing.rounds):
        state = play_round(method, engine, state, cohort=cohort(place, seed), seed=seed)
    engine.close()
    return dict.fromkeys(workers, state.params), time.process_time() - begun


def play_alone(
    method: Method, workers: Mapping[int, Rows], playing: Playing, seed: int
) -> tuple[Mapping[int, Params], float]:
    """Let workers train as often as they would take part, and exchange nothing."""
    cohort = UniformCohort(len(workers), playing.together)
    turns = [worker for place in range(playing.rounds) for worker in cohort(place, seed)]
    found, spent = {}, 0.0
    for worker, rows in workers.items():
        mine = Playing(turns.count(worker), 1)
        learnt, took = play_rounds(method, {0: rows}, mine, seed)
        found[worker], spent = learnt[0], spent + took
    return found, spent


@torch.no_grad()
def measure_served(
    method: Method, params: Mapping[int, Params], workers: Mapping[int, Rows]
) -> dict[str, Any]:
    """Serve each worker its own records: perplexity of an answer's token, of all and by skill.

    Args:
        method: says what a worker is served.
        params: of each worker.
        workers: their records.
    """
    nats: dict[int, float] = {}
    tokens: dict[int, int] = {}
    for worker, rows in workers.items():
        mine = params[worker]
        seen = TransformedRows(lambda _, rows=rows: rows, method.transform or dict)(0)
        chosen = method.serve.choose(mine, seen)
        piece = take_piece(mine, method.model.axes, chosen)
        for ids in torch.arange(seen.size).split(64):
            batch = TrimmedRows(seen).take(ids)
            told = method.serve.scores(piece, batch, chosen.axes)
            real = batch["y"][:, 1:] != -1
            truth = batch["y"][:, 1:].masked_fill(~real, 0)
            each = -told.gather(-1, truth[..., None])[..., 0].double() * real
            for skill, lost, count in zip(
                batch["y"][:, 0].tolist(), each.sum(1).tolist(), real.sum(1).tolist(), strict=True
            ):
                nats[skill] = nats.get(skill, 0.0) + lost
                tokens[skill] = tokens.get(skill, 0) + count
    return {
        "all": math.exp(sum(nats.values()) / sum(tokens.values())),
        "skills": [math.exp(nats[skill] / tokens[skill]) for skill in sorted(nats)],
    }
