"""Workers of one's own: numbered, named, checked row by row, and told from others by a digest."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from moiety.core.describe import digest_tensor
from moiety.core.rows import Rows, chunk_positions, is_rowwise
from moiety.core.types import RESERVED, TARGET, Batch
from moiety.data.adopt import adopt_rows, move_rows
from moiety.serve.named import ColumnForm, read_forms

AT_ONCE = 4096
"""Rows that are checked at once."""

UNSEEN = "unseen"


@dataclass(frozen=True)
class OwnWorkers:
    """Who trains, and who is evaluated.

    Args:
        names: of the workers, by number; those of unseen ones stand behind.
        rows: worker -> its rows.
        groups: group -> worker -> rows to evaluate on; unseen workers are numbered behind.
        forms: column -> what it holds.
        digests: what is told from others -> the digest of its rows.
    """

    names: tuple[str, ...]
    rows: Mapping[int, Rows]
    groups: Mapping[str, Mapping[int, Rows]]
    forms: Mapping[str, ColumnForm]
    digests: Mapping[str, str]

    @property
    def told_names(self) -> Sequence[str]:
        """List the names that a ledger tells; none where they are the numbers themselves."""
        plain = self.names == tuple(map(str, range(len(self.names))))
        return [] if plain else list(self.names)

    def name(self, worker: int) -> str:
        """Name a worker in words: with its number, where that is not its name."""
        told = self.names[worker]
        return f"worker {told}" if told == str(worker) else f"worker {worker} ({told!r})"


@dataclass
class RowCheck:
    """Looks at every row once: columns, types, shapes, numbers that are not finite.

    Args:
        first: the worker whose columns all others must have, and these.
        digests: of the rows of whoever was looked at.
    """

    first: tuple[str, Mapping[str, ColumnForm]] | None = None
    digests: dict[str, str] = field(default_factory=dict)

    def look(self, who: str, rows: Rows) -> None:
        """Look at the rows of one worker.

        Raises:
            ValueError: with the worker, the row or column, and the remedy.
        """
        digest, rowwise = hashlib.sha256(), is_rowwise(rows)
        for ids in chunk_positions(rows, AT_ONCE):
            batch = rows.take(ids)
            self.check_columns(who, batch, rowwise=rowwise)
            check_finite_rows(who, batch, int(ids[0]))
            for name, column in batch.items():
                digest.update(f"{name} {digest_tensor(column)} ".encode())
        self.digests[who] = f"{rows.size} rows {digest.hexdigest()[:16]}"

    def check_columns(self, who: str, batch: Batch, *, rowwise: bool) -> None:
        """Compare the columns of a batch with those of the first worker."""
        taken = [name for name in RESERVED if name in batch]
        if taken:
            raise ValueError(
                f"{who} has columns {taken}, names that training uses itself; rename them"
            )
        if TARGET not in batch:
            raise ValueError(
                f"{who} has columns {list(batch)}, none of them {TARGET!r}, which is the target"
            )
        target = {f"the target {TARGET}": batch[TARGET]}
        forms = {**read_forms(batch), **read_forms(target)}
        self.first = self.first or (who, forms)
        whose, wanted = self.first
        wrong = [name for name in forms.keys() | wanted if forms.get(name) != wanted.get(name)]
        if rowwise and wrong:
            name = sorted(wrong)[0]
            raise ValueError(
                f"{who}: {name} is {write_form(forms.get(name))}, but that of {whose} is "
                f"{write_form(wanted.get(name))}; give all workers rows of one form"
            )


def write_form(form: ColumnForm | None) -> str:
    """Write what a column holds."""
    return "missing" if form is None else f"{form.dtype} [N{''.join(f', {n}' for n in form.shape)}]"


def check_finite_rows(who: str, batch: Batch, begun: int) -> None:
    """Refuse NaN and infinity."""
    for name, column in batch.items():
        if column.is_floating_point() and not torch.isfinite(column).all():
            bad = ~torch.isfinite(column).reshape(len(column), -1).all(1)
            raise ValueError(
                f"{who}, row {begun + int(bad.nonzero()[0])}: column {name!r} holds NaN or "
                "infinity; clean the data, or leave the row out"
            )


def gather_workers(
    workers: Mapping[Any, object],
    test: Mapping[str, Mapping[Any, object]],
    device: str,
) -> OwnWorkers:
    """Number workers in their order, look at all their rows, and move these to a device.

    A worker without rows is left out, with a warning.

    Args:
        workers: name -> rows, as ``adopt_rows`` takes them.
        test: group -> name -> rows; those of ``unseen`` may have any names, those of other groups
            are of workers that train.
        device: to move to.

    Raises:
        ValueError: for rows or names that do not fit, with the worker and the remedy.
    """
    if not isinstance(workers, Mapping) or not workers:
        raise ValueError("give workers as a mapping from names to rows, with one of them at least")
    opened = open_workers(workers, "worker")
    known = {name: number for number, name in enumerate(opened)}
    names, check = list(map(str, known)), RowCheck()
    for name, rows in opened.items():
        check.look(f"worker {name!r}", rows)
    if check.first is None:
        raise ValueError("no worker has a row; give one of them some")
    groups: dict[str, dict[int, Rows]] = {}
    for group, members in test.items():
        here = open_workers(members, f"test[{group!r}]: worker")
        for name, rows in here.items():
            check.look(f"test[{group!r}], worker {name!r}", rows)
        if group == UNSEEN:
            places = {name: len(names) + number for number, name in enumerate(here)}
            names += list(map(str, here))
        else:
            refuse_strangers(group, here, known, workers)
            places = known
        groups[group] = {places[name]: rows for name, rows in here.items() if name in places}
    _, forms = check.first
    return OwnWorkers(
        tuple(names),
        move_rows(dict(enumerate(opened.values())), device),
        {group: move_rows(members, device) for group, members in groups.items()},
        {name: form for name, form in forms.items() if name != f"the target {TARGET}"},
        check.digests,
    )


def refuse_strangers(
    group: str, members: Mapping[Any, Rows], known: Mapping[Any, int], given: object
) -> None:
    """Refuse members of a group that are not among the workers; those left out are no strangers."""
    assert isinstance(given, Mapping)
    strange = [name for name in members if name not in known and name not in given]
    if strange:
        raise ValueError(
            f"test[{group!r}] has {strange[:3]}, which are no workers; put those that do not train "
            f"into test[{UNSEEN!r}]"
        )


def open_workers(workers: Mapping[Any, object], what: str) -> dict[Any, Rows]:
    """Open rows; leave out, with a warning, whoever has none."""
    opened: dict[Any, Rows] = {}
    for name, source in workers.items():
        try:
            rows = adopt_rows(source)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{what} {name!r}: {error}") from error
        if rows.size:
            opened[name] = rows
        else:
            warnings.warn(f"{what} {name!r} has no rows and is left out", stacklevel=5)
    return opened
