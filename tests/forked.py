"""Commands in a process of their own that need not import all libraries anew."""

from functools import partial
from pathlib import Path

from benchmarks.faults_parts.ranks import start_process
from moiety.run.cli import main
from moiety.run.commands import report

IMPORTED = (report,)
"""What ``main`` would import anew in every fork, besides what ranks import."""


def run_forked(words: list[str], cwd: Path) -> str:
    """Run a command of the command line in a folder; what it printed, and it must succeed."""
    process = start_process(partial(main, words), {}, cwd, ".said.txt")
    code, told = process.finish()
    process.said.unlink()
    assert code == 0, f"{words} gave {code}:\n{told}"
    return told
