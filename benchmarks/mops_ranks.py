"""Low-rank parts of unequal ranks over label-skewed texts: exact merges beside plain averaging.

    MOIETY_DATA=FOLDER python -m benchmarks.mops_ranks [--check] [--json FILE]

20 Newsgroups as TF-IDF of 2,000 words; a perceptron of 64 hidden units is trained on a thirtieth
of the rows and frozen; 20 workers of two labels each train parts of rank 4, 8 or 16. Accuracy on
the test file. The learning rate of every merge is chosen on validation rows with seed 0.
"""

from __future__ import annotations

import csv
import functools
import gzip
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gates import Book, Gate, at_least, machine, options, percent, report
from moiety import initialise_state, make_engine, play_round
from moiety.core.rows import Rows, TableRows
from moiety.core.streams import stream
from moiety.core.types import Params
from moiety.methods.lora import lora
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.rounds.cohort import UniformCohort
from moiety.tasks.classes import Classes

SEEDS, RATES = (0, 1, 2), (3e-3, 1e-2)
WORDS, HIDDEN, CLASSES = 2000, 64, 20
WORKERS, LABELS, TOGETHER, ROUNDS, STEPS, BATCH = 20, 2, 10, 40, 4, 32
RANKS = (4, 8, 16)

MERGES: Mapping[str, Mapping[str, Any]] = {
    "stacked": {"merge": "stack"},
    "mean over holders": {"merge": "holders"},
    "plain mean, zeros for what is not held": {"merge": "padded"},
}
PLAIN = "plain mean, zeros for what is not held"


@dataclass(frozen=True, eq=False)
class News:
    """Rows of words, and where they are."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


@functools.lru_cache(maxsize=1)
def read_news() -> News:
    """Read both files; words are counted on training texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    csv.field_size_limit(sys.maxsize)
    texts, labels = {}, {}
    for part in ("train", "test"):
        path = Path(os.environ["MOIETY_DATA"]) / f"text_20newsgroups_{part}.csv.gz"
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        texts[part] = [row["text"] for row in rows]
        labels[part] = torch.tensor([int(row["label"]) for row in rows])
    count: Any = TfidfVectorizer(max_features=WORDS, stop_words="english", sublinear_tf=True)
    x = torch.tensor(count.fit_transform(texts["train"]).toarray(), dtype=torch.float32)
    told = torch.tensor(count.transform(texts["test"]).toarray(), dtype=torch.float32)
    return News(x, labels["train"], told, labels["test"])


@dataclass(frozen=True, eq=False)
class Setting:
    """What a seed gives: who holds which rows, and the frozen base.

    Args:
        base: the perceptron's parameters.
        workers: worker -> its rows.
        valid: rows to choose rates by.
        bare: accuracy of the base on the test file.
    """

    base: Params
    workers: Mapping[int, Rows]
    valid: Tensor
    bare: float


@functools.lru_cache(maxsize=1)
def set_up(seed: int) -> Setting:
    """Train the base on a thirtieth of the rows, and give workers two labels each of the others."""
    news, net = read_news(), mlp((WORDS, HIDDEN, CLASSES), stream(seed, "net"))
    order = torch.randperm(len(news.y), generator=stream(seed, "rows"))
    public, valid, rest = order.split([len(order) // 30, 500, len(order) - len(order) // 30 - 500])
    params = {name: t.clone().requires_grad_() for name, t in net.params.items()}
    adam = torch.optim.Adam(params.values(), 3e-3)
    for _ in range(60):
        loss = F.cross_entropy(net.logits(params, {"x": news.x[public]}, {}), news.y[public])
        adam.zero_grad()
        loss.backward()
        adam.step()
    base = {name: t.detach() for name, t in params.items()}
    deal = torch.randperm(CLASSES, generator=stream(seed, "labels"))
    table, held = {"x": news.x, "y": news.y}, {}
    for worker in range(WORKERS):
        mine = deal[[worker, (worker + 1) % CLASSES]]  # every label is at two workers
        rows = rest[torch.isin(news.y[rest], mine)]
        held[worker] = TableRows(table, rows[worker % 2 :: 2])
    return Setting(base, held, valid, measure(net, base, news.test_x, news.test_y))


@torch.no_grad()
def measure(model: Any, params: Params, x: Tensor, y: Tensor) -> float:
    """Measure accuracy."""
    return float((model.logits(params, {"x": x}, {}).argmax(-1) == y).float().mean())


def train(name: str, lr: float, seed: int) -> dict[str, float]:
    """Play the rounds of one merge; accuracy of the whole on validation and test rows."""
    news, here = read_news(), set_up(seed)
    net = mlp((WORDS, HIDDEN, CLASSES), stream(seed, "net"))
    local = LocalTraining(optimizer="adam", lr=lr, batch=BATCH, epochs=0, steps=STEPS)
    names = tuple(f"group {place}" for place in range(CLASSES))
    task = Task(net, local, rounds=ROUNDS, seed=seed, start=here.base, objective=Classes(names))
    method = lora(task, ranks=RANKS, **MERGES[name])
    engine = make_engine("vectorized", here.workers.__getitem__)
    state, cohort = initialise_state(method), UniformCohort(WORKERS, TOGETHER)
    for place in range(ROUNDS):
        state = play_round(method, engine, state, cohort=cohort(place, seed), seed=seed)
    engine.close()
    valid = measure(method.model, state.params, news.x[here.valid], news.y[here.valid])
    test = measure(method.model, state.params, news.test_x, news.test_y)
    return {"valid": valid, "test": test, "base": here.bare}


def take_all(book: Book) -> dict[str, list[dict[str, float]]]:
    """Measure every merge: all rates with seed 0, then the best rate with the other seeds."""
    found = {}
    for name in MERGES:
        rates = {
            lr: book.measure(f"{name}, rate {lr:g}, seed 0", functools.partial(train, name, lr, 0))
            for lr in RATES
        }
        best = max(rates, key=lambda lr, rates=rates: rates[lr]["valid"])
        found[name] = [
            book.measure(
                f"{name}, rate {best:g}, seed {seed}", functools.partial(train, name, best, seed)
            )
            for seed in SEEDS
        ]
    return found


def judge(found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Gate]:
    """Show accuracies, and ask that stacks be no worse than the plain mean."""
    plain = [one["test"] for one in found[PLAIN]]
    lines = [Gate("the frozen base, % right", "-", percent([one["base"] for one in found[PLAIN]]))]
    for name, some in found.items():
        lines.append(Gate(f"{name}, % right", "-", percent([one["test"] for one in some])))
    for name in MERGES:
        if name != PLAIN:
            gain = [100 * (one["test"] - other)
                    for one, other in zip(found[name], plain, strict=True)]  # fmt: skip
            lines.append(at_least(f"{name}: points above the plain mean", 0, gain, ""))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is lacking, print, keep."""
    told = options(__doc__ or "", arguments)
    if told.quick:
        raise SystemExit("--quick is not there: the whole takes a few minutes")
    torch.set_num_threads(1)
    book = Book.open(told.json, closed=told.kept)
    return report(judge(take_all(book)), book, told, machine())


if __name__ == "__main__":
    raise SystemExit(main())
