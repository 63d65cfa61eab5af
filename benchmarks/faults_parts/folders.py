"""Two processes in one folder: one plays, the other is refused by name and changes nothing."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.faults_parts.forks import (
    LAST_S,
    TINY,
    Outcome,
    await_fork,
    play_commands,
    start_fork,
    write_table,
)
from moiety import LocalTraining, TableRows, Task, TrainConfig, mlp, train
from moiety.core.ledger import read_ledger
from moiety.methods.fedavg import fedavg
from moiety.run.cli import main

REFUSALS = ("is in use by", "already holds something", "is over; nothing to resume")


def run_words(*more: str) -> list[str]:
    """Give the words of a small run."""
    return ["run", "yours", "--data", "table.npz", "--target", "y", *TINY, "--rounds", "60", *more]


def judge(outcomes: Sequence[Outcome], runs: Sequence[Path], winners: int) -> str:
    """Say what is wrong: who ended how, and whether every run's ledger tells of one run alone."""
    if any("Traceback" in one.said or one.code not in (0, 1) for one in outcomes):
        return f"ended otherwise: {[(one.code, one.said[-300:]) for one in outcomes]}"
    played = [one for one in outcomes if not any(word in one.said for word in REFUSALS)]
    if len(played) != winners or any(one.code for one in played):
        return f"{len(played)} of {len(outcomes)} played: {[one.said[-300:] for one in outcomes]}"
    for run in runs:
        told = read_ledger(run / "ledger.jsonl")
        if [entry.round for entry in told.rounds] != list(range(1, told.start.rounds + 1)):
            return f"{run}: rounds {[entry.round for entry in told.rounds]}"
        if told.end is None or told.end.status != "finished":
            return f"{run}: has no end"
        if (run / "config.json").exists():
            seed = json.loads((run / "config.json").read_text())["seed"]
            if seed != told.start.seed:
                return f"{run}: config.json is of seed {seed}, the ledger of {told.start.seed}"
    return ""


def play_one_out(folder: Path) -> str:
    """Two runs with one ``--out``."""
    words = run_words("--methods", "fedavg", "--out", "out")
    outcomes = play_commands([[*words, "--seed", seed] for seed in "12"], folder)
    return judge(outcomes, [folder / "out"], 1)


def play_defaults(folder: Path) -> str:
    """Two runs without ``--out``: each gets a folder."""
    words = run_words("--methods", "fedavg")
    outcomes = play_commands([[*words, "--seed", seed] for seed in "12"], folder)
    return judge(outcomes, [folder / "runs" / name for name in ("yours", "yours-2")], 2)


def play_group_out(folder: Path) -> str:
    """Two groups of runs with one ``--out``."""
    words = run_words("--methods", "fedavg", "common", "--out", "out")
    outcomes = play_commands([[*words, "--seed", seed] for seed in "12"], folder)
    members = [path.parent for path in (folder / "out").glob("*/config.json")]
    return judge(outcomes, members, 1) or ("" if len(members) == 2 else f"{members}")


def play_resumes(folder: Path) -> str:
    """Two resumptions of a run that was stopped."""
    stop_run(folder)
    return judge(play_commands([["resume", "out"]] * 2, folder), [folder / "out"], 1)


def play_resume_of_live(folder: Path) -> str:
    """A resumption, a run and a sweep into the folder of a run that lives."""
    stop_run(folder)
    words = run_words("--methods", "fedavg", "--out", "out")
    sweep = ["sweep", *words[1:], "--try", "local.lr=0.1,0.2"]
    outcomes = play_commands([["resume", "out"], words, sweep], folder)
    return judge(outcomes, [folder / "out"], 1)


def play_trainings(folder: Path) -> str:
    """Two calls of ``moiety.train`` on one folder."""
    rng = torch.Generator().manual_seed(0)
    columns = {"x": torch.randn(64, 3, generator=rng), "y": torch.arange(64) % 2}
    rows = TableRows(columns, torch.arange(64))
    method = fedavg(Task(mlp([3, 2], rng), LocalTraining(batch=4)))

    def work() -> None:
        try:
            train(method, {0: rows}, folder / "out", TrainConfig(rounds=40, engine="serial"))
        except Exception as error:
            print(error)
            raise SystemExit(1) from None

    said = [folder / f".said-{number}" for number in range(2)]
    children = [start_fork(work, file, folder) for file in said]
    outcomes = [await_fork(child, file) for child, file in zip(children, said, strict=True)]
    if sorted(one.code or 0 for one in outcomes) == [0, 0]:
        return judge(outcomes[:1], [folder / "out"], 1)  # one came when the other was over
    return judge(outcomes, [folder / "out"], 1)


def stop_run(folder: Path) -> None:
    """Leave a run that was killed after some rounds."""
    words, ledger = run_words("--methods", "fedavg", "--out", "out"), folder / "out/ledger.jsonl"
    child = start_fork(lambda: main(words), folder / ".said", folder)
    end = time.monotonic() + LAST_S
    while time.monotonic() < end:
        if ledger.exists() and ledger.read_bytes().count(b"\n") > 4:
            break
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


CASES: tuple[Callable[[Path], str], ...] = (
    play_one_out,
    play_defaults,
    play_group_out,
    play_resumes,
    play_resume_of_live,
    play_trainings,
)


def run(*, quick: bool) -> tuple[int, int, list[str]]:
    """Try pairs of processes; give how many were tried, how many were good, and what was not."""
    bad = []
    cases = CASES[:1] if quick else CASES
    for case in cases:
        with tempfile.TemporaryDirectory() as place:
            write_table(Path(place) / "table.npz")
            told = case(Path(place))
        bad += [f"{case.__name__}: {told}"] if told else []
    return len(cases), len(cases) - len(bad), bad
