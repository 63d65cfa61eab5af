"""The record of a run: one JSON object a line, typed and versioned; reports read nothing else.

Each line ends with a digest of the rest of it, so that a change is noticed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

VERSION = 3


@dataclass(frozen=True)
class Start:
    """What a run is, written once as its first line.

    ``seen`` and ``unseen`` hold rows per class for every worker, [workers, classes], or are empty
    where the population is too large to list; unseen workers are numbered behind the seen ones.
    A run of 0 ``rounds`` is a reference that never trains. Of ``texts`` the loss is what counts,
    in nats a token.
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
    texts: bool = False


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
    ``seconds`` are those of the round, by a clock on the wall. Of them went to asking, who gets
    what and cutting pieces (``split_s``), to moving tensors between processes (``send_s``), to
    local work (``work_s``), to folding and the server (``merge_s``) and to waiting for others
    (``wait_s``), as the process that writes the ledger saw them. ``evaluate_s`` are those of an
    evaluation after it. ``sent_bytes`` really passed between processes, of all of them together.
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


@dataclass(frozen=True)
class Group:
    """The evaluation of one group of workers; one entry a worker, in the order of ``workers``.

    ``loss`` is the mean negative log-likelihood of a row (of a token, where rows are texts) in
    nats. NaN where a worker has nothing to be scored.
    """

    workers: Sequence[int]
    accuracy: Sequence[float]
    rows: Sequence[int]
    loss: Sequence[float] = ()


@dataclass(frozen=True)
class Evaluation:
    """Accuracy after ``round`` rounds, and how many seconds it took to find.

    ``routes[e][c]`` counts rows of class c sent to expert e.
    """

    kind: ClassVar[str] = "evaluation"
    round: int
    seconds: float
    groups: Mapping[str, Group]
    routes: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class End:
    """How a run ended: ``finished``, ``interrupted`` or ``failed``.

    ``seconds`` are those since it was started or last resumed.
    """

    kind: ClassVar[str] = "end"
    round: int
    seconds: float
    status: str
    reason: str = ""


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


DIGEST_LENGTH = 16


def encode_entry(entry: LedgerEntry) -> str:
    """Write an entry as one line of JSON, without the line's end.

    >>> encode_entry(End(round=3, seconds=0.5, status="finished")).partition(', "check"')[0]
    '{"kind": "end", "round": 3, "seconds": 0.5, "status": "finished", "reason": ""'
    """
    raw = {"kind": entry.kind, **replace_nonfinite(asdict(entry))}
    return add_line_digest(json.dumps(raw, allow_nan=False))


def add_line_digest(line: str) -> str:
    """Add to a line, which is a JSON object, the digest of it.

    >>> add_line_digest('{"round": 3}')
    '{"round": 3, "check": "d40907e68bf497fe"}'
    """
    digest = hashlib.sha256(line.encode()).hexdigest()[:DIGEST_LENGTH]
    return f'{line[:-1]}, "check": "{digest}"}}'


def is_line_intact(line: str) -> bool:
    """Say whether a line is the one that its digest was made of."""
    return line == add_line_digest(line.rpartition(', "check": "')[0] + "}")


def replace_nonfinite(value: Any) -> Any:
    """Write numbers that JSON does not know (NaN, infinity) as null."""
    if isinstance(value, Mapping):
        return {key: replace_nonfinite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


CHANGED = "the line was changed after it was written; bring the ledger back from a copy"

UNKNOWN = dict.fromkeys(("loss_first", "loss_last", "loss_mean", "work_s"), math.nan)


def drop_nulls(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was written as null."""
    return {key: value for key, value in raw.items() if value is not None}


def decode_entry(line: str) -> LedgerEntry:
    """Read one line; unknown kinds, versions and fields are refused by name.

    Raises:
        ValueError: for these, and for a line that is no entry or was changed.

    >>> decode_entry(encode_entry(End(round=3, seconds=0.5, status="lost")))
    End(round=3, seconds=0.5, status='lost', reason='')
    """
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(CHANGED) from error
    kind = str(raw.pop("kind", None)) if isinstance(raw, dict) else ""
    if kind == "start" and raw.get("version") != VERSION:
        raise ValueError(
            f"ledger of version {raw.get('version')!r}, but this reader knows {VERSION}; "
            "use the release of moiety that wrote it"
        )
    if not is_line_intact(line):
        raise ValueError(CHANGED)
    del raw["check"]
    if kind not in ENTRY_KINDS:
        raise ValueError(
            f"ledger line of unknown kind {kind!r}; this reader knows {sorted(ENTRY_KINDS)}"
        )
    record = ENTRY_KINDS[kind]
    names = {item.name for item in fields(record)}
    if not raw.keys() <= names:
        raise ValueError(
            f"ledger line of kind {kind!r} has unknown fields {sorted(raw.keys() - names)}"
        )
    if kind == "round":
        raw["workers"] = [Work(**{**UNKNOWN, **drop_nulls(work)}) for work in raw["workers"]]
        raw["loss_mean"] = math.nan if raw["loss_mean"] is None else raw["loss_mean"]
    if kind == "evaluation":
        raw["groups"] = {name: decode_group(group) for name, group in raw["groups"].items()}
    return record(**raw)


def decode_group(raw: Mapping[str, Any]) -> Group:
    """Read a group; what was written as null is NaN."""
    numbers = {
        name: [math.nan if one is None else one for one in raw.get(name, ())]
        for name in ("accuracy", "loss")
    }
    return Group(raw["workers"], numbers["accuracy"], raw["rows"], numbers["loss"])


def read_entries(path: Path) -> Iterator[LedgerEntry]:
    """Read a ledger line by line; a last line that was cut short (no line end) is left out.

    Raises:
        ValueError: for what is no ledger of this version, or was changed.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file; name the ledger of a run")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and is_cut_short(line):
                return
            try:
                yield decode_entry(line.removesuffix(b"\n").decode())
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error


def is_cut_short(line: bytes) -> bool:
    """Say whether a line without an end is the beginning of one, not one whose end was changed."""
    _, found, rest = line.rpartition(b', "check": "')
    return not found or len(rest) <= DIGEST_LENGTH + len('"}')


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
