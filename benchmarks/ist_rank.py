"""One rank of ``benchmarks.ist_links``: plays what the file of jobs says, rank 0 writes figures."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.ist import trial
from benchmarks.trial import Trial
from moiety.core.play import begin, play
from moiety.engine.collective import Collective
from moiety.engine.owned import Peak
from moiety.engine.partitioned import Partitioned
from moiety.engine.peers import come_home
from moiety.engine.ranks import Ranks, join, leave
from moiety.engine.shards import Shards
from moiety.methods.ist import ist
from moiety.methods.task import Local, Task
from moiety.models.normed import NormedMLP
from moiety.models.sharded import outline
from moiety.recipes.build import Built
from moiety.run.alike import folding
from moiety.run.blocks import score
from moiety.run.evaluate import evaluate
from moiety.run.spec import resolve


def described(job: dict[str, Any]) -> Trial:
    """Describe the run that a job times or counts; one description for both."""
    what = trial(job["method"], job["workers"], job["hidden"], every=job["every"])
    local = {**what.changes["local"], **job.get("local", {})}
    return replace(what, changes={**what.changes, "local": local})


def built_of(job: dict[str, Any]) -> Built:
    what = described(job)
    return resolve(what.recipe, what.record, what.method, 0)[1]


def wide(hidden: list[int]) -> NormedMLP:
    return outline((784, *hidden, 10))


def blocks(n: int, hidden: list[int], every: int, lr: float = 0.05) -> Any:
    local = Local(lr=lr, momentum=0.0, batch=64, epochs=0, steps=every)
    return ist(Task(wide(hidden), local, workers=n), deal="stratified")


def accuracy_of(shards: Shards, built: Built) -> float:
    """Score all test rows, every rank computing its own units."""
    come_home(shards)
    rows = next(iter(built.groups["test"].values()))
    with torch.no_grad():
        fixed = shards.form.fix(shards.params, built.sample, shards.ranks)
        found = score(shards, fixed, rows, len(built.classes))
    return found.right / found.count


def player(ranks: Ranks, job: dict[str, Any]) -> tuple[Callable[[], None], Callable[[], float]]:
    """Give what plays a round of a job and what scores where it stands; for both kinds of job."""
    built, n = built_of(job), job["workers"]
    if job["partitioned"]:
        run = Partitioned(blocks(n, job["hidden"], job["every"]), built.open, 0)
        shards = Shards(wide(job["hidden"]), ranks).begin(0)
        return lambda: void(run.play(shards, range(n))), lambda: accuracy_of(shards, built)
    engine, stages = folding(Collective(built.open, ranks=ranks), built.stages)
    method = stages[0].method
    state = begin(method)

    def go() -> None:
        nonlocal state
        state = play(method, engine, state, list(range(n)), 0)

    def judge() -> float:
        return ranks.share(whole() if ranks.leads else 0.0)

    def whole() -> float:
        used = replace(state, params=method.calibrate(state.params, built.sample))
        told = evaluate(method, used, {}, {"test": built.groups["test"]}, len(built.classes))
        return told.groups["test"].accuracy[0]

    return go, judge


def void(_: object) -> None:
    """Forget a result."""


def timed(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a round after a first one, the slowest rank's; bytes that a rank sends in it."""
    go, _ = player(ranks, job)
    seconds = []
    go()
    before = ranks.sent_bytes
    for _ in range(job["rounds"]):
        ranks.gather(None)
        begun = time.perf_counter()
        go()
        seconds.append(max(ranks.gather(time.perf_counter() - begun)))
    sent = max(ranks.gather((ranks.sent_bytes - before) // job["rounds"]))
    return {"seconds": statistics.median(seconds), "all": seconds, "bytes": sent}


def counted(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Local steps until the test accuracy first reaches a target, looked for every so many."""
    go, judge = player(ranks, job)
    found: dict[str, float] = {}
    for step in range(job["every"], job["most"] + 1, job["every"]):
        go()
        if step % job["look"] == 0:
            found[str(step)] = judge()
            if found[str(step)] >= job["target"]:
                return {"steps": step, "accuracy": found}
    return {"steps": None, "accuracy": found}


def widest(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Train a wide network in blocks: peak of tensor bytes of any rank, losses, accuracy."""
    hidden, n, every = [job["width"]] * 2, ranks.size, job["every"]
    built = built_of({"method": "local_sgd", "workers": n, "hidden": [8], "every": every})
    run = Partitioned(blocks(n, hidden, every), built.open, 0)
    losses = []
    with Peak() as peak:
        shards = Shards(wide(hidden), ranks).begin(0)
        for _ in range(job["rounds"]):
            told = run.play(shards, range(n))
            losses.append(statistics.mean(record.loss_mean for record in told))
    sent = ranks.sent_bytes  # of training alone: scoring exchanges activations
    right = accuracy_of(shards, built)
    peaks = ranks.gather(peak.most)
    return {"peak": max(peaks), "losses": losses, "accuracy": right, "sent": sent}


def parallel(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Peak of tensor bytes of a lean data-parallel rank: weights, gradients, a batch; in place."""
    del ranks
    model = outline((784, job["width"], job["width"], 10))
    data = built_of({"method": "local_sgd", "workers": 1, "hidden": [8], "every": 1}).open(0)
    batch = data.take(torch.arange(64))
    with Peak() as peak:
        shards = Shards(model, Ranks()).begin(0)
        params = {name: t.requires_grad_() for name, t in shards.params.items()}
        for _ in range(2):
            loss = torch.nn.functional.cross_entropy(model.logits(params, batch, {}), batch["y"])
            grads = torch.autograd.grad(loss, list(params.values()))
            with torch.no_grad():
                for tensor, grad in zip(params.values(), grads, strict=True):
                    tensor.sub_(grad, alpha=0.05)
            del grads, loss
    return {"peak": peak.most}


KINDS = {"timed": timed, "counted": counted, "widest": widest, "parallel": parallel}


def main() -> None:
    torch.set_num_threads(1)
    ranks = join()
    told = {}
    for key, job in json.loads(Path(sys.argv[1]).read_text()).items():
        told[key] = KINDS[job["kind"]](ranks, job)
        if ranks.leads:
            Path(sys.argv[2]).write_text(json.dumps(told))
    ranks.gather(None)
    leave()


if __name__ == "__main__":
    main()
