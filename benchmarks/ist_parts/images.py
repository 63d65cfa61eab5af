"""Runs of residual and VGG-like networks on the CIFAR-10 subset, as figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from moiety.core.protocols import Method, Model
from moiety.core.rows import CALIBRATION_ROWS, TableRows
from moiety.core.state import State
from moiety.core.streams import stream
from moiety.core.types import Params
from moiety.data.dataset import fit_scale
from moiety.data.datasets import load_dataset
from moiety.data.partition import partition_iid
from moiety.engine.pool import Pool
from moiety.methods.ist import ist
from moiety.methods.local_sgd import local_sgd
from moiety.methods.loft import Prune, find_filter_axes, loft
from moiety.methods.resist import resist
from moiety.methods.task import LocalTraining, Task
from moiety.models.base import FeatureModel
from moiety.models.residual import DEPTH, FILTERS, ResidualForm
from moiety.models.resnet import resnet
from moiety.models.vgg import vgg
from moiety.ops.filters import compute_filter_norms, measure_ticket_distance
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round

STEPS, SHAPE, CLASSES = 20, (3, 16, 16), 10
FORM = ResidualForm((1, 1, 13, 1), (8, 16, 32, 64))
NAIVE = ResidualForm((3, 3, 9, 3), (8, 16, 32, 64))
"""For the ablations: blocks to deal in other sections too."""

LOCAL = LocalTraining(
    lr=0.05, momentum=0.9, weight_decay=5e-4, batch=64, epochs=0, steps=STEPS,
    lr_schedule="steps", drops=(0.75,), flips=True,
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
    data = load_dataset("cifar10-small")
    assert data.y is not None
    assert data.test is not None
    train = (~data.test).nonzero()[: scope.rows, 0]
    test = data.test.nonzero()[: scope.test, 0]
    table = {"x": fit_scale(data.x, train).apply(data.x), "y": data.y}
    return TableRows(table, train), TableRows(table, test)


def task(scope: Scope, model: FeatureModel, workers: int, seed: int) -> Task:
    """Say what is to be learnt."""
    return Task(model, LOCAL, rounds=scope.rounds, workers=workers, seed=seed)


def network(
    cut: str, seed: int, form: ResidualForm = FORM, source: str = "recompute"
) -> FeatureModel:
    """Make the residual network."""
    return resnet(SHAPE, CLASSES, stream(seed, "net"), form, cut=cut, statistics=source)


def train(
    scope: Scope, method: Method, workers: int, seed: int, state: State | None = None
) -> tuple[State, list[State]]:
    """Play the rounds; gives the last state, and all of them for those who look at the way."""
    rows, _ = tables(scope)
    parts = partition_iid(rows.size, workers, stream(seed, "shards"))
    shards = {w: TableRows(rows.table, rows.index[part]) for w, part in enumerate(parts)}
    engine = Pool(shards.__getitem__, processes=1)
    state = initialise_state(method) if state is None else state
    rounds, way = scope.rounds if state.round == 0 else scope.tune, []
    for _ in range(rounds):
        state = play_round(method, engine, state, range(workers), seed)
        way.append(state)
    return state, way


def accuracy(scope: Scope, model: Model, params: Params, batch: int = 1000) -> float:
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
    some = TableRows(rows.table, rows.index[:CALIBRATION_ROWS])
    model: Any = method.model
    params = (
        method.calibrate(state.params, some)
        if held is None
        else model.calibrate(state.params, some, held)
    )
    return accuracy(scope, method.model, params)


def wire(method: Method, state: State, workers: int, seed: int) -> int:
    """Count the bytes of a round, both ways."""
    return 2 * sum(job.down_bytes for job in make_jobs(method, state, range(workers), {}, seed))


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
    method = resist(what, least=1, assigned=tuple(deal)) if deal else local_sgd(what)
    state, _ = train(scope, method, workers, seed)
    return {"own": used(scope, method, state, None), "1": used(scope, method, state, {})}


def ticket(params: Params, other: Params) -> float:
    """Average the distance of the filters' order over the blocks dealt."""
    names = [n for n in params if n.endswith("conv1.w") and n.startswith("s3.b")]
    apart = [
        measure_ticket_distance(compute_filter_norms(params[n]), compute_filter_norms(other[n]))
        for n in names
    ]
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
        measure_ticket_distance(
            compute_filter_norms(base.params[name]), torch.rand(32, generator=mixed)
        )
        for _ in range(200)
    ]
    share = 1 / workers
    found: Figures = {
        "bytes": wire(dealt, state, workers, seed),
        "whole bytes": wire(whole, base, workers, seed),
        "dense": used(scope, whole, base, {}),
        "scaled": used(scope, dealt, state, dict.fromkeys(find_filter_axes(what), share)),
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
