"""One rank of ``benchmarks.ist_links``: plays what the file of jobs says, rank 0 writes figures."""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.ist_runs import trial
from benchmarks.trial import Trial
from moiety.blocks.memory import MemoryMeter, run_owned_steps
from moiety.blocks.partitioned import BlockRounds
from moiety.blocks.shards import Shards
from moiety.core.state import Job, Share
from moiety.engine.collective import Collective
from moiety.engine.ranks import Ranks, join_ranks, leave_ranks
from moiety.engine.work import run_job
from moiety.recipes.build import RunInputs
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.run.blocks import BlockEvaluation
from moiety.run.evaluate import evaluate_groups
from moiety.run.same_ranks import scatter_pieces
from moiety.run.spec import resolve_run

SMALL = 60
"""Clusters of the graph; a step takes one of them."""


def described(job: dict[str, Any]) -> Trial:
    """Describe the run that a job times or counts; one description for both."""
    blocks = job.get("engine", "") in ("partitioned", "peers")
    deal = {"assignment": "stratified"} if blocks and job["method"] == "ist" else None
    what = trial(job["method"], job["workers"], job["hidden"], every=job["every"], options=deal)
    local = {**what.changes["local"], **job.get("local", {})}
    engine = {"engine": job["engine"]} if "engine" in job else {}
    return replace(what, changes={**what.changes, "local": local, **engine})


def graph(workers: int, hidden: list[int], every: int) -> Trial:
    """Describe GraphSAGE on Coauthor CS with hidden features dealt, held in blocks."""
    fields = {
        "population": {"workers": workers}, "participation": {"size": workers},
        "sage": {"hidden": hidden},
        "graph": {"clusters": SMALL},
        "local": {"steps": every, "batch": 1, "lr_schedule": "constant"},
        "engine": "partitioned",
    }  # fmt: skip
    return Trial("gist", "gist", "gist-cs", fields)


def built_of(what: Trial, seed: int = 0) -> RunInputs:
    return resolve_run(what.recipe, what.record, what.method, seed)[1]


def wide(job: dict[str, Any], workers: int) -> RunInputs:
    """Build a run in blocks of the widths that a job asks for; nothing wide is drawn."""
    hidden, every = [job["width"]] * 2, job.get("every", 1)
    if job["net"] == "sage":
        return built_of(graph(workers, hidden, every))
    asked = {"method": "ist", "workers": workers, "hidden": hidden, "every": every}
    return built_of(described({**asked, "engine": "partitioned"}))


def accuracy_of(shards: Shards, built: RunInputs) -> float:
    """Score all test rows, every rank computing its own units."""
    rounds = BlockRounds(built.method, built.open, FixedCohort((0,)), 0)
    rows = next(iter(built.groups["test"].values()))
    score = BlockEvaluation(rounds, {"test": {0: rows}}, built.sample)
    return score(shards).groups["test"].metrics["accuracy"][0]


Pair = tuple[Callable[[], None], Callable[[], float]]


def player(ranks: Ranks, job: dict[str, Any], seed: int = 0) -> Pair:
    """Give what plays a round of a job and what scores where it stands; for all kinds of job."""
    built, n = built_of(described(job), seed), job["workers"]
    if "engine" in job:
        cohort, peers = FixedCohort(tuple(range(n))), job["engine"] == "peers"
        run = BlockRounds(built.method, built.open, cohort, seed, peers)
        shards = run.begin(Shards(built.method.model, ranks))
        return lambda: void(run.advance(shards)), lambda: accuracy_of(shards, built)
    engine, stages = scatter_pieces(Collective(built.open, ranks=ranks), built.stages)
    method = stages[0].method
    state = initialise_state(method)

    def go() -> None:
        nonlocal state
        state = play_round(method, engine, state, list(range(n)), seed)

    def judge() -> float:
        return ranks.broadcast(whole() if ranks.leads else 0.0)

    def whole() -> float:
        used = replace(state, params=method.calibrate(state.params, built.sample))
        told = evaluate_groups(method, used, {}, {"test": built.groups["test"]})
        return told.groups["test"].metrics["accuracy"][0]

    return go, judge


