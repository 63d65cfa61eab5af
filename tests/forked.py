"""Commands in a process of their own that need not import all libraries anew."""

import multiprocessing
import os
import sys
import traceback
import warnings
from pathlib import Path

import torch

import moiety.report.page
from moiety.run import cli
from moiety.run.commands import report, resume, run
from tests.waiting import LAST_S

IMPORTED = (moiety.report.page, report, resume, run)
"""What ``main`` would import anew in every fork."""


def run_forked(words: list[str], cwd: Path) -> str:
    """Run a command of the command line in a folder; what it printed, and it must succeed."""
    said = cwd / ".said.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child has one thread
        process = multiprocessing.get_context("fork").Process(
            target=carry_out, args=(words, cwd, said)
        )
        process.start()
    process.join(LAST_S)
    told = said.read_text(encoding="utf8")
    said.unlink()
    assert process.exitcode == 0, f"{words} gave {process.exitcode}:\n{told}"
    return told


def carry_out(words: list[str], cwd: Path, said: Path) -> None:
    """Be the command: all that it says goes to a file."""
    os.chdir(cwd)
    to = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to, 1)
    os.dup2(to, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)
    try:
        code = cli.main(words)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.exit(code)
