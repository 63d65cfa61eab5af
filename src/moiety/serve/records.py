"""Instruction records for a finished model: how well it foresees their answers, skill by skill.

Letters: N rows, B rows, T positions, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from moiety.core.objective import Objective
from moiety.core.rows import Rows, TableRows
from moiety.data.dataset import Dataset
from moiety.data.records import RecordColumns, encode_records, read_records
from moiety.data.roles import Columns
from moiety.ops.text import align_columns
from moiety.serve.named import Inputs, refuse_edges, require_array
from moiety.tasks.answers import Answers
from moiety.tasks.losses import UNSCORED


@dataclass(frozen=True)
class RecordsAdapter:
    """Records, as the tokens of a language model.

    Args:
        folder: of the language model.
        length: tokens of a row.
        columns: what was read in training.
    """

    folder: str
    length: int
    columns: RecordColumns

    def config(self) -> Mapping[str, Any]:
        columns = {**vars(self.columns), "request": list(self.columns.request)}
        return {"kind": "records", "folder": self.folder, "length": self.length, **columns}

    def read(self, path: Path, columns: Columns, /) -> Dataset:
        """Read records with the columns of training, or those that are said."""
        from moiety.prompts.base import open_language  # transformers and peft are an extra

        told = self.columns
        said = RecordColumns(
            columns.features or told.request, columns.target or told.answer, told.skill
        )
        records = read_records(path, said)
        tokenizer = open_language(self.folder).tokenizer
        x, y, _ = encode_records(records, tokenizer, self.length)
        skills = tuple(dict.fromkeys(records.skills)) or ("all",)
        number = {name: place for place, name in enumerate(skills)}
        skill = torch.tensor([[number[name]] for name in records.skills or ["all"] * len(x)])
        objective = Answers(tokenizer.names, skills)
        return Dataset(
            path.stem, x, torch.cat([skill, y], 1), source=path.name, objective=objective
        )

    def open(self, x: Inputs, edges: Tensor | None, check: Any, /) -> Rows:
        refuse_edges(edges)
        tokens = check(require_array(x))
        if tokens.is_floating_point():
            raise ValueError(f"x is {tokens.dtype}, but the model reads tokens; give int64 [N, T]")
        return TableRows({"x": tokens}, torch.arange(len(tokens)))

    def draw(self, count: int, shape: tuple[int, ...], rng: Generator, /) -> Tensor:
        raise ValueError(
            "what was learnt beside a language model is no file of its own without it; choose "
            "--format peft, a folder that PEFT opens beside it"
        )

    def answers(
        self, told: Iterable[Tensor], data: Dataset, objective: Objective, /
    ) -> RecordPredictions:
        return score_records(told, data)


@dataclass(frozen=True)
class RecordPredictions:
    """How well the answers of records were foreseen.

    Args:
        skills: their names.
        skill: of each record, [N].
        nats: -log p of its answer, [N].
        tokens: of its answer, [N].
        right: of these, how many were the likeliest, [N].
    """

    skills: tuple[str, ...]
    skill: Tensor
    nats: Tensor
    tokens: Tensor
    right: Tensor

    def rows(self) -> list[tuple[str, int, float, float]]:
        """Give name, records, perplexity of a token and the share that is right, then of all."""
        masks = [(name, self.skill == place) for place, name in enumerate(self.skills)]
        every = torch.ones_like(self.skill, dtype=torch.bool)
        masks += [("all", every)] if len(self.skills) > 1 else []
        return [
            (
                name,
                int(mask.sum()),
                math.exp(float(self.nats[mask].sum() / self.tokens[mask].sum())),
                float(self.right[mask].sum() / self.tokens[mask].sum()),
            )
            for name, mask in masks
        ]

    def text(self) -> str:
        head = ["skill", "records", "perplexity", "next token right"]
        lines = [[n, str(count), f"{p:.2f}", f"{100 * s:.1f} %"] for n, count, p, s in self.rows()]
        return align_columns([head, *lines])

    def to_plain(self) -> Mapping[str, Any]:
        keys = "records", "perplexity", "accuracy"
        return {name: dict(zip(keys, rest, strict=True)) for name, *rest in self.rows()}

    def lines(self) -> Iterable[Sequence[str]]:
        yield ["record", "skill", "tokens", "perplexity"]
        for row, place in enumerate(self.skill.tolist()):
            each = math.exp(float(self.nats[row] / self.tokens[row]))
            told: list[str] = [str(row + 1), self.skills[place], str(int(self.tokens[row]))]
            yield [*told, f"{each:.6g}"]

    def describe(self) -> str:
        return f"perplexities of {len(self.skill)} records"


def score_records(told: Iterable[Tensor], data: Dataset) -> RecordPredictions:
    """Sum up log-probabilities of rows, [B, T, V] in chunks, with the answers that followed."""
    assert data.y is not None
    found: list[tuple[Tensor, ...]] = []
    begun = 0
    for told_BTV in told:
        y_BT = data.y[begun : begun + len(told_BTV), 1:]
        begun += len(told_BTV)
        here_BT = y_BT != UNSCORED
        each_BT = told_BTV.gather(-1, y_BT.clamp_min(0)[..., None])[..., 0]
        right_BT = (told_BTV.argmax(-1) == y_BT) & here_BT
        nats_B = -torch.where(here_BT, each_BT, 0.0).double().sum(1)
        found.append((nats_B, here_BT.sum(1), right_BT.sum(1)))
    nats, tokens, right = (torch.cat(some) for some in zip(*found, strict=True))
    return RecordPredictions(data.find_objective().strata, data.y[:, 0], nats, tokens, right)
