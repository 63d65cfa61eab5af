"""ResIST, LoFT and convolutional IST on a CIFAR-10 subset, beside local SGD.

python -m benchmarks.ist_images [--quick] [--check] [--json FILE]

The first 10,000 training and 4,000 test images of CIFAR-10, averaged 2x2 to 16x16. All methods do
equal local steps on equal disjoint shards. ``--quick`` is a round on 640 rows, one seed.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch

from benchmarks.gates import NOT_RUN, Book, Gate, machine, not_run, options, report
from moiety.core.play import begin, dispatch, play
from moiety.core.protocols import Method
from moiety.core.rows import SOME, TableRows
from moiety.core.state import State
from moiety.core.streams import stream
from moiety.core.types import Params
from moiety.data.dataset import fit_scale
from moiety.data.partition import iid
from moiety.data.sets import load
from moiety.engine.pool import Pool
from moiety.methods.ist import ist
from moiety.methods.local_sgd import local_sgd
from moiety.methods.loft import Prune, filter_axes, loft
from moiety.methods.resist import resist
from moiety.methods.task import Local, Task
from moiety.models.gated import Base
from moiety.models.residual import DEPTH, FILTERS, Form
from moiety.models.resnet import resnet
from moiety.models.vgg import vgg
from moiety.ops.filters import norms, ticket_distance

STEPS, SHAPE, CLASSES = 20, (3, 16, 16), 10
FORM = Form((1, 1, 13, 1), (8, 16, 32, 64))
NAIVE = Form((3, 3, 9, 3), (8, 16, 32, 64))
"""For the ablations: blocks to deal in other sections too."""

LOCAL = Local(
    lr=0.05, momentum=0.9, weight_decay=5e-4, batch=64, epochs=0, steps=STEPS,
    schedule="steps", drops=(0.75,), flips=True,
)  # fmt: skip

Figures = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """How much is run."""

    rows: int = 10_000
    test: int = 4_000
    rounds: int = 20
    tune: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)
    workers: tuple[int, ...] = (2, 4)


QUICK = Scope(rows=640, test=500, rounds=1, tune=1, seeds=(0,), workers=(2,))


@lru_cache(maxsize=1)
def tables(scope: Scope) -> tuple[TableRows, TableRows]:
    """Read training and test rows, standardised on the training ones."""
    data = load("cifar10-small")
    assert data.y is not None
    assert data.test is not None
    train = (~data.test).nonzero()[: scope.rows, 0]
    test = data.test.nonzero()[: scope.test, 0]
    table = {"x": fit_scale(data.x, train).apply(data.x), "y": data.y}
    return TableRows(table, train), TableRows(table, test)


def task(scope: Scope, model: Base, workers: int, seed: int) -> Task:
    """Say what is to be learnt."""
    return Task(model, LOCAL, rounds=scope.rounds, workers=workers, seed=seed)


def network(cut: str, seed: int, form: Form = FORM, source: str = "recompute") -> Base:
    """Make the residual network."""
    return resnet(SHAPE, CLASSES, stream(seed, "net"), form, cut=cut, statistics=source)


def train(
    scope: Scope, method: Method, workers: int, seed: int, state: State | None = None
) -> tuple[State, list[State]]:
    """Play the rounds; gives the last state, and all of them for those who look at the way."""
    rows, _ = tables(scope)
    hands = iid(rows.size, workers, stream(seed, "shards"))
    shards = {w: TableRows(rows.table, rows.index[hand]) for w, hand in enumerate(hands)}
    engine = Pool(shards.__getitem__, processes=1)
    state = begin(method) if state is None else state
    rounds, way = scope.rounds if state.round == 0 else scope.tune, []
    for _ in range(rounds):
        state = play(method, engine, state, range(workers), seed)
        way.append(state)
    return state, way


def accuracy(scope: Scope, model: Base, params: Params, batch: int = 1000) -> float:
    """Score on the test rows."""
    rows, test = tables(scope)
    del rows
    right = 0
    with torch.no_grad():
        for ids in torch.arange(test.size).split(batch):
            some = test.take(ids)
            right += int((model.logits(params, some, {}).argmax(-1) == some["y"]).sum())
    return right / test.size


def used(scope: Scope, method: Method, state: State, held: Mapping[str, float] | None) -> float:
    """Score the whole, calibrated by the method, or with other shares; on 2,048 rows."""
    rows, _ = tables(scope)
    some = TableRows(rows.table, rows.index[:SOME])
    model: Any = method.model
    params = (
        method.calibrate(state.params, some)
        if held is None
        else model.calibrate(state.params, some, held)
    )
    return accuracy(scope, method.model, params)


def wire(method: Method, state: State, workers: int, seed: int) -> int:
    """Count the bytes of a round, both ways."""
    return 2 * sum(job.down_bytes for job in dispatch(method, state, range(workers), {}, seed))


def depth(scope: Scope, workers: int, least: int, seed: int) -> Figures:
    """Run ResIST, and score it with several scales; ``least`` 0 is local SGD."""
    what = task(scope, network(DEPTH, seed), workers, seed)
    method = resist(what, least=least) if least else local_sgd(what)
    state, _ = train(scope, method, workers, seed)
    found: Figures = {"bytes": wire(method, state, workers, seed)}
    found["1"] = used(scope, method, state, {})
    model: Any = method.model
    if least:
        share = max(-(-12 // workers), least) / 12
        for scale in sorted({share, 0.5, 0.25, 0.125}, reverse=True):
            found[f"{scale:g}"] = used(scope, method, state, {DEPTH: scale})
        raw = replace(model, statistics="batch")
        found["batch"] = used(scope, replace(method, model=raw), state, {DEPTH: share})
    else:
        raw = replace(model, statistics="batch")
        found["batch"] = used(scope, replace(method, model=raw), state, {})
    return found


def ablation(scope: Scope, workers: int, deal: Sequence[str], seed: int) -> Figures:
    """Deal other sections, or strided blocks, on a net that has blocks to deal there."""
    what = task(scope, network(DEPTH, seed, NAIVE), workers, seed)
    method = resist(what, least=1, deal=tuple(deal)) if deal else local_sgd(what)
    state, _ = train(scope, method, workers, seed)
    return {"own": used(scope, method, state, None), "1": used(scope, method, state, {})}


def ticket(params: Params, other: Params) -> float:
    """Average the distance of the filters' order over the blocks dealt."""
    names = [n for n in params if n.endswith("conv1.w") and n.startswith("s3.b")]
    apart = [ticket_distance(norms(params[n]), norms(other[n])) for n in names]
    return statistics.fmean(apart)


