"""One figure of the benchmark of tasks: a variant of a world, trained and scored on all rows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import moiety
from benchmarks.tasks_parts.nets import draw
from benchmarks.tasks_parts.plain import BATCH, MOMENTUM, train_plain
from benchmarks.tasks_parts.worlds import World, select, shuffled
from moiety.core.axes import read_axis_lengths
from moiety.core.ledger import read_ledger
from moiety.core.protocols import Method
from moiety.core.rows import TableRows, transform_rows
from moiety.methods.task import Task
from moiety.models.gated import Common
from moiety.models.module import from_module
from moiety.run.evaluate import Score, score_rows
from moiety.run.loop import LEDGER

Figures = dict[str, Any]

SCALED = 2
"""Times the loop's rate where owners hold the rows, each of whom makes few steps in a round."""


@dataclass(frozen=True)
class Variant:
    """A line of the table.

    Args:
        name: how it is called.
        method: its method, by name.
        options: of the method.
        iid: how many workers hold rows at random, each of whom makes as many steps as the loop; 0
            for the owners of the rows, who make a pass over their rows in a round.
        common: whether the method reads a common expert, trained on a tenth of the rows.
    """

    name: str
    method: str
    options: Mapping[str, Any]
    iid: int = 0
    common: bool = False


def hand_out(world: World, variant: Variant) -> dict[int, TableRows]:
    """Say who holds which training rows."""
    if variant.iid:
        parts = shuffled(len(world.train["y"]), "hands").chunk(variant.iid)
        return {worker: TableRows(world.train, ids) for worker, ids in enumerate(parts)}
    return split_owners(world.train, world.owners)


def split_owners(rows: Mapping[str, Tensor], owners: Tensor) -> dict[int, TableRows]:
    """Give each owner its rows."""
    return {
        int(owner): TableRows(rows, (owners == owner).nonzero()[:, 0]) for owner in owners.unique()
    }


def score(method: Method, params: Any, workers: Mapping[int, TableRows]) -> Score:
    """Score the test rows of all workers together, each served by its own choice."""
    sizes = read_axis_lengths(params, method.model.axes)
    found = Score(method.serve.objective, sizes[method.gated] if method.gated else 0)
    for rows in workers.values():
        seen = rows if method.transform is None else transform_rows(rows, method.transform)
        found = score_rows(method, params, seen, found)
    return found


def read_metrics(found: Score) -> Figures:
    """Give the values of all metrics."""
    return {metric.name: found.value(metric) for metric in found.objective.metrics}


def play_plain(world: World, rounds: int, seed: int) -> Figures:
    """Train and score the plain loop."""
    begun, net = time.perf_counter(), draw(world.net(), seed)
    train_plain(net, world, rounds, seed)
    seconds = time.perf_counter() - begun
    found = Score(world.objective)
    with torch.no_grad():
        for ids in torch.arange(len(world.test["y"])).split(2048):
            rows = select(world.test, ids)
            found.add(world.objective.answer(net(rows["x"])), rows["y"], None)
    return {**read_metrics(found), "seconds": seconds, "bytes": 0}


def make_common(world: World, seed: int) -> Common:
    """Train the common expert, on every tenth row, by the plain loop."""
    tenth = select(world.train, torch.arange(0, len(world.train["y"]), 10))
    net = draw(world.net(), seed)
    train_plain(net, replace(world, train=tenth), 10, seed)
    embeds = (world.common or world.net)()
    embeds.load_state_dict(net.state_dict())
    model = from_module(embeds)
    return moiety.common_expert(model, model.params, tenth["x"])


def make_method(world: World, variant: Variant, workers: int, rounds: int, seed: int) -> Method:
    """Make the method of a variant."""
    model = from_module(draw(world.net(), seed), world.axes)
    local = moiety.LocalTraining(
        lr=world.lr if variant.iid else SCALED * world.lr, momentum=MOMENTUM, batch=BATCH,
        epochs=variant.iid or 1, by_rows=True, lr_schedule="cosine",
    )  # fmt: skip
    common = make_common(world, seed) if variant.common else None
    task = Task(
        model, local, rounds=rounds, workers=workers, seed=seed, common=common,
        objective=world.objective, population=workers,
    )  # fmt: skip
    return partial(moiety.METHODS[variant.method].make, **variant.options)(task)


def play_variant(world: World, variant: Variant, rounds: int, seed: int) -> Figures:
    """Train a variant through ``moiety.train``, and score it."""
    workers = hand_out(world, variant)
    method = make_method(world, variant, len(workers), rounds, seed)
    test = split_owners(world.test, world.test_owners)
    if variant.iid:
        test = {0: TableRows(world.test, torch.arange(len(world.test["y"])))}
    how = moiety.TrainConfig(rounds=rounds, seed=seed, evaluate_every=rounds)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        state = moiety.train(method, workers, folder, how)
        seconds = time.perf_counter() - begun
        ledger = read_ledger(Path(folder) / LEDGER)
    passed = sum(one.down_bytes + one.up_bytes for one in ledger.rounds)
    found = score(method, method.calibrate(state.params, None), test)
    return {
        **read_metrics(found),
        "seconds": seconds,
        "bytes": passed / rounds / len(workers) + 0.0,
        "workers": len(workers),
    }
