"""The ledger as a file: lines added, made to last, cut where a checkpoint says."""

from __future__ import annotations

import os
from pathlib import Path

from moiety.core.errors import RunError, explain_os_error
from moiety.core.ledger import LedgerEntry, encode_entry


def append_entry(path: Path, entry: LedgerEntry) -> int:
    """Add a line; give the new length in bytes. ``sync_ledger`` makes it last."""
    try:
        with path.open("ab") as file:
            file.write(encode_entry(entry).encode() + b"\n")
            file.flush()
            return file.tell()
    except OSError as error:
        raise RunError(f"cannot write {path}: {explain_os_error(error)}") from error


def sync_ledger(path: Path) -> None:
    """Write the ledger through to the disk, so that no checkpoint is ahead of it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def cut_ledger(path: Path, length: int) -> None:
    """Forget what was written after a checkpoint."""
    if not path.exists():
        raise RunError(f"{path} is missing, and the run cannot go on without; start it anew")
    if path.stat().st_size < length:
        raise RunError(
            f"{path} is shorter than its checkpoint says ({length} bytes); it was changed: "
            "resume from an earlier checkpoint with --at, or start the run anew"
        )
    with path.open("rb+") as file:
        file.truncate(length)
