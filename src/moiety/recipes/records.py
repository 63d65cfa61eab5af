"""Instruction records as a recipe's data: read, and made tokens of the language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moiety.data import datasets
from moiety.data.classes import encode_labels
from moiety.data.dataset import Dataset
from moiety.data.hub import PREFIX, read_hub_records
from moiety.data.records import RecordColumns, Records, encode_records, read_records
from moiety.data.skills import NAME, make_skill_records
from moiety.recipes.objective import apply_choices
from moiety.recipes.options import get_options
from moiety.recipes.record import Federation
from moiety.serve.records import RecordsAdapter
from moiety.tasks.answers import Answers

ALL = "all"
"""The one skill of records that name none."""

UNREAD = ("drop", "weight", "test")


def read_record_data(record: Federation) -> tuple[Dataset, RecordsAdapter]:
    """Read the records of a recipe; the language model that its network names makes them tokens.

    Returns:
        The rows, and how such records come to the finished model.

    Raises:
        ValueError: if there are none, or something said of them is not read.
    """
    from moiety.prompts.base import open_language  # transformers and peft are an extra

    said = [f"--{name}" for name in UNREAD if getattr(record, name)]
    if said:
        raise ValueError(f"records do not read {', '.join(said)}; leave it out")
    choices: Any = get_options(record.options, record.net)
    length = choices["length"]
    if length < 4:
        raise ValueError(f"{record.net}.length={length}; choose at least 4 tokens")
    records, notes = find_records(record)
    language = open_language(choices["folder"], choices["dtype"], choices["attention"])
    x, y, cut = encode_records(records, language.tokenizer, length)
    skill, skills = number_labels(records.skills, "skill")
    group, holders = number_labels(records.groups, "group")
    names = skills or (ALL,)
    if record.skill and len(names) == 1:
        raise ValueError(
            f"--skill {record.skill}: all records have {names[0]!r}, so a gate has nothing to tell "
            "apart; leave --skill out, and the gate is taught by clusters, or train one prompt by "
            "--methods fedprompt"
        )
    skill = torch.zeros(len(x), dtype=torch.int64) if skill is None else skill
    if cut:
        notes.append(f"{cut} of {len(x)} records are longer than {length} tokens and cut")
    if len(names) == 1:
        notes.append("records name one skill only: the gate is taught by clusters of requests")
    data = Dataset(
        Path(record.data).name,
        x,
        torch.cat([skill[:, None], y], 1),
        groups=group,
        holders=holders,
        source=Path(record.data).name,
        notes=tuple(notes),
        objective=Answers(language.tokenizer.names, names),
    )
    return apply_choices(data, record), RecordsAdapter(choices["folder"], length, records.columns)


def find_records(record: Federation) -> tuple[Records, list[str]]:
    """Find the records: those made up here, of a file or of Hugging Face; and notes on them.

    Raises:
        ValueError: if there are no such.
    """
    if record.data in datasets.DATASETS:
        raise ValueError(
            f"network {record.net!r} reads records, but the data are {record.data}, a set known by "
            "name; choose another --net, or --data FILE of requests and answers"
        )
    said = RecordColumns(record.features, record.target, record.skill, record.group)
    if record.data.startswith(PREFIX):
        records, others = read_hub_records(record.data.removeprefix(PREFIX), said)
        return records, [f"splits that are not read: {', '.join(others)}"] if others else []
    if record.data != NAME:
        return read_records(Path(record.data), said), []
    if said != RecordColumns():
        raise ValueError(
            f"the data set {NAME!r} has columns of its own; leave out --features, --target, "
            "--skill and --group, or give a file by --data"
        )
    return make_skill_records(), []


def number_labels(labels: Any, role: str) -> tuple[Tensor | None, tuple[str, ...]]:
    """Number labels in the order of their names; nothing where there are none."""
    if not labels:
        return None, ()
    return encode_labels(Path("records"), role, np.array(labels, dtype=object))
