"""The record of a run: one JSON object a line, typed and versioned; reports read nothing else.

Each line ends with a digest of the rest of it and of the line before, so that a change is noticed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from moiety.core.lines import (
    CHANGED,
    add_line_digest,
    drop_nulls,
    is_line_intact,
    read_lines,
    replace_nonfinite,
)
from moiety.core.objective import OF_CLASSES, MetricEntry
from moiety.core.old_ledgers import refuse_version, upgrade_group, upgrade_start
from moiety.core.state import Refusal

VERSION = 4
READ = (3, VERSION)
"""Versions that are read; ledgers of version 3 knew classes and texts, by accuracy and loss."""


@dataclass(frozen=True)
class Start:
    """What a run is, written once as its first line.

    ``seen``, ``unseen``: rows per class of each worker, [workers, classes], or nothing of too many;
    unseen ones come last, also in ``worker_names``. ``classes``: kinds of rows (classes, fifths, or
    labels). ``common_s``, ``common_score``: of a common expert. 0 ``rounds``: a reference run.
    """

    kind: ClassVar[str] = "start"
    recipe: str
    method: str
    seed: int
    engine: str
    device: str
    rounds: int
    command: str
    time: str
    config: Mapping[str, Any]
    environment: Mapping[str, str]
    classes: Sequence[str]
    num_seen: int
    num_unseen: int
    seen: Sequence[Sequence[int]]
    unseen: Sequence[Sequence[int]]
    num_parameters: int
    constant_bytes: int
    version: int = VERSION
    note: str = ""
    objective: str = "classes"
    metrics: Sequence[MetricEntry] = OF_CLASSES
    worker_names: Sequence[str] = ()
    common_s: float = 0.0
    common_score: float | None = None


@dataclass(frozen=True)
class Work:
    """What one worker did in one round: losses are batch means, bytes what crossed the wire.

    ``part`` lists the indices held of short axes, ``held`` counts those of every axis cut: the
    subnets of long axes can be assigned again from the seed. ``work_s`` are the seconds of its
    work, NaN where workers are stacked.
    """

    worker: int
    role: str
    part: Mapping[str, Sequence[int]]
    down_bytes: int
    up_bytes: int
    steps: int
    rows: int
    loss_first: float
    loss_last: float
    loss_mean: float
    model_version: int
    held: Mapping[str, int] = field(default_factory=dict)
    work_s: float = math.nan


@dataclass(frozen=True)
class Round:
    """One commit. ``gate_load`` is the share of workers that held each index of the gated axis.

    ``clock`` is the virtual time of the commit in seconds, 0 where the run has no virtual clock.
    ``seconds`` are those of the round, by a clock on the wall: of asking, who gets what and cutting
    pieces (``split_s``), of moving tensors between processes (``send_s``), of local work
    (``work_s``), of folding and the server (``merge_s``) and of waiting for others (``wait_s``), as
    the process that writes the ledger saw them; of an evaluation ``evaluate_s``. ``sent_bytes``
    really passed between all processes; ``refused`` are replies not merged; ``epsilon`` is what all
    rounds so far told of one worker, ``row_epsilon`` of one row of each that took part, by worker.
    """

    kind: ClassVar[str] = "round"
    round: int
    stage: int
    seconds: float
    down_bytes: int
    up_bytes: int
    loss_mean: float
    workers: Sequence[Work]
    gate_load: Sequence[float] = ()
    clock: float = 0.0
    split_s: float = 0.0
    send_s: float = 0.0
    work_s: float = 0.0
    merge_s: float = 0.0
    wait_s: float = 0.0
    evaluate_s: float = 0.0
    sent_bytes: int = 0
    refused: Sequence[Refusal] = ()
    epsilon: float | None = None
    row_epsilon: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Group:
    """The evaluation of one group of workers; one entry a worker, in the order of ``workers``.

    ``rows`` counts what was scored: rows, or tokens of texts. ``metrics`` have a value a worker by
    the metric's name; NaN where a worker has nothing to be scored.
    """

    workers: Sequence[int]
    rows: Sequence[int]
    metrics: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Evaluation:
    """How good the model is after ``round`` rounds, and how many seconds it took to find.

    ``routes[e][c]`` counts rows of class c (of ``Start.classes``) sent to expert e.
    """

    kind: ClassVar[str] = "evaluation"
    round: int
    seconds: float
    groups: Mapping[str, Group]
    routes: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class End:
    """How a run ended: ``finished``, ``interrupted`` or ``failed``.

    ``seconds`` are those since it went on; ``final`` is the round of the final model, if any.
    """

    kind: ClassVar[str] = "end"
    round: int
    seconds: float
    status: str
    reason: str = ""
    final: int | None = None


LedgerEntry = Start | Round | Evaluation | End
ENTRY_KINDS: Mapping[str, type] = {entry.kind: entry for entry in (Start, Round, Evaluation, End)}


@dataclass(frozen=True)
class Ledger:
    """A ledger that was read: its start, rounds, evaluations and, if it is over, its end."""

    start: Start
    rounds: Sequence[Round] = ()
    evaluations: Sequence[Evaluation] = ()
    end: End | None = None
    path: Path = field(default_factory=Path)


def encode_entry(entry: LedgerEntry, before: str = "") -> str:
    """Write an entry as one line of JSON, without its end; ``before`` is the last line's digest.

    >>> encode_entry(End(round=3, seconds=0.5, status="finished")).partition(', "check"')[0]
    '{"kind": "end", "round": 3, "seconds": 0.5, "status": "finished", "reason": "", "final": null'
    """
    raw = {"kind": entry.kind, **replace_nonfinite(asdict(entry))}
    return add_line_digest(json.dumps(raw, allow_nan=False), before)


UNKNOWN = dict.fromkeys(("loss_first", "loss_last", "loss_mean", "work_s"), math.nan)


def decode_entry(line: str, before: str = "") -> LedgerEntry:
    """Read one line; unknown kinds, versions and fields are refused by name.

    Raises:
        ValueError: for these, and for a line that is no entry, was changed, or does not follow
            the one of digest ``before``.

    >>> decode_entry(encode_entry(End(round=3, seconds=0.5, status="lost")))
    End(round=3, seconds=0.5, status='lost', reason='', final=None)
    """
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(CHANGED) from error
    kind = str(raw.pop("kind", None)) if isinstance(raw, dict) else ""
    if kind == "start":
        refuse_version(raw.get("version"), READ)
    if not is_line_intact(line, before):
        raise ValueError(CHANGED)
    del raw["check"]
    if kind not in ENTRY_KINDS:
        raise ValueError(
            f"ledger line of unknown kind {kind!r}; this reader knows {sorted(ENTRY_KINDS)}"
        )
    record, raw = ENTRY_KINDS[kind], DECODE.get(kind, dict)(raw)
    names = {item.name for item in fields(record)}
    if not raw.keys() <= names:
        unknown = sorted(raw.keys() - names)
        raise ValueError(f"ledger line of kind {kind!r} has unknown fields {unknown}")
    return record(**raw)


def decode_start(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a run is."""
    raw = raw if raw["version"] == VERSION else upgrade_start(raw)
    return {**raw, "metrics": [MetricEntry(**one) for one in raw["metrics"]]}


