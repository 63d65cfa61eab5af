"""The ledger as a file: lines added, made to last, cut where a checkpoint says."""

from __future__ import annotations

import os
from pathlib import Path

from moiety.core.errors import RunError, explain_os_error
from moiety.core.ledger import LedgerEntry, encode_entry
from moiety.core.lines import CHANGED, is_line_intact, read_line_digest, read_lines

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
