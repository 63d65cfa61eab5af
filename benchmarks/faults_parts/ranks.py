"""Ranks that disagree, stand still, are killed or never come.

Every rank that is left must end by itself with an exit code that is not 0 and one sentence that
names what is wrong, and write nothing where they disagree. Ranks are forked, so that libraries are
imported once, and started as by hand: torchrun would end the others before they can say anything.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from moiety.report import page
from moiety.run.cli import main
from moiety.run.commands.resume import do_resume
from moiety.run.commands.run import do_run

IMPORTED = (do_resume, do_run, page)
"""Commands and report, which ``main`` would import anew in every fork."""

LAST_S = 600.0
"""The last limit of every wait: for what will never happen, not for a machine that is busy."""

WORDS = (
    *("run", "ist-digits", "--methods", "diloco", "--seeds", "1", "--rounds", "4"),
    *("--evaluate-every", "2", "--normed.hidden", "32", "32", "--engine", "collective"),
    *("--out", "out"),
)
LONG = (
    *("run", "ist-digits", "--methods", "ist", "--seeds", "1", "--rounds", "100000"),
    *("--evaluate-every", "100000", "--normed.hidden", "32", "32", "--checkpoint.every", "4"),
    *("--out", "out", "--engine"),
)
TABLE = (
    *("run", "yours", "--data", "table.csv", "--target", "label", "--methods", "fedavg"),
    *("--seeds", "1", "--rounds", "1", "--engine", "collective", "--out", "../out"),
)


@dataclass
class RankProcess:
    """One rank under way.

    Args:
        process: of the system.
        said: the file with all that it says.
    """

    process: Any
    said: Path

    def finish(self) -> tuple[int, str]:
        """Wait for its end: exit code, and what it said."""
        self.process.join(LAST_S)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
        return -999 if code is None else code, self.said.read_text()


def find_free_port() -> int:
    """Find a port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start_rank(act: Callable[[], int], about: Mapping[str, object], folder: Path) -> RankProcess:
    """Fork a rank that does something in a folder.

    Args:
        act: what it does; gives its exit code.
        about: what its environment says.
        folder: to work in.
    """
    return start_process(act, about, folder, f"said{about['RANK']}.txt")