def filters(scope: Scope, workers: int, seed: int) -> Figures:
    """Run LoFT and local SGD, prune both, fine-tune both."""
    what = task(scope, network(FILTERS, seed), workers, seed)
    whole, dealt = local_sgd(what), loft(what)
    base, _ = train(scope, whole, workers, seed)
    state, way = train(scope, dealt, workers, seed)
    mixed = stream(seed, "order")
    name = next(n for n in state.params if n.startswith("s3.b0.conv1"))
    chance = [
        ticket_distance(norms(base.params[name]), torch.rand(32, generator=mixed))
        for _ in range(200)
    ]
    share = 1 / workers
    found: Figures = {
        "bytes": wire(dealt, state, workers, seed),
        "whole bytes": wire(whole, base, workers, seed),
        "dense": used(scope, whole, base, {}),
        "scaled": used(scope, dealt, state, dict.fromkeys(filter_axes(what), share)),
        "unscaled": used(scope, dealt, state, {}),
        "ticket": [ticket(base.params, one.params) for one in way],
        "ticket of random orders": statistics.fmean(chance),
    }
    longer, _ = train(scope, Prune(what, 0.0).method(scope.rounds, scope.tune), workers, seed, base)
    found["dense, tuned"] = used(scope, whole, longer, {})
    for label, begun, small in (
        ("pruned", state, False),
        ("pruned, small kept", state, True),
        ("local SGD, pruned", base, False),
    ):
        enter = Prune(what, 0.5, small=small)
        last = enter.method(scope.rounds, scope.tune)
        cut = enter(begun)
        found[f"{label}, not tuned"] = used(scope, last, cut, {})
        tuned, _ = train(scope, last, workers, seed, cut)
        found[label] = used(scope, last, tuned, {})
    return found


