"""What dealing anew, merging and disjoint hands are worth: three layers of 512, 600 local steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.gates import Book, Gate, not_run, percent
from benchmarks.ist_runs import SEEDS, STEPS, WORKERS, last, runs, trial
from moiety.core.state import Turn
from moiety.core.streams import SERVER, stream
from moiety.engine.pool import Pool
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.run.spec import resolve_run
from moiety.serve.personal import deploy_subnet

WAYS = {
    "dealt once, never again": {"fresh": False},
    "half of the units each, hands overlap": {"assignment": "bernoulli", "keep": 0.5},
}


def ensemble(n: int, seed: int) -> dict[str, Any]:
    """Train n sub-networks that are never merged, and average what they answer."""
    what = trial("ist", n, every=STEPS)
    built = resolve_run(what.recipe, what.record, what.method, seed)[1]
    method, state = built.method, initialise_state(built.method)
    turn = Turn(0, tuple(range(n)), {}, stream(seed, 0, SERVER, "split"))
    subnets = [share.part for share in method.split(state, turn).values()]
    state = play_round(method, Pool(built.open, processes=1), state, range(n), seed)
    (test,) = built.groups["test"].values()
    batch = test.take(torch.arange(test.size))
    each = []
    for subnet in subnets:
        model: Any = deploy_subnet(method.model, state.params, subnet)
        with torch.no_grad():
            fixed = model.calibrate(model.params, built.sample, {})
            each.append(model.logits(fixed, batch, {}).log_softmax(-1).exp())
    right = [float((one.argmax(-1) == batch["y"]).double().mean()) for one in each]
    whole = float((torch.stack(each).mean(0).argmax(-1) == batch["y"]).double().mean())
    return {"ensemble": whole, "pieces": right}


def dealing(book: Book) -> list[Gate]:
    """Show what the ways of dealing come to; nothing is asked."""
    gates = []
    for n in WORKERS:
        plain = last(runs(book, f"3 layers, ist, n = {n}", trial("ist", n)))
        told = {"dealt anew": plain}
        for way, how in WAYS.items():
            what = trial("ist", n, options=how)
            told[way] = last(runs(book, f"3 layers, ist, n = {n}, {way}", what))
        takes = {f"ensemble, n = {n}, seed {s}": partial(ensemble, n, s) for s in SEEDS}
        apart = book.several(takes)
        told["ensemble of sub-networks never merged"] = [one["ensemble"] for one in apart]
        told["one of these"] = [value for one in apart for value in one["pieces"]]
        name = f"dealing, n = {n}: accuracy (%)"
        if not all(told.values()):
            gates.append(not_run(name, "-", "no figure kept"))
            continue
        text = ", ".join(f"{way} {percent(values)}" for way, values in told.items())
        gates.append(Gate(name, "-", text))
    return gates
