"""One rank of ``benchmarks.ist_links``: plays what the file of jobs says, rank 0 writes figures."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from moiety.run.crew import folding

from benchmarks.ist import trial
from moiety.core.play import begin, play
from moiety.core.rows import SOME, all_rows
from moiety.engine.collective import Collective
from moiety.engine.owned import Peak
from moiety.engine.partitioned import Partitioned, Shards
from moiety.engine.ranks import Ranks, join, leave
from moiety.methods.ist import ist
from moiety.methods.task import Local, Task
from moiety.models.sharded import logits, outline
from moiety.models.sharded import statistics as fixed_of
from moiety.run.spec import resolve


def built_of(method: str, n: int, hidden: list[int], every: int) -> Any:
    what = trial(method, n, hidden, every=every)
    return resolve(what.recipe, what.record, what.method, 0)[1]


def blocks(n: int, hidden: list[int], every: int, lr: float = 0.05) -> Any:
    local = Local(lr=lr, momentum=0.0, batch=64, epochs=0, steps=every)
    return ist(Task(outline((784, *hidden, 10)), local, workers=n), deal="stratified")


def timed(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a round, the slowest rank's, and the bytes that a rank sends in it."""
    n, hidden, every = ranks.size, job["hidden"], job["every"]
    built = built_of(job["method"], n, hidden, every)
    if job["method"] == "ist":
        run = Partitioned(blocks(n, hidden, every), built.open, 0)
        shards = Shards(run.method.model, ranks).begin(0)

        def go() -> None:
            run.play(shards, range(n))
    else:
        engine, method = folding(Collective(built.open, ranks=ranks), built.method)
        state = begin(method)

        def go() -> None:
            nonlocal state
            state = play(method, engine, state, list(range(n)), 0)

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


def widest(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Train a wide network in blocks: peak of tensor bytes of any rank, losses, accuracy."""
    hidden, n = [job["width"]] * 2, ranks.size
    built = built_of("local_sgd", n, [8], job["every"])
    run = Partitioned(blocks(n, hidden, job["every"]), built.open, 0)
    losses = []
    with Peak() as peak:
        shards = Shards(run.method.model, ranks).begin(0)
        for _ in range(job["rounds"]):
            told = run.play(shards, range(n))
            losses.append(statistics.mean(record.loss_mean for record in told))
    sent = ranks.sent_bytes  # of training alone: scoring exchanges activations
    x = all_rows(built.sample, SOME)["x"]
    test = all_rows(next(iter(built.groups["test"].values())), 2000)
    with torch.no_grad():
        fixed = fixed_of(shards.model, shards.params, x, ranks.columns, ranks.total)
        told = logits(
            shards.model, shards.params, test["x"], ranks.columns, ranks.total, fixed
        ).argmax(1)
    right = float((told == test["y"]).double().mean())
    peaks = ranks.gather(peak.most)
    return {"peak": max(peaks), "losses": losses, "accuracy": right, "sent": sent}


def parallel(ranks: Ranks, job: dict[str, Any]) -> dict[str, Any]:
    """Peak of tensor bytes of a lean data-parallel rank: weights, gradients, a batch; in place."""
    del ranks
    model = outline((784, job["width"], job["width"], 10))
    data = built_of("local_sgd", 1, [8], 1).open(0)
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


KINDS = {"timed": timed, "widest": widest, "parallel": parallel}


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
