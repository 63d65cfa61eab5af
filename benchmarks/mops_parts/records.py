"""The language model and the records of the study.

Letters: B records, T positions.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from moiety.core.streams import stream
from moiety.prompts.base import FromTransformers, Tokenizer, open_language

LENGTH, LONG = 48, 96
"""Tokens of a record at most; of one of Dolly's."""

SKILLS, TRAIN, VALID, TEST = 6, 40, 5, 10
"""Categories, and records of each to learn from, to choose rates by, and to test on."""


@dataclass(frozen=True)
class Record:
    """A record as tokens: the first ``start`` are the instruction."""

    ids: list[int]
    start: int
    skill: int


@dataclass(frozen=True, eq=False)
class Study:
    """The frozen model, and records of several skills, of so many tokens at most."""

    model: Any
    tokenizer: FromTransformers
    skills: tuple[str, ...]
    train: Sequence[Record]
    valid: Sequence[Record]
    test: Sequence[Record]
    length: int = LENGTH


def open_study() -> Study:
    """Open the model that MOIETY_LM names, in bfloat16, and the records in MOIETY_DATA."""
    language = open_language(os.environ["MOIETY_LM"], "bfloat16")
    tokenizer = language.tokenizer
    assert isinstance(tokenizer, FromTransformers)  # a folder was named
    skills, parts = read_records(tokenizer)
    return Study(language.model, tokenizer, skills, parts["train"], parts["valid"], parts["test"])


def read_records(tokenizer: Tokenizer) -> tuple[tuple[str, ...], Mapping[str, list[Record]]]:
    """Read Super-NaturalInstructions without definitions: short records, as many of each category.

    The tokenizer's end closes an answer. Records are drawn once, whatever the seed of a run.
    """
    rows = read_lines("instruct_superni_sample.jsonl.gz")
    asked = [(row["category"], row["input"], row["output"]) for row in rows]
    return divide_records(asked, tokenizer, LENGTH)


def read_dolly(tokenizer: Tokenizer) -> tuple[tuple[str, ...], Mapping[str, list[Record]]]:
    """Read Dolly-15k by category, likewise; instruction, then context if there is one."""
    asked = [
        (row["category"], "\n".join(filter(None, (row["instruction"], row["context"]))),
         row["response"])
        for row in read_lines("instruct_dolly15k.jsonl.gz")
    ]  # fmt: skip
    return divide_records(asked, tokenizer, LONG)


def read_lines(name: str) -> list[dict[str, str]]:
    """Read the records of a file in MOIETY_DATA."""
    path = Path(os.environ["MOIETY_DATA"]) / name
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def divide_records(
    rows: Sequence[tuple[str, str, str]], tokenizer: Tokenizer, length: int
) -> tuple[tuple[str, ...], Mapping[str, list[Record]]]:
    """Draw records of some categories that fit a length: to learn from, to choose by, to test on.

    Args:
        rows: category, request and answer.
        tokenizer: its end closes an answer.
        length: tokens of a record at most.
    """
    found: dict[str, list[tuple[list[int], int]]] = {}
    for place in torch.randperm(len(rows), generator=stream(0, "records")).tolist():
        kind, asked, told = rows[place]
        if len(found.get(kind, ())) == TRAIN + VALID + TEST:
            continue
        front = tokenizer.encode(asked + "\n")
        answer = [*tokenizer.encode(told), tokenizer.end]
        if len(front) + len(answer) <= length and len(answer) > 1:
            found.setdefault(kind, []).append(([*front, *answer], len(front)))
    need = TRAIN + VALID + TEST
    skills = sorted(kind for kind, some in found.items() if len(some) >= need)[:SKILLS]
    parts: dict[str, list[Record]] = {"train": [], "valid": [], "test": []}
    for skill, kind in enumerate(skills):
        some = [Record(ids, start, skill) for ids, start in found[kind][:need]]
        parts["train"] += some[:TRAIN]
        parts["valid"] += some[TRAIN : TRAIN + VALID]
        parts["test"] += some[TRAIN + VALID :]
    return tuple(skills), parts


def pad_records(records: Sequence[Record]) -> dict[str, Tensor]:
    """Pad records to one length, with no label on the instruction."""
    length = max(len(one.ids) for one in records)
    ids = torch.tensor([one.ids + [0] * (length - len(one.ids)) for one in records])
    mask = torch.tensor([[1] * len(o.ids) + [0] * (length - len(o.ids)) for o in records])
    labels = ids.masked_fill(mask == 0, -100)
    for row, one in enumerate(records):
        labels[row, : one.start] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@torch.no_grad()
def measure_perplexity(model: Any, records: Sequence[Record], tell: Any) -> dict[str, Any]:
    """Give the perplexity of an answer's token over all records, and by skill.

    Args:
        model: bare or tuned.
        records: of all skills.
        tell: gives further arguments of the model for a batch of records.
    """
    model.eval()
    count = 1 + max(one.skill for one in records)
    total, tokens = torch.zeros(count), torch.zeros(count)
    order = sorted(records, key=lambda one: len(one.ids))
    for first in range(0, len(order), 8):
        some = order[first : first + 8]
        batch = pad_records(some)
        labels_BT = batch.pop("labels")
        logits = model(**batch, **tell(some, labels_BT)).logits[:, -labels_BT.shape[1] :]
        each_BT = F.cross_entropy(
            logits[:, :-1].transpose(1, 2).float(), labels_BT[:, 1:], reduction="none"
        )
        for row, one in enumerate(some):
            total[one.skill] += each_BT[row].sum()
            tokens[one.skill] += (labels_BT[row, 1:] != -100).sum()
    return {"all": math.exp(total.sum() / tokens.sum()), "skills": (total / tokens).exp().tolist()}
