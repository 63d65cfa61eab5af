"""Random options and values on the command line: an exit code and a sentence, never a traceback.

A command that is refused (exit code 1 or 2) leaves nothing behind, unless a run had begun: then its
ledger says that it failed. A name of an option or of a value that does not exist ends with 2.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults_parts.forks import TINY, Outcome, play_commands, read_all, write_table
from moiety.core.ledger import read_ledger
from moiety.run.cli import main

ASKED = 400
SEED = 10

VALUES = (
    "0", "1", "2", "-1", "-0.5", "0.5", "1.5", "nan", "inf", "-inf", "1e308", "1e-9", "abc", "",
    "True", "none", "3 4", "1,2", "\u732b", "../x", "\x1b[31m", "sgd", "adam", "fedavg", "mlp",
    "cpu", "cuda", "cosine", "buffered", "[1, 2]", "{}", "0x10", "1_0", "--", "-", "table.npz",
)  # fmt: skip
"""Values for any option; none asks for much work of a run as small as these."""

NAMES = (
    "--methods", "--engine", "--device", "--net", "--local.optimizer", "--local.lr-schedule",
    "--schedule.kind", "--schedule.staleness", "--schedule.speeds.kind", "--population.scheme",
    "--data", "--ist.assignment", "--fedopt.server", "--dmoe.gate", "--ddome.serve",
)  # fmt: skip
"""Options whose values are names."""

OTHERS = (
    ("resume", "."), ("resume", "table.npz"), ("resume", "nowhere", "--at", "1"),
    ("report", "nowhere"), ("report", "."), ("report",), ("predict", ".", "--data", "table.npz"),
    ("predict", "nowhere", "--data", "nowhere"), ("personalize", ".", "--data", "x", "--out", "y"),
    ("list", "--json"), ("list", "--nothing"), ("lst",), (), ("run",), ("run", "quikstart"),
    ("sweep", "yours", "--data", "table.npz", "--target", "y", "--methods", "fedavg"),
    ("plan", "yours", "--data", "table.npz", "--target", "y", "--flops", "fast"), ("--version",),
)  # fmt: skip


def list_options() -> list[str]:
    """List the options of a run, as its help does."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        main(["run", "yours", "--help"])
    found = sorted(set(re.findall(r"(?<![\w.-])--[a-z][a-z.-]+", told.getvalue())))
    return [name for name in found if name not in ("--help", "--out", "--config")]


def draw_words(rng: random.Random, options: Sequence[str]) -> list[str]:
    """Draw a command with one to three options that are wrong, or strange."""
    if rng.random() < 0.1:
        return list(rng.choice(OTHERS))
    command = rng.choice(("run", "run", "plan", "sweep"))
    words = [command, "yours", "--data", "table.npz", "--target", "y", "--methods", "fedavg"]
    words += [*TINY, "--rounds", "1", "--evaluate-every", "1"]
    if command == "sweep":
        name = rng.choice(options).removeprefix("--")
        words += ["--try", f"{name}={rng.choice(VALUES)},{rng.choice(VALUES)}"]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(options)
        if rng.random() < 0.1:
            at = rng.randrange(3, len(name))
            name = name[:at] + rng.choice("xz") + name[at:]
        words += [name] if "no-" in name else [name, rng.choice(VALUES)]
    return words


def misspell(rng: random.Random, option: str) -> list[str]:
    """Give a command with a value that names nothing."""
    name = rng.choice(("fedavgg", "adamm", "cosin", "normd", "lables", "polynom", "Serial", "xyz"))
    words = ["run", "yours", "--data", "table.npz", "--target", "y", "--methods", "fedavg"]
    method = option.removeprefix("--").partition(".")[0]
    words[-1] = method if method in ("ist", "fedopt", "dmoe", "ddome") else "fedavg"
    return [*words, *TINY, option, name]


def judge(told: Outcome, folder: Path, before: object) -> str:
    """Say what is wrong with how a command ended."""
    if told.code not in (0, 1, 2) or "Traceback" in told.said:
        return f"exit code {told.code}: {told.said[-400:]}"
    if told.code and not told.said.strip():
        return f"exit code {told.code} without a word"
    if told.code == 0 or read_all(folder) == before:
        return ""
    for path in folder.rglob("ledger.jsonl"):
        end = read_ledger(path).end
        if end is not None and end.status == "failed":
            return ""
    return f"left something behind: {sorted(read_all(folder))}: {told.said[-200:]}"


def try_words(words: Sequence[str], wanted: Sequence[int]) -> str:
    """Try a command in a folder of its own; say what is wrong."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_table(folder / "table.npz")
        before = read_all(folder)
        (told,) = play_commands([words], folder)
        bad = judge(told, folder, before)
        if not bad and told.code not in wanted:
            bad = f"exit code {told.code}: {told.said[-300:]}"
        return f"moiety {' '.join(words)}: {bad}" if bad else ""


def run(*, quick: bool) -> tuple[int, int, list[str]]:
    """Try commands; give how many were tried, how many were good, and what was not."""
    rng, options = random.Random(SEED), list_options()
    tries = [(draw_words(rng, options), (0, 1, 2)) for _ in range(12 if quick else ASKED)]
    for option in NAMES[:3] if quick else NAMES:
        tries += [(misspell(rng, option), (2,)) for _ in range(1 if quick else 2)]
    bad = [told for words, wanted in tries if (told := try_words(words, wanted))]
    return len(tries), len(tries) - len(bad), bad
