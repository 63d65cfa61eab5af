"""Contenders side by side: the same rounds, turn by turn, so that noise meets all alike."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks import plain
from benchmarks.work import Work, clothing
from moiety.core.protocols import Engine
from moiety.engine.choose import choose_engine, make_engine
from moiety.engine.pool import Pool
from moiety.rounds.synchronous import initialise_state, play_round

Round = Callable[[int], None]
ROOT = Path(__file__).parent.parent


def by_hand(work: Work) -> Round:
    """Play rounds with the plain loop."""
    return lambda index: plain.play(
        work.net, work.table, [work.index[w] for w in work.cohort(index)]
    )


def ours(work: Work, engine: Engine) -> Round:
    """Play rounds with an engine."""
    state = initialise_state(work.method)

    def one(index: int) -> None:
        nonlocal state
        state = play_round(work.method, engine, state, work.cohort(index), 0)

    return one


def auto(work: Work, processes: int) -> Engine:
    """Build the engine that ``auto`` takes, on so many processes where it is the pool."""
    name = choose_engine(work.method, "cpu", work.num_chosen)
    return Pool(work.open, processes=processes) if name == "pool" else make_engine(name, work.open)


def apart(work: Work) -> Round:
    """Play half a round each on two processes that tell each other nothing: the most to be had."""
    context, lines = multiprocessing.get_context("fork"), []
    for half in range(2):
        near, far = context.Pipe()
        context.Process(target=obey, args=(work, half, far), daemon=True).start()
        lines.append(near)

    def one(index: int) -> None:
        for line in lines:
            line.send(index)
        for line in lines:
            line.recv()

    return one


def obey(work: Work, half: int, line: Connection) -> None:
    """Play every second worker of the rounds named, until the process is ended."""
    torch.set_num_threads(1)
    while True:
        some = work.cohort(line.recv())[half::2]
        plain.play(work.net, work.table, [work.index[worker] for worker in some])
        line.send(None)


def contest(
    contenders: Mapping[str, Round], *, turns: int, rounds: int = 1
) -> dict[str, list[float]]:
    """Time contenders in turns.

    Returns:
        Seconds a round, one number a turn, of each.
    """
    torch.set_num_threads(1)
    for one in contenders.values():
        one(0)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns):
        for name, one in contenders.items():
            start = time.perf_counter()
            for index in range(rounds):
                one(turn * rounds + index)
            seconds[name].append((time.perf_counter() - start) / rounds)
    return seconds


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide turn by turn."""
    return [a / b for a, b in zip(above, below, strict=True)]


def accuracy(kind: str, seeds: Sequence[int], rounds: int = 20) -> dict[str, list[float]]:
    """Score the plain loop and ours after some rounds, in percent, for some seeds."""
    torch.set_num_threads(1)
    scores: dict[str, list[float]] = {"plain": [], "moiety": []}
    for seed in seeds:
        work = clothing(kind, seed)
        torch.manual_seed(seed)
        hand, state = by_hand(work), initialise_state(work.method)
        engine = auto(work, 2)
        for index in range(rounds):
            hand(index)
            state = play_round(work.method, engine, state, work.cohort(index), seed)
        engine.close()  # pyright: ignore[reportAttributeAccessIssue]
        with torch.no_grad():
            guesses = {
                "plain": work.net(work.test["x"]),
                "moiety": work.method.model.logits(state.params, work.test, {}),
            }
        for name, guess in guesses.items():
            right = guess.argmax(1) == work.test["y"]
            scores[name].append(100 * right.float().mean().item())
    return scores


def peer(script: str, python: str, kind: str, *, rounds: int, actors: int = 1) -> list[float]:
    """Run another library on the same rows in its own environment.

    Returns:
        Seconds of each round.
    """
    work = clothing(kind)
    with tempfile.TemporaryDirectory() as folder:
        for name, tensor in {**work.table, "index": work.index}.items():
            torch.save(tensor, Path(folder) / f"{name}.pt")
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PEER_FOLDER": folder,
            "PEER_KIND": kind,
        }
        command = [python, "-m", f"benchmarks.peers.{script}", str(rounds), str(actors)]
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{script} failed:\n{done.stderr[-3000:]}")
        return json.loads((Path(folder) / "seconds.json").read_text())