def decode_round(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Read a round; what was written as null is NaN."""
    workers = [Work(**{**UNKNOWN, **drop_nulls(work)}) for work in raw["workers"]]
    mean = math.nan if raw["loss_mean"] is None else raw["loss_mean"]
    raw = {**raw, "refused": tuple(Refusal(**one) for one in raw.get("refused", ()))}
    return {**raw, "workers": workers, "loss_mean": mean}


def decode_group(raw: Mapping[str, Any]) -> Group:
    """Read a group; what was written as null is NaN."""
    found = raw["metrics"] if "metrics" in raw else upgrade_group(raw)
    metrics = {
        name: [math.nan if one is None else one for one in values] for name, values in found.items()
    }
    return Group(raw["workers"], raw["rows"], metrics)


DECODE: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "start": decode_start,
    "round": decode_round,
    "evaluation": lambda raw: {
        **raw,
        "groups": {name: decode_group(one) for name, one in raw["groups"].items()},
    },
}
"""Kind -> what reads its fields, where they are not as they stand in JSON."""


def read_entries(path: Path) -> Iterator[LedgerEntry]:
    """Read a ledger line by line; a last line that was cut short (no line end) is left out.

    Raises:
        ValueError: for what is no ledger of this version, or was changed.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file; name the ledger of a run")
    for number, (line, before) in enumerate(read_lines(path), 1):
        try:
            yield decode_entry(line, before)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error


def read_ledger(path: Path) -> Ledger:
    """Read a whole ledger file.

    Raises:
        ValueError: if the file has no start or holds a line this version cannot read.
    """
    found = list(read_entries(path))
    starts = [entry for entry in found if isinstance(entry, Start)]
    if not starts:
        raise ValueError(f"{path} has no 'start' line; it is not the ledger of a run")
    return Ledger(
        start=starts[0],
        rounds=[entry for entry in found if isinstance(entry, Round)],
        evaluations=[entry for entry in found if isinstance(entry, Evaluation)],
        end=found[-1] if isinstance(found[-1], End) else None,
        path=path,
    )
