"""A head of two hidden layers on the frozen features of a small ViT, dealt and whole.

After Kariotakis et al., CPAL 2024: only the perceptron behind the class token is trained.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gates import Book, Gate, percent
from moiety.core.rows import Rows, TableRows, TransformedRows, sample_rows
from moiety.core.streams import stream
from moiety.data.dataset import fit_scale
from moiety.data.datasets import load_dataset
from moiety.engine.pool import Pool
from moiety.methods import METHODS
from moiety.methods.task import LocalTraining, Task
from moiety.models.blocks import Sizes
from moiety.models.normed import normed
from moiety.models.vit import vit
from moiety.recipes.common import measure_metric, train_epochs
from moiety.recipes.record import CommonExpert
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.run.evaluate import evaluate_groups
from moiety.serve.personal import FrozenFeatures
from moiety.tasks.classes import Classes

BODY, ROWS, TEST = 4000, 8000, 4000
"""Images for the body, then for the head, and for testing."""


TEN = Classes(tuple(map(str, range(10))))
"""What is learnt."""

SETS = ("fashion-mnist", "cifar10-small")


def images(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give a set's images, standardised on the body's, their labels, and the rows for testing."""
    data = load_dataset(name)
    assert data.y is not None
    assert data.test is not None
    known = (~data.test).nonzero()[:, 0]
    x = fit_scale(data.x, known[:BODY]).apply(data.x)
    order = torch.cat([known[: BODY + ROWS], data.test.nonzero()[:TEST, 0]])
    return x[order], data.y[order], torch.arange(BODY + ROWS, len(order))


def frozen(x: torch.Tensor, y: torch.Tensor) -> FrozenFeatures:
    """Train a small ViT on its own images, then never again."""
    body = vit(tuple(x.shape[1:]), 10, Sizes.even(64, 4, 128, 2), stream(0, "body"))
    *_, params = train_epochs(body, CommonExpert(lr=0.02, batch=32, epochs=30), (x, y), 0, TEN)
    return FrozenFeatures(body, {name: t.detach().clone() for name, t in params.items()})


def tested(name: str, n: int, seed: int, transform: FrozenFeatures, table: dict[str, Any]) -> float:
    """Train the head on n workers for 600 steps, 20 a round; give its test accuracy."""
    train, test = table["train"], table["test"]
    rows: dict[int, Rows] = {
        worker: TableRows(train, rows)
        for worker, rows in enumerate(
            torch.randperm(ROWS, generator=stream(seed, "deal")).tensor_split(n)
        )
    }
    local = LocalTraining("adam", 1e-3, batch=64, epochs=0, steps=20)
    model = normed((64, 128, 128, 10), stream(seed, "head"))
    method = METHODS[name].make(Task(model, local, rounds=30, workers=n, seed=seed))
    engine, state = (
        Pool(TransformedRows(rows.__getitem__, transform), processes=1),
        initialise_state(method),
    )
    for _ in range(30):
        state = play_round(method, engine, state, list(range(n)), seed)
    sample = sample_rows(TransformedRows(rows.__getitem__, transform), list(rows), 2048, seed)
    used = replace(state, params=method.calibrate(state.params, sample))
    seen = TransformedRows({0: TableRows(test, torch.arange(TEST))}.__getitem__, transform)
    return (
        evaluate_groups(method, used, {}, {"test": {0: seen(0)}})
        .groups["test"]
        .metrics["accuracy"][0]
    )


def measured(name: str) -> dict[str, list[float]]:
    """Measure every head on a set over three seeds, and what the body itself scores."""
    x, y, held = images(name)
    transform = frozen(x[:BODY], y[:BODY])
    known = slice(BODY, BODY + ROWS)
    table = {"train": {"x": x[known], "y": y[known]}, "test": {"x": x[held], "y": y[held]}}
    found = {
        "the body's own output": [
            measure_metric(transform.model, transform.params, (x[held], y[held]), TEN)
        ]
    }
    for method, n in (("ist", 1), ("ist", 2), ("ist", 4), ("local_sgd", 4)):
        label = f"{method}, n = {n}"
        found[label] = [tested(method, n, seed, transform, table) for seed in range(3)]
    return found


def head(book: Book) -> list[Gate]:
    """Show the heads; nothing is asked, for the paper's numbers are only in plots."""
    gates = []
    for name in SETS:
        found = book.measure(f"frozen ViT, {name}", partial(measured, name))
        text = ", ".join(f"{label} {percent(values)}" for label, values in found.items())
        gates.append(Gate(f"frozen ViT, dealt head, {name}: accuracy (%)", "-", text))
    return gates
