"""Find ledgers in folders; write a page whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from moiety.core.errors import RunError
from moiety.core.ledger import Ledger, read_ledger

NAME = "ledger.jsonl"
MARK = "moiety report"
"""What a page says that it was made by; only a file that says so is overwritten."""


def find_ledgers(runs: Sequence[Path]) -> list[Path]:
    """List the ledgers of run folders and of folders that contain run folders, each once.

    Raises:
        ValueError: if there is no path, or a path has no ledger in or below it.
    """
    if not runs:
        raise ValueError("no runs to report on; name at least one run folder")
    found: dict[Path, Path] = {}
    for run in runs:
        here = run if run.is_file() else run / NAME
        ledgers = [here] if here.is_file() else sorted(run.rglob(NAME))
        if not ledgers:
            raise ValueError(f"{run} has no {NAME} in or below it; name the folder of a run")
        for ledger in ledgers:
            found.setdefault(ledger.resolve(), ledger)
    return list(found.values())


def load_ledgers(runs: Sequence[Path]) -> list[Ledger]:
    """Read the ledgers of run folders and of folders that contain run folders."""
    return [read_ledger(path) for path in find_ledgers(runs)]


def save_page(text: str, out: Path) -> Path:
    """Write the text to a file beside ``out``, then rename it, so no half page is ever seen.

    Raises:
        RunError: if a file is there that is no report.
    """
    path = out / "report.html" if out.is_dir() else out
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    fresh.write_text(text, encoding="utf8")
    return fresh.replace(path)


def check_replaceable(path: Path) -> None:
    """Refuse to write a page over anything but a page.

    Raises:
        RunError: if a file is there that is no report, or something that is no file.
    """
    if not path.exists():
        return
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(2048)
        if head.startswith(b"<!DOCTYPE html>") and f'content="{MARK}"'.encode() in head:
            return
    raise RunError(
        f"{path} is no report of moiety, and is not overwritten; choose another --out, or move "
        "it away"
    )
