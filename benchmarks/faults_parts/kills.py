"""Runs killed at any moment and resumed, over and over: the end is that of a run undisturbed."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults_parts.forks import await_fork, start_fork, write_table
from moiety.recipes import RECIPES
from moiety.recipes.fields import override_fields
from moiety.recipes.record import Federation
from moiety.run.group import resume_run, start_run
from moiety.run.spec import resolve_run

ASKED = 200

FIELDS: Mapping[str, Any] = {
    "rounds": 24,
    "evaluate_every": 4,
    "engine": "serial",
    "population": {
        "workers": 6, "unseen": 2, "classes": 2, "anchors": 2, "scheme": "labels", "public": 0.2,
        "validation": 0.1, "test": 0.2,
    },
    "participation": {"size": 4, "anchors": 1},
    "mlp": {"hidden": [4]},
    "common": {"epochs": 3},
    "local": {"lr": 0.1, "batch": 8},
    "checkpoint": {"every": 2, "last": 2},
}  # fmt: skip

DDOME = {"experts": 3, "k": 2, "gate_hidden": 8}


@dataclass(frozen=True)
class Case:
    """What is killed: a method, and the fields that differ from the tiny run's."""

    method: str
    changes: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case("ddome"),
    Case("ddome", {"engine": "vectorized"}),
    Case("ddome", {"engine": "pool", "rounds": 12}),
    Case("fedavg", {"engine": "pool", "rounds": 12}),
    Case("fedper", {"engine": "vectorized"}),
    Case("fedopt"),
    Case("fedavg", {"local": {"momentum": 0.9, "optimizer_state": "keep"}}),
    Case("ist", {"local": {"momentum": 0.9, "optimizer_state": "send"}}),
    Case("ddome", {"schedule": {"kind": "buffered", "size": 2}, "participation": {"anchors": -1}}),
    Case("fedavg", {"schedule": {"kind": "windowed"}, "participation": {"anchors": -1}}),
)


def make_record(case: Case, data: Path) -> Federation:
    """Make the record of a case."""
    record = override_fields(RECIPES["yours"].record, {**FIELDS, "data": str(data)})
    own = {"ddome": DDOME} if case.method == "ddome" else {}
    return override_fields(record, {"methods": [case.method], **own, **case.changes})


def read_end(folder: Path) -> Mapping[str, bytes]:
    """Read the bytes of a final model."""
    return {path.name: path.read_bytes() for path in sorted((folder / "final").iterdir())}


def kill_and_resume(case: Case, least: int, rng: random.Random, place: Path) -> tuple[int, str]:
    """Kill a run at random moments until it ends, and again from the start, ``least`` times.

    Returns:
        How many kills there were, and what is wrong.
    """
    record = make_record(case, place / "table.npz")
    spec, built = resolve_run("yours", record, case.method, record.seed)

    def begin(folder: Path) -> None:
        start_run(spec, built, folder)

    said, begun = place / "said", time.monotonic()
    whole = await_fork(start_fork(partial(begin, place / "whole"), said, place), said)
    length_s = time.monotonic() - begun
    if whole.code:
        return 0, f"{case}: {whole.said[-300:]}"
    kills, chains = 0, 0
    while kills < least:
        folder = place / f"killed-{chains}"
        chains += 1
        while True:
            go_on = (folder / "config.json").exists()
            child = start_fork(partial(resume_run if go_on else begin, folder), said, place)
            time.sleep(rng.random() * length_s * rng.choice((0.1, 0.5, 1.0)))
            os.kill(child, signal.SIGKILL)
            told = await_fork(child, said)
            if told.code == 0:
                break
            if told.code != -signal.SIGKILL:
                return kills, f"{case}, after {kills} kills: {told.said[-300:]}"
            kills += 1
        if read_end(folder) != read_end(place / "whole"):
            return kills, f"{case}: the end differs after {kills} kills"
    return kills, ""


def run(*, quick: bool) -> tuple[int, int, list[str]]:
    """Kill runs; a kill is good where its run ended as one that nobody disturbed."""
    tried, good, bad = 0, 0, []
    cases = CASES[:1] if quick else CASES
    for number, case in enumerate(cases):
        rng = random.Random(number)
        with tempfile.TemporaryDirectory() as place:
            write_table(Path(place) / "table.npz")
            least = 3 if quick else ASKED // len(CASES)
            kills, told = kill_and_resume(case, least, rng, Path(place))
        tried, good = tried + max(kills, 1), good + (0 if told else kills)
        bad += [told] if told else []
    return tried, good, bad
