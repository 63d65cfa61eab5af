"""A run in a storm: nodes and the server are killed and come back, and some nodes are hostile."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.federation_parts.deployment import (
    Deployment,
    count_rounds,
    find_flower,
    has_ended,
    kill_server,
    read_entries,
    wait_for,
    write_app,
)
from benchmarks.federation_parts.hostile import CLIENT, HOSTILE
from moiety.core.ledger import Ledger, read_ledger
from moiety.federation.certs import write_certificates
from moiety.run.cli import main

SEED = 0


@dataclass(frozen=True)
class Storm:
    """What is played.

    Args:
        nodes: how many.
        hostile: how many of them are.
        rounds: to play.
        steps: of a worker in a round.
        server_kills: rounds in which the server is killed.
        secure: with TLS and keys of nodes.
    """

    nodes: int = 8
    hostile: int = 2
    rounds: int = 30
    steps: int = 30000
    server_kills: Sequence[int] = (10, 20)
    secure: bool = True

    @property
    def names(self) -> list[str]:
        """Name the nodes; the last ones are hostile."""
        return [f"node{number}" for number in range(self.nodes)]

    @property
    def flags(self) -> Mapping[str, Any]:
        """Give the fields of the recipe."""
        return {
            "evaluate_every": self.rounds,
            "population": {
                "scheme": "iid", "workers": self.nodes, "unseen": 0, "anchors": 0,
                "shared_test": True,
            },
            "participation": {"size": self.nodes},
            "local": {"steps": self.steps, "epochs": 0, "batch": 64, "lr": 0.0025},
            "mlp": {"hidden": [64]},
        }  # fmt: skip


QUICK = Storm(4, 1, 3, 1600, (2,), secure=False)
LONG = Storm(rounds=10, steps=90_000, server_kills=(5,))
"""Jobs of two minutes, to see what of a round does not grow with its jobs."""


@dataclass
class Weather:
    """What was done to the run so far.

    Args:
        down: the node that is away.
        killed: how often a node was killed.
        back_s: seconds from a kill of the server until a new one held the run's folder.
    """

    down: str = ""
    killed: int = 0
    back_s: list[float] = field(default_factory=list)


def write_fields(app: Path, storm: Storm, waiting: Mapping[str, float]) -> None:
    """Write the fields of the recipe and the waiting into an app's plan; some nodes are hostile."""
    text = (app / "plan.toml").read_text(encoding="utf8")
    head = text.partition("[fields]")[0]
    lines = [f"{key} = {write_value(value)}" for key, value in storm.flags.items()]
    fields = ["[fields]", 'methods = ["fedavg"]', "seeds = 1", f"rounds = {storm.rounds}", *lines]
    waits = ["[waiting]", *(f"{key} = {value}" for key, value in waiting.items())]
    (app / "plan.toml").write_text(head + "\n".join([*fields, "", *waits]) + "\n")
    (app / "client_app.py").write_text(CLIENT)


