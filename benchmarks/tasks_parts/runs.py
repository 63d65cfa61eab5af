"""One figure of the benchmark of tasks: a variant of a world, trained and scored by owner."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
from moiety.recipes.common import find_anchors
from moiety.run.evaluate import Score, score_rows
from moiety.run.loop import LEDGER

Figures = dict[str, Any]

COMMON_SHARE = 10
"""One training row in so many trains the common expert."""


@dataclass(frozen=True)
class Variant:
    """A line of the table that goes through ``moiety.train``.

    Args:
        name: how it is called.
        method: its method, by name.
        options: of the method.
        iid: how many workers hold rows at random, each of whom makes as many steps as the loop; 0
            for the owners of the rows, who make a pass over their rows in a round.
        experts: of the method, each of which gets an anchor; 0 where it reads no common expert.
        from_common: whether a method of one model starts where the common expert ended.
    """

    name: str
    method: str
    options: Mapping[str, Any]
    iid: int = 0
    experts: int = 0
    from_common: bool = False


def hand_out(world: World, variant: Variant) -> dict[int, Tensor]:
    """Say who holds which training rows."""
    if variant.iid:
        return dict(enumerate(shuffled(len(world.train["y"]), "hands").chunk(variant.iid)))
    return list_owned(world.owners)


def list_owned(owners: Tensor) -> dict[int, Tensor]:
    """List the positions of each owner's rows."""
    return {int(owner): (owners == owner).nonzero()[:, 0] for owner in owners.unique()}


def summarize(scores: Sequence[Score]) -> Figures:
    """Give all metrics over the rows of all owners, and the first as a mean over owners."""
    whole = Score(scores[0].objective)
    for one in scores:
        whole.count += one.count
        for name, totals in one.totals.items():
            whole.totals[name] = whole.totals.get(name, 0) + totals
    first = whole.objective.metrics[0]
    values = {metric.name: whole.value(metric) for metric in whole.objective.metrics}
    return {**values, "own": statistics.fmean(one.value(first) for one in scores)}


def score_owners(world: World, answer: Callable[[int, Mapping[str, Tensor]], Tensor]) -> Figures:
    """Score what is answered to each owner's test rows."""
    scores = []
    for owner, ids in list_owned(world.test_owners).items():
        rows = select(world.test, ids)
        scores.append(Score(world.objective))
        with torch.no_grad():
            scores[-1].add(answer(owner, rows), rows["y"], None)
    return summarize(scores)


def score_method(world: World, method: Method, params: Any) -> Figures:
    """Score a method on each owner's test rows, served by the owner's own choice."""
    sizes = read_axis_lengths(params, method.model.axes)
    experts = sizes[method.gated] if method.gated else 0
    scores = []
    for ids in list_owned(world.test_owners).values():
        rows = TableRows(world.test, ids)
        seen = rows if method.transform is None else transform_rows(rows, method.transform)
        scores.append(score_rows(method, params, seen, Score(world.objective, experts)))
    return summarize(scores)


def train_common(world: World, seed: int) -> torch.nn.Module:
    """Train the common expert, on a tenth of the rows, in as many steps as the plain loop."""
    tenth = select(world.train, torch.arange(0, len(world.train["y"]), COMMON_SHARE))
    net = draw(world.net(), seed)
    train_plain(net, replace(world, train=tenth, rounds=COMMON_SHARE * world.rounds), seed)
    return net


def make_common(world: World, seed: int) -> Common:
    """Make the common expert that embeds rows."""
    embeds = (world.common or world.net)()
    embeds.load_state_dict(train_common(world, seed).state_dict())
    model = from_module(embeds)
    tenth = world.train["x"][::COMMON_SHARE]
    return moiety.common_expert(model, model.params, tenth)


def make_method(
    world: World, variant: Variant, hands: Mapping[int, Tensor], seed: int, scale: float
) -> Method:
    """Make the method of a variant."""
    model = from_module(draw(world.net(), seed), world.axes)
    local = moiety.LocalTraining(
        lr=scale * world.lr, momentum=MOMENTUM, batch=BATCH,
        epochs=variant.iid or 1, by_rows=True, lr_schedule="cosine",
        optimizer_state="send" if variant.iid else "reset",  # as the loop keeps its momentum
    )  # fmt: skip
    options, common, anchors, start = dict(variant.options), None, {}, None
    if variant.experts:
        common, options["experts"] = make_common(world, seed), variant.experts
        anchors = find_anchors(common, world.train["x"], hands, variant.experts, seed)
    if variant.from_common:
        start = from_module(train_common(world, seed), world.axes).params
    task = Task(
        model, local, start=start, rounds=count_rounds(world, variant), workers=len(hands),
        seed=seed, common=common, anchors=anchors, objective=world.objective,
        population=len(hands),
    )  # fmt: skip
    return partial(moiety.METHODS[variant.method].make, **options)(task)


def count_rounds(world: World, variant: Variant) -> int:
    """Count the rounds: as many as the loop makes passes, or more where owners make few steps."""
    return world.rounds if variant.iid else world.owner_rounds


def train_variant(
    world: World, variant: Variant, seed: int, scale: float
) -> tuple[Method, Any, Figures]:
    """Train a variant through ``moiety.train``; give its method, parameters, bytes and workers.

    Args:
        world: the data.
        variant: what is trained.
        seed: of first values and draws.
        scale: times the world's learning rate.
    """
    hands = hand_out(world, variant)
    workers = {worker: TableRows(world.train, ids) for worker, ids in hands.items()}
    method = make_method(world, variant, dict(enumerate(hands.values())), seed, scale)
    rounds = count_rounds(world, variant)
    how = moiety.TrainConfig(rounds=rounds, seed=seed, evaluate_every=rounds)
    with tempfile.TemporaryDirectory() as folder:
        state = moiety.train(method, workers, folder, how)
        ledger = read_ledger(Path(folder) / LEDGER)
    passed = sum(one.down_bytes + one.up_bytes for one in ledger.rounds)
    sent = passed / rounds / len(workers) + 0.0
    params = method.calibrate(state.params, None)
    return method, params, {"bytes": sent, "workers": len(workers)}


def play_variant(world: World, variant: Variant, seed: int, scale: float = 1.0) -> Figures:
    """Train a variant, and score it; arguments as of ``train_variant``."""
    method, params, sent = train_variant(world, variant, seed, scale)
    return {**score_method(world, method, params), **sent}
