"""Commands in forked processes: libraries are imported once, and any end of one is seen."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from moiety.recipes.options import with_options
from moiety.run.cli import main
from moiety.run.commands.list import do_list
from moiety.run.commands.personalize import do_personalize
from moiety.run.commands.plan import do_plan
from moiety.run.commands.predict import do_predict
from moiety.run.commands.report import do_report
from moiety.run.commands.resume import do_resume
from moiety.run.commands.run import do_run
from moiety.run.commands.sweep import do_sweep

IMPORTED = (
    do_list, do_personalize, do_plan, do_predict, do_report, do_resume, do_run, do_sweep,
    with_options,
)  # fmt: skip
"""The commands, which ``main`` would import anew in every fork."""

LAST_S = 600.0
"""The last limit of every wait: for what will never happen, not for a machine that is busy."""

TINY = shlex.split(
    "--rounds 4 --evaluate-every 2 --seeds 1 --population.workers 6 --population.unseen 2 "
    "--population.scheme labels --population.anchors 2 --population.classes 2 "
    "--participation.size 4 --participation.anchors 1 --mlp.hidden 4 --common.epochs 3 "
    "--checkpoint.every 2 --engine serial"
)


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit code (below 0: a signal; None: it did not end), its words."""

    code: int | None
    said: str


def write_table(path: Path) -> Path:
    """Write a file of 400 rows of five classes, which shows in the first features."""
    rng = np.random.default_rng(5)
    y = np.arange(400) % 5
    x = rng.normal(size=(400, 6)).astype(np.float32)
    x[np.arange(400), y] += 3
    np.savez(path, x=x, y=np.array(("red", "green", "blue", "white", "black"))[y])
    return path


def start_fork(work: Callable[[], object], said: Path, folder: Path) -> int:
    """Start work in a forked process, in a folder, with all that it says in a file."""
    torch.set_num_threads(1)
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child only computes
        child = os.fork()
    if child:
        return child
    code = 99
    try:
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with chdir(folder):
            code = end_code(work)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def end_code(work: Callable[[], object]) -> int:
    """Do some work, and give the exit code that the interpreter would."""
    try:
        result = work()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 70
    return result if isinstance(result, int) else 0


def await_fork(child: int, said: Path, last_s: float = LAST_S) -> Outcome:
    """Wait for a forked process, and kill it where it does not end."""
    code, end = None, time.monotonic() + last_s
    while code is None and time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        time.sleep(0.002)
    if code is None:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return Outcome(code, said.read_text(errors="replace") if said.exists() else "")


def play_commands(commands: Sequence[Sequence[str]], folder: Path) -> list[Outcome]:
    """Play commands of the command line, all at once, each in a process of its own."""
    said = [folder / f".said-{number}" for number in range(len(commands))]
    children = [
        start_fork(lambda words=words: main(words), file, folder)
        for words, file in zip(commands, said, strict=True)
    ]
    return [await_fork(child, file) for child, file in zip(children, said, strict=True)]


def read_all(folder: Path) -> Mapping[str, bytes]:
    """Read every byte of a folder, but for what the processes said."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith(".said-")
    }