def start_process(
    act: Callable[[], int], about: Mapping[str, object], folder: Path, name: str
) -> RankProcess:
    """Fork a process that does something in a folder, and says it to a file of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child has one thread
        process = multiprocessing.get_context("fork").Process(
            target=carry_out, args=(act, about, folder, said)
        )
        process.start()
    return RankProcess(process, said)


def carry_out(
    act: Callable[[], int], about: Mapping[str, object], folder: Path, said: Path
) -> None:
    """Be a rank."""
    os.environ.update({name: str(value) for name, value in about.items()})
    os.chdir(folder)
    to = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(to, 1)
    os.dup2(to, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)
    sys.exit(act())


def describe_rank(rank: int, size: int, port: int, timeout_s: float = 120.0) -> dict[str, object]:
    """Give the environment of a rank."""
    return {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "MOIETY_RANKS_TIMEOUT_S": timeout_s,
    }


@dataclass(frozen=True)
class Disagreement:
    """Two ranks of which one is started otherwise.

    Args:
        name: what differs.
        words: of rank 0.
        other: further words of rank 1, which override; or all its words, where they are a command.
        about: what else its environment says.
        names: all must stand in what each rank says.
    """

    name: str
    other: tuple[str, ...]
    names: tuple[str, ...]
    words: tuple[str, ...] = WORDS
    about: Mapping[str, object] = field(default_factory=dict)


DISAGREEMENTS = (
    Disagreement("seed", ("--seed", "3"), ("seed", "0 at rank 0", "3 at rank 1")),
    Disagreement("learning rate", ("--local.lr", "0.3"), ("local.lr", "0.3 at rank 1")),
    Disagreement("method", ("--methods", "fedavg"), ("methods", "diloco", "fedavg")),
    Disagreement(
        "network",
        ("--normed.hidden", "16", "16"),
        ("normed.hidden", "[32, 32]", "[16, 16] at rank 1"),
    ),
    Disagreement("data file", ("--data", "wine"), ("data", "digits", "wine")),
    Disagreement("rounds", ("--rounds", "5"), ("rounds", "4 at rank 0", "5 at rank 1")),
    Disagreement(
        "evaluation", ("--evaluate-every", "4"), ("evaluate_every", "2 at rank 0", "4 at rank 1")
    ),
    Disagreement("engine", ("--engine", "partitioned"), ("engine", "collective", "partitioned")),
    Disagreement("engine of one", ("--engine", "serial"), ("engine", "collective", "serial")),
    Disagreement("folder", ("--out", "elsewhere"), ("folder", "out", "elsewhere")),
    Disagreement("command", ("resume", "."), ("command", "run", "resume")),
    Disagreement("number of ranks", (), ("WORLD_SIZE", "2", "3"), about={"WORLD_SIZE": 3}),
    Disagreement("rows of the data", (), ("data", "at rank 0", "at rank 1"), words=TABLE),
)


def try_disagreement(case: Disagreement, folder: Path) -> str:
    """Start two ranks that disagree; what is wrong with how they end, or nothing."""
    port, ranks = find_free_port(), list[RankProcess]()
    for rank in (0, 1):
        place = folder / f"rank{rank}"
        place.mkdir(parents=True)
        rows = "".join(f"{i % 7},{i * (rank + 1) % 5},{i % 2}\n" for i in range(400))
        (place / "table.csv").write_text("a,b,label\n" + rows)
        words = list(case.words)
        if rank and case.other[:1] == ("resume",):
            words = list(case.other)
        elif rank:
            words += case.other
        about = {**describe_rank(rank, 2, port), **(case.about if rank else {})}
        ranks.append(start_rank(partial(main, words), about, place))
    wrong = [judge_end(*one.finish(), case.names) for one in ranks]
    written = [path for path in folder.rglob("*.json*") if path.is_file()]
    return "; ".join(filter(None, [*wrong, f"{written} written" if written else ""]))


def judge_end(code: int, said: str, names: Sequence[str]) -> str:
    """Say what is wrong with how a rank ended: one sentence, with all names, and no traceback."""
    lines = [line for line in said.splitlines() if line.startswith("moiety: ")]
    if code == 0 or len(lines) != 1 or "Traceback" in said or "terminate called" in said:
        return f"exit {code}: {said[-500:]!r}"
    missing = [name for name in names if name not in lines[0]]
    return f"{missing} not in {lines[0]!r}" if missing else ""


@dataclass(frozen=True)
class Loss:
    """Two ranks of which one is lost.

    Args:
        name: how.
        rank: which one.
        number: the signal it gets; 0 where it is never started.
        joined: whether it plays rounds before.
        engine: what they play with.
        names: all must stand in what the other says.
    """

    name: str
    rank: int
    number: int
    names: tuple[str, ...]
    joined: bool = True
    engine: str = "collective"


GO_ON = ("another rank was lost, or does not answer", "The last checkpoint is kept in out",
         "torchrun --nproc-per-node 2 -m moiety resume out")  # fmt: skip
LOSSES = (
    Loss("rank 1 never comes", 1, 0, ("1 of 2 ranks joined", "missing: rank 1"), joined=False),
    Loss("rank 0 never comes", 0, 0, ("rank 0 is missing", "MASTER_PORT"), joined=False),
    Loss("rank 1 stands still before it joins", 1, signal.SIGSTOP, ("missing: rank 1",),
         joined=False),
    Loss("rank 1 stands still", 1, signal.SIGSTOP, (*GO_ON, "rank 1 has not answered")),
    Loss("rank 0 stands still", 0, signal.SIGSTOP, (*GO_ON, "rank 0 has not answered")),
    Loss("rank 1 is killed", 1, signal.SIGKILL, (*GO_ON, "rank 1 ended without a word")),
    Loss("rank 0 is killed", 0, signal.SIGKILL, (*GO_ON, "rank 0 ended without a word")),
    Loss(
        "rank 1 of blocks stands still", 1, signal.SIGSTOP, (*GO_ON, "rank 1 has not answered"),
        engine="peers",
    ),
)  # fmt: skip


def try_loss(case: Loss, folder: Path, timeout_s: float = 3.0) -> str:
    """Lose a rank; what is wrong with how the other ends, or nothing."""
    port, ranks = find_free_port(), dict[int, RankProcess]()
    # One that is to join has the time that a busy machine takes for it.
    limit = 10.0 if case.joined else timeout_s
    for rank in (0, 1):
        if rank != case.rank or case.number:
            ranks[rank] = start_rank(
                partial(main, [*LONG, case.engine]), describe_rank(rank, 2, port, limit), folder
            )
            if rank == case.rank and not case.joined:
                os.kill(ranks[rank].process.pid, case.number)
    if case.joined:
        wait_for_checkpoint(folder / "out", ranks.values())
        os.kill(ranks[case.rank].process.pid, case.number)
    wrong = judge_end(*ranks[1 - case.rank].finish(), case.names)
    if case.rank in ranks:
        ranks[case.rank].process.kill()
        ranks[case.rank].process.join()
    return wrong


def wait_for_checkpoint(out: Path, ranks: Any) -> None:
    """Wait until a run has written its second checkpoint."""
    end = time.monotonic() + LAST_S
    while not (out / "checkpoints" / "00000008").exists():
        over = [one.said.read_text()[-500:] for one in ranks if not one.process.is_alive()]
        if over or time.monotonic() > end:
            raise RuntimeError(f"no checkpoint came: {over}")
        time.sleep(0.02)


def run_disagreements(*, quick: bool) -> tuple[int, int, list[str]]:
    """Try all ways to disagree; a few of them where it is to be quick."""
    failed = []
    cases = DISAGREEMENTS[::4] if quick else DISAGREEMENTS
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            wrong = try_disagreement(case, Path(folder))
        failed += [f"{case.name}: {wrong}"] if wrong else []
    return len(cases), len(cases) - len(failed), failed


def run_losses(*, quick: bool) -> tuple[int, int, list[str]]:
    """Try all ways to lose a rank; a few of them where it is to be quick."""
    failed = []
    cases = LOSSES[::3] if quick else LOSSES
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            wrong = try_loss(case, Path(folder))
        failed += [f"{case.name}: {wrong}"] if wrong else []
    return len(cases), len(cases) - len(failed), failed


def run(quick: bool) -> tuple[int, int, list[str]]:  # noqa: FBT001 (as all parts of the table)
    """Try all; how many were tried, how many ended well, and what is wrong with the others."""
    told = [run_disagreements(quick=quick), run_losses(quick=quick)]
    return sum(t[0] for t in told), sum(t[1] for t in told), [w for t in told for w in t[2]]