def write_value(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {write_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def weather_round(
    deployment: Deployment, app: Path, storm: Storm, weather: Weather, rng: random.Random
) -> None:
    """Let a node come back and kill another one; and the server, where it is its time."""
    run, played = app / "run", count_rounds(app / "run")
    honest = [n for n in storm.names[: storm.nodes - storm.hostile] if n != weather.down]
    victim = rng.choice(honest)
    deployment.kill(victim)
    if weather.down:
        deployment.start_node(weather.down)
    weather.down, weather.killed = victim, weather.killed + 1
    if played + 1 in storm.server_kills:
        begun, pid = time.monotonic(), kill_server(run)
        deployment.submit(app)
        wait_for(lambda: find_holder(run) not in (None, pid), "a new server holds the run's folder")
        weather.back_s.append(time.monotonic() - begun)


def find_holder(run: Path) -> int | None:
    """Find the process that holds a run's folder."""
    try:
        return int(json.loads((run / "lock.json").read_text(encoding="utf8"))["pid"])
    except (OSError, ValueError):  # it is just being written
        return None


def start_nodes(deployment: Deployment, storm: Storm) -> None:
    """Start the link and its nodes; the last ones are hostile."""
    if deployment.keys is not None:
        write_certificates(deployment.keys, [], storm.names, 2)
    deployment.start_link()
    for place, name in enumerate(storm.names):
        if deployment.keys is not None:
            deployment.register(name)
        deployment.extra = {HOSTILE: "1"} if place >= storm.nodes - storm.hostile else {}
        deployment.start_node(name)
    deployment.extra = {}


def play_storm(storm: Storm, folder: Path, waiting: Mapping[str, float]) -> dict[str, Any]:
    """Play a run in a storm, and say how it went."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    keys, rng = folder / "keys" if storm.secure else None, random.Random(SEED)
    deployment = Deployment(folder, find_flower(), keys)
    weather, app = Weather(), folder / "app"
    run = write_app(app, storm.names, "--method", "fedavg")
    write_fields(app, storm, waiting)
    try:
        start_nodes(deployment, storm)
        deployment.submit(app)
        wait_for((run / "lock.json").is_file, "the run begins")
        begun, seen = time.monotonic(), -1
        while not has_ended(run):
            played = count_rounds(run)
            if played > seen and played < storm.rounds:
                seen = played
                usual = [entry["seconds"] for entry in read_entries(run) if "refused" in entry]
                time.sleep(rng.uniform(0.0, 0.5) * min([5.0, *usual]))
                weather_round(deployment, app, storm, weather, rng)
            honest = storm.names[: storm.nodes - storm.hostile]
            deployment.revive([name for name in honest if name != weather.down])
            time.sleep(0.2)
        seconds = time.monotonic() - begun
    finally:
        deployment.close()
    return judge_storm(storm, read_ledger(run / "ledger.jsonl"), weather, seconds)


def judge_storm(storm: Storm, ledger: Ledger, weather: Weather, seconds: float) -> dict[str, Any]:
    """Count what was merged and refused."""
    bad = set(range(storm.nodes - storm.hostile, storm.nodes))
    rounds = ledger.rounds
    merged = sum(work.worker in bad for one in rounds for work in one.workers)
    turned = sum(one.worker in bad for each in rounds for one in each.refused)
    accepted = sum(max(work.work_s for work in one.workers) for one in rounds)
    reasons = sorted({r.reason for each in rounds for r in each.refused if r.worker in bad})
    return {
        "status": ledger.end.status if ledger.end else "none",
        "rounds": len(rounds),
        "killed": weather.killed,
        "server_kills": len(weather.back_s),
        "back_s": weather.back_s,
        "hostile_merged": merged,
        "hostile_refused": turned,
        "hostile_sent": len(rounds) * storm.hostile,
        "reasons": reasons,
        "accuracy": ledger.evaluations[-1].groups["test"].metrics["accuracy"][0],
        "seconds": seconds,
        "goodput": accepted / seconds,
        "workers": sum(len(one.workers) for one in rounds) / max(1, len(rounds)),
    }


def play_calm(storm: Storm, folder: Path) -> float:
    """Play the same run undisturbed, on one machine; give its accuracy."""
    shutil.rmtree(folder, ignore_errors=True)
    words = ["run", "quickstart", "--methods", "fedavg", "--seeds", "1", "--engine", "pool"]
    words += ["--rounds", str(storm.rounds), "--out", str(folder), "--quiet"]
    for key, value in storm.flags.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, one in inner:
            flag = f"--{key}.{name}".rstrip(".").replace("_", "-")
            if isinstance(one, bool):
                words.append(flag)
            else:
                words += [flag, *map(str, one if isinstance(one, list) else [one])]
    if main(words):
        raise RuntimeError("the undisturbed run failed")
    ledger = next(folder.rglob("ledger.jsonl"))
    return read_ledger(ledger).evaluations[-1].groups["test"].metrics["accuracy"][0]
