"""The ledger as a file: lines added, made to last, cut where a checkpoint says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moiety.core.errors import RunError, explain_os_error
from moiety.core.ledger import LedgerEntry, Round, encode_entry
from moiety.core.lines import CHANGED, is_line_intact, read_line_digest, read_lines
from moiety.engine.ranks import Ranks

LAST_BYTES = 64
"""Bytes at the end of a ledger that hold the digest of its last line."""


def append_entry(path: Path, entry: LedgerEntry) -> int:
    """Add a line; give the new length in bytes. ``sync_ledger`` makes it last."""
    try:
        with path.open("ab+") as file:
            file.seek(-min(file.tell(), LAST_BYTES), os.SEEK_END)
            before = read_line_digest(file.read(LAST_BYTES).decode(errors="replace"))
            file.write(encode_entry(entry, before).encode() + b"\n")
            file.flush()
            return file.tell()
    except OSError as error:
        raise RunError(f"cannot write {path}: {explain_os_error(error)}") from error


def sync_ledger(path: Path) -> None:
    """Write the ledger through to the disk, so that no checkpoint is ahead of it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def find_ledger_fault(path: Path, length: int) -> str | None:
    """Say why no run can go on from this length of a ledger, with the remedy; None where it can."""
    if not path.exists():
        return f"{path} is missing, and the run cannot go on without; start it anew"
    if path.stat().st_size < length:
        return (
            f"{path} is shorter than its checkpoint says ({length} bytes); it was changed: "
            "resume from an earlier checkpoint with --at, or start the run anew"
        )
    done = 0
    for number, (line, before) in enumerate(read_lines(path), 1):
        if done >= length:
            break
        done += len(line.encode()) + 1
        if done > length or not is_line_intact(line, before):
            return f"{path}, line {number}: {CHANGED}"
    return None


def cut_ledger(path: Path, length: int) -> None:
    """Forget what was written after a checkpoint."""
    with path.open("rb+") as file:
        file.truncate(length)


class Watcher(Protocol):
    """Sees every entry of the ledger as it is written: a progress line, TensorBoard.

    What is true asks for an end of the run after this round, with what it came to as final.
    """

    def __call__(self, entry: LedgerEntry, /) -> object: ...


@dataclass
class LedgerWriter:
    """Adds entries to a ledger, at the rank that leads, and shows them to those who look on.

    Args:
        path: of the ledger.
        ranks: who plays the run.
        watch: see the entries.
        round: the last one written down.
        size: bytes of the ledger.
        wished: one of them asked for an end.
        raised: what the first of them raised that did; the others still see the entries.
    """

    path: Path
    ranks: Ranks
    watch: Sequence[Watcher]
    round: int = 0
    size: int = 0
    wished: bool = False
    raised: Exception | None = None

    @property
    def asks(self) -> bool:
        """Whether no further round is to be played."""
        return self.wished or self.raised is not None

    def write(self, entry: LedgerEntry) -> None:
        """Add an entry."""
        self.round = entry.round if isinstance(entry, Round) else self.round
        if not self.ranks.leads:
            return
        self.size = append_entry(self.path, entry)
        for watcher in self.watch:
            try:
                self.wished = bool(watcher(entry)) or self.wished
            except Exception as error:  # whatever it is: the run is to end with a checkpoint
                self.raised = self.raised or error

    def sync(self) -> None:
        """Make what was written last."""
        if self.ranks.leads:
            sync_ledger(self.path)