def convolutions(scope: Scope, workers: int, shared: Sequence[str] | None, seed: int) -> Figures:
    """Run IST on a VGG-like network: all dealt, or some shared; None is local SGD."""
    net = vgg(SHAPE, CLASSES, stream(seed, "net"), filters=((32, 32), (64, 64)), hidden=(256, 256))
    what = task(scope, net, workers, seed)
    method = local_sgd(what) if shared is None else ist(what, shared=tuple(shared))
    state, _ = train(scope, method, workers, seed)
    raw = replace(net, statistics="batch")
    return {
        "bytes": wire(method, state, workers, seed),
        "recompute": used(scope, method, state, None),
        "batch": used(scope, replace(method, model=raw), state, {}),
    }


DEALS: Mapping[str, Sequence[str]] = {
    "local SGD": (),
    "section 3": (DEPTH,),
    "all sections": (f"{DEPTH}*",),
    "all and strided": (f"{DEPTH}*", "strided*"),
}
CUTS: Mapping[str, Sequence[str] | None] = {
    "local SGD": None,
    "hidden units dealt": ("c*",),
    "filters and units dealt": (),
}


def plans(scope: Scope) -> dict[str, Callable[[int], Figures]]:
    """Name everything that is measured, each for a seed."""
    made: dict[str, Callable[[int], Figures]] = {}
    for n in scope.workers:
        for least in (0, 1, 6) if n > 2 else (0, 1):
            made[f"depth n={n} least={least}"] = partial(depth, scope, n, least)
        for name, deal in DEALS.items():
            made[f"deal n={n} {name}"] = partial(ablation, scope, n, deal)
        for name, shared in CUTS.items():
            made[f"vgg n={n} {name}"] = partial(convolutions, scope, n, shared)
        made[f"loft n={n}"] = partial(filters, scope, n)
    return made


def measure(scope: Scope, book: Book) -> dict[str, list[Figures]]:
    """Measure everything, seed by seed and kind by kind; key -> figures of each seed."""
    takes, found = plans(scope), {}
    for seed in scope.seeds:
        for part in ("depth", "loft", "deal", "vgg"):
            for key in (key for key in takes if key.startswith(part)):
                named = f"{key}, seed {seed}, {scope.rows} rows, {scope.rounds} rounds"
                for told in book.several({named: partial(takes[key], seed)}):
                    found.setdefault(key, []).append(told)
    return found


def told(figures: Sequence[Figures], key: str) -> str:
    """Write one figure of all seeds."""
    return " / ".join(f"{one[key]:.3f}" for one in figures) or NOT_RUN


def mean(figures: Sequence[Figures], key: str) -> float:
    """Average one figure over seeds."""
    return statistics.fmean(one[key] for one in figures)


def sent(name: str, figures: Sequence[Figures], asked: int | None = None) -> Gate:
    """Ask that the bytes of a round be exactly those, if any are asked."""
    if not figures:
        return not_run(name, "-" if asked is None else f"{asked:,}", "no figure kept")
    found = sorted({one["bytes"] for one in figures})
    measured = " / ".join(f"{one:,}" for one in found)
    if asked is None:
        return Gate(name, "-", measured)
    return Gate(name, f"{asked:,}", measured, found == [asked])


