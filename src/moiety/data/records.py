"""Instruction records: a request, its answer, and of which skill it is; read and made tokens.

Letters: N rows, T positions.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from moiety.core.files import refuse_damage
from moiety.data.files import require_file
from moiety.data.roles import split_names
from moiety.data.tables import LINES, open_table
from moiety.tasks.losses import UNSCORED

TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".pq")
WANTED = f"records as JSON lines or a table, a file that ends in {', '.join((*LINES, *TABLES))}"

REQUESTS = ("definition", "instruction", "prompt", "question", "request", "context", "input")
ANSWERS = ("response", "answer", "output", "completion")
SKILLS = ("skill", "category", "task")
"""Usual names of columns, in the order in which a request is put together."""

PADDING = -1
"""No token; a token t of an answer is written -2 - t, so that rows say what a gate may read."""


class Encoder(Protocol):
    """How texts become tokens."""

    @property
    def end(self) -> int: ...
    def encode(self, text: str, /) -> list[int]: ...


@dataclass(frozen=True)
class RecordColumns:
    """Which columns of records are what; empty for those with usual names.

    Args:
        request: put together in this order, a line end between.
        answer: what is learnt.
        skill: of which kind a request is.
        group: who holds a record.
    """

    request: tuple[str, ...] = ()
    answer: str = ""
    skill: str = ""
    group: str = ""


@dataclass(frozen=True)
class Records:
    """Texts, a request and an answer each.

    Args:
        requests: what is asked.
        answers: what is to be said.
        skills: the skill of each; empty where nothing says.
        groups: who holds each; empty where nothing says.
        columns: what was read, by name.
    """

    requests: Sequence[str]
    answers: Sequence[str]
    skills: Sequence[str]
    groups: Sequence[str]
    columns: RecordColumns


def read_records(path: Path, said: RecordColumns) -> Records:
    """Read records from a file.

    Raises:
        ValueError: if there are none, or a column or an answer is missing; says where.
    """
    return gather_records(path, read_rows_of(path), said)


def gather_records(path: Path, rows: Sequence[Mapping[str, str]], said: RecordColumns) -> Records:
    """Gather records from rows of texts by column; ``path`` is what errors call them.

    Raises:
        ValueError: as ``read_records``.
    """
    if not rows:
        raise ValueError(f"{path} has no record; give {WANTED}")
    columns = choose_record_columns(path, rows[0], said)
    for number, row in enumerate(rows, 1):
        if not row.get(columns.answer, "").strip():
            raise ValueError(f"{path}: record {number} has no {columns.answer!r}; drop it")
    requests = [
        "\n".join(row[name] for name in columns.request if row.get(name, "")) for row in rows
    ]
    for number, request in enumerate(requests, 1):
        if not request.strip():
            raise ValueError(f"{path}: record {number} asks nothing; drop it")
    skills, groups = (
        take_labels(path, rows, role, name)
        for role, name in (("skill", columns.skill), ("group", columns.group))
    )
    answers = [row[columns.answer] for row in rows]
    return Records(requests, answers, skills, groups, columns)


def read_rows_of(path: Path) -> list[dict[str, str]]:
    """Read the rows of a file as texts by column."""
    require_file(path, WANTED)
    if path.name.lower().endswith(LINES):
        return [*read_json_lines(path)]
    if path.name.lower().endswith(TABLES):
        table = open_table(path)
        read = table.read(table.names, table.names)
        words = {name: column.words() for name, column in read.items()}
        count = len(next(iter(words.values())))
        return [{name: words[name][place] or "" for name in words} for place in range(count)]
    raise ValueError(f"{path} is of another kind; give {WANTED}")


def read_json_lines(path: Path) -> Iterable[dict[str, str]]:
    """Read JSON lines; an empty line is none."""
    with refuse_damage(f"{path} cannot be read", "write it as UTF-8, one JSON object a line"):
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is no JSON ({error}); mend it") from error
        if not isinstance(row, dict):
            raise ValueError(  # noqa: TRY004  (a fault of the file)
                f"{path}, line {number} is no object; write {{...}} with columns"
            )
        yield {name: write_json_value(value) for name, value in row.items()}


def write_json_value(value: Any) -> str:
    """Write a value of JSON as text; nothing for none, and for NaN, which tables write for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def choose_record_columns(path: Path, row: Mapping[str, str], said: RecordColumns) -> RecordColumns:
    """Choose columns: those that were said, else those with usual names.

    Raises:
        ValueError: for one that is not there, and where no request or answer is found.
    """
    said = replace(said, request=split_names(said.request, list(row)))
    named = [*said.request, said.answer, said.skill, said.group]
    missing = [name for name in named if name and name not in row]
    if missing:
        raise ValueError(f"{path} has no columns {missing}; it has {list(row)}")
    answer = said.answer or next((name for name in ANSWERS if name in row), "")
    skill = said.skill or next((name for name in SKILLS if name in row), "")
    group = said.group or ("worker" if "worker" in row else "")
    request = said.request or tuple(
        name for name in REQUESTS if name in row and name not in (answer, skill, group)
    )
    if not answer or not request:
        lacking = "--features COLUMNS of the request" if answer else "--target COLUMN of the answer"
        raise ValueError(f"{path} has columns {list(row)}; say {lacking}")
    twice = {name for name in (answer, skill, group) if name in request}
    if twice:
        raise ValueError(f"{path}: {sorted(twice)} would be read as the request too; choose others")
    return RecordColumns(request, answer, skill, group)


def take_labels(path: Path, rows: Sequence[Mapping[str, str]], role: str, name: str) -> list[str]:
    """Take the labels of a column; nothing where there is no column.

    Raises:
        ValueError: for a record without one.
    """
    if not name:
        return []
    labels = [row.get(name, "").strip() for row in rows]
    if not all(labels):
        raise ValueError(
            f"{path}: record {labels.index('') + 1} has no {role} in column {name!r}; fill it in"
        )
    return labels


def encode_records(records: Records, encoder: Encoder, length: int) -> tuple[Tensor, Tensor, int]:
    """Make records tokens.

    A request that leaves no room for its answer is cut at its front; an answer is cut at its end
    where it alone is longer than three quarters of a row.

    Args:
        records: texts.
        encoder: of the language model.
        length: tokens of a row.

    Returns:
        Tokens [N, T], those of answers as -2 - token, -1 behind them; what follows each position
        [N, T], -1 where it is no answer; and how many records were cut.
    """
    x_NT = torch.full((len(records.requests), length), PADDING)
    y_NT = torch.full((len(records.requests), length), UNSCORED)
    most, cut = max(1, 3 * length // 4), 0
    for row, (request, answer) in enumerate(zip(records.requests, records.answers, strict=True)):
        told = [*encoder.encode(answer), encoder.end][:most]
        room = length + 1 - len(told)
        asked = encoder.encode(request + "\n")
        cut += len(asked) > room or told[-1] != encoder.end
        asked = asked[-room:]
        tokens = torch.tensor([*asked, *told])
        marked = torch.tensor([*asked, *(-2 - token for token in told)])
        x_NT[row, : len(tokens) - 1] = marked[:-1]
        y_NT[row, len(asked) - 1 : len(tokens) - 1] = tokens[len(asked) :]
    return x_NT, y_NT, cut


def show_tokens(x_BT: Tensor) -> Tensor:
    """Give the tokens of marked rows, 0 where there is none, [B, T].

    >>> show_tokens(torch.tensor([[5, 6, -9, -1]])).tolist()
    [[5, 6, 7, 0]]
    """
    return torch.where(x_BT < PADDING, -2 - x_BT, x_BT.clamp_min(0))
