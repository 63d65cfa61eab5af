"""Ledgers in, tables and pictures out: a page, a table for the terminal, plain data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moiety.core.extras import explain_install
from moiety.report.text import format_table, summarize_runs

__all__ = ["format_table", "summarize_runs", "write_report"]

EXTRA = ("matplotlib", "jinja2")


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write one self-contained HTML page that compares runs.

    Args:
        runs: run folders (each with a ``ledger.jsonl``), or folders that contain run folders.
        out: the file to write; a folder that exists gets ``report.html``.

    Returns:
        The file that was written.

    Raises:
        ValueError: if there is no run, a path holds no ledger, or no ledger holds an evaluation.
        ImportError: if the extra ``report`` is not installed.
    """
    try:
        from moiety.report.page import render_page
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRA:
            raise
        raise ImportError(
            f"a report needs {error.name}, which is missing: {explain_install('report')}"
        ) from error
    from moiety.report.files import load_ledgers, save_page

    return save_page(render_page(load_ledgers(runs)), out)