def void(_: object) -> None:
    """Forget a result."""


def clocked(ranks: Ranks, go: Callable[[], None]) -> float:
    """Play a round; the seconds of the slowest rank."""
    ranks.gather(None)
    begun = time.perf_counter()
    go()
    return max(ranks.gather(time.perf_counter() - begun))


def timed(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a round after a first one, the slowest rank's; bytes that a rank sends in it."""
    go, _ = player(ranks, job)
    go()
    before = ranks.transfers.sent_bytes
    seconds = [clocked(ranks, go) for _ in range(job["rounds"])]
    sent = max(ranks.gather((ranks.transfers.sent_bytes - before) // job["rounds"]))
    return {"seconds": statistics.median(seconds), "all": seconds, "bytes": sent}


def counted(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Local steps until the test accuracy first reaches a target, looked for every so many."""
    go, judge = player(ranks, job, job.get("seed", 0))
    found: dict[str, float] = {}
    for step in range(job["every"], job["most"] + 1, job["every"]):
        go()
        if step % job["look"] == 0:
            found[str(step)] = judge()
            if found[str(step)] >= job["target"]:
                return {"steps": step, "accuracy": found}
    return {"steps": None, "accuracy": found}


def raced(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of all rounds until the target is reached, by seed; looking is on nobody's clock."""
    told = {}
    for seed in job["seeds"]:
        (go, judge), seconds, step = player(ranks, job, seed), 0.0, 0
        while step < job["most"]:
            seconds += clocked(ranks, go)
            step += job["every"]
            if judge() >= job["target"]:
                break
        else:
            seconds = math.inf
        told[str(seed)] = {"seconds": seconds, "steps": step}
    return told


def widest(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Train a wide network in blocks, under a limit that is kept; losses, accuracy, peak."""
    n = ranks.size
    built = wide(job, n)
    run = BlockRounds(built.method, built.open, FixedCohort(tuple(range(n))), 0)
    with MemoryMeter(job["limit"]) as peak:
        shards = run.begin(Shards(built.method.model, ranks))
        losses = [run.advance(shards)[1].loss_mean for _ in range(job["rounds"])]
    sent = ranks.transfers.sent_bytes  # of training alone: scoring exchanges activations
    right = accuracy_of(shards, built)
    peaks = ranks.gather(peak.most)
    return {"peak": max(peaks), "losses": losses, "accuracy": right, "sent": sent}


def parallel(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Find the widest that a lean data-parallel rank trains: by halves on a ladder of widths."""
    del ranks
    ladder = job["widths"]
    good, bad, told = 0, len(ladder), {}
    while bad - good > 1:
        middle = (good + bad) // 2
        told[str(ladder[middle])] = fits({**job, "width": ladder[middle]})
        good, bad = (middle, bad) if told[str(ladder[middle])]["fits"] else (good, middle)
    return {"width": ladder[good], "tried": told}


def fits(job: dict[str, Any]) -> dict[str, Any]:
    """Tell whether a whole fits: weights, gradients, optimiser, a batch, what backward needs."""
    built = wide({**job, "every": 2}, 1)
    rows = built.open(0)
    try:
        with MemoryMeter(job["limit"]) as peak:
            first = Shards(built.method.model, Ranks()).begin(0).params
            run_job(built.method.solve, Job(0, 0, 0, Share(), first), rows, {}, run_owned_steps)
    except MemoryError as error:
        return {"fits": False, "why": str(error)}
    except RuntimeError as error:  # of the worker, who says what it was
        if "MemoryError" not in str(error):
            raise
        return {"fits": False, "why": str(error)}
    return {"fits": True, "peak": peak.most}


KINDS = {
    "timed": timed, "counted": counted, "raced": raced, "widest": widest, "parallel": parallel,
}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    ranks = join_ranks()
    told = {}
    for key, job in json.loads(Path(sys.argv[1]).read_text()).items():
        told[key] = KINDS[job["kind"]](ranks, job)
        if ranks.leads:
            Path(sys.argv[2]).write_text(json.dumps(told))
    ranks.gather(None)
    leave_ranks(ranks)


if __name__ == "__main__":
    main()