ASKED = {
    "depth n=2 least=0": 4_807_968,
    "depth n=2 least=1": 3_026_208,
    "depth n=4 least=0": 9_615_936,
    "depth n=4 least=1": 4_270_656,
    "depth n=4 least=6": 6_052_416,
}
"""Bytes per round in all: 8 (n shared + n k block), of 77,778 and 18,560 parameters."""


def depth_gates(found: Mapping[str, list[Figures]], scope: Scope, *, full: bool) -> list[Gate]:
    """Ask of ResIST what was measured before."""
    gates = []
    for key, asked in ASKED.items():
        if key not in found:
            continue
        gates.append(sent(f"{key}: bytes a round", found[key], asked))
        scales = [name for name in found[key][0] if name != "bytes"]
        for scale in scales:
            about = "statistics of the test batch" if scale == "batch" else f"scale {scale}"
            gates.append(Gate(f"{key}: accuracy, {about}", "-", told(found[key], scale)))
    for n in scope.workers if full else ():
        base = mean(found[f"depth n={n} least=0"], "1")
        for least in (1, 6) if n > 2 else (1,):
            runs = found[f"depth n={n} least={least}"]
            share = max(-(-12 // n), least) / 12
            own, one = mean(runs, f"{share:g}"), mean(runs, "1")
            floor = 0.01 if n == 4 and least == 1 else 0.0
            gain, short = own - one, base - own
            label = f"ResIST n={n}, k={round(share * 12)}"
            asked = f"at least {floor:g}"
            gates.append(
                Gate(f"{label}: scaled over unscaled", asked, f"{gain:.4f}", gain >= floor)
            )
            gates.append(
                Gate(f"{label}: behind local SGD", "at most 0.03", f"{short:.4f}", short <= 0.03)
            )
    return gates


def other_gates(found: Mapping[str, list[Figures]], scope: Scope) -> list[Gate]:
    """Report the rest; only bytes are asked for."""
    gates = []
    for n in scope.workers:
        for name in DEALS:
            runs = found.get(f"deal n={n} {name}", [])
            gates.append(Gate(f"n={n}, dealt: {name}: scaled", "-", told(runs, "own")))
            gates.append(Gate(f"n={n}, dealt: {name}: unscaled", "-", told(runs, "1")))
        for name in CUTS:
            runs = found.get(f"vgg n={n} {name}", [])
            gates += [
                Gate(f"VGG n={n}, {name}: {key}", "-", told(runs, key))
                for key in ("recompute", "batch")
            ]
            gates.append(sent(f"VGG n={n}, {name}: bytes a round", runs))
        runs = found.get(f"loft n={n}", [])
        # 12 blocks of 2 * 9 * 32 * 32 weights and 2 * 32 numbers of the inner norm are dealt.
        asked = 8 * (n * 300_498 - (n - 1) * 12 * (18 * 1024 + 64))
        gates.append(sent(f"LoFT n={n}: bytes a round", runs, asked))
        for key, value in runs[0].items() if runs else ():
            if isinstance(value, float):
                gates.append(Gate(f"LoFT n={n}: {key}", "-", told(runs, key)))
        ends = [(one["ticket"][0], one["ticket"][-1]) for one in runs]
        way = " / ".join(f"{first:.2f} to {last:.2f}" for first, last in ends)
        gates.append(Gate(f"LoFT n={n}: ticket distance to local SGD", "-", way or NOT_RUN))
    return gates


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    asked = options(__doc__ or "", arguments)
    torch.set_num_threads(1)
    scope, book = QUICK if asked.quick else Scope(), Book.open(asked.json, closed=asked.kept)
    found = measure(scope, book)
    gates = depth_gates(found, scope, full=not asked.quick) + other_gates(found, scope)
    return report(gates, book, asked, machine())


if __name__ == "__main__":
    sys.exit(main())
