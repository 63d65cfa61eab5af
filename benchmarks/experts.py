"""Experts trained apart beside experts trained jointly: ``python -m benchmarks.experts``.

``--json FILE`` keeps figures and goes on where it stopped; ``--only WORD`` plays the settings named
so; ``--page`` writes the table into docs/experts.md. Fashion-MNIST is read from ``MOIETY_DATA``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ddome_page import fill
from benchmarks.gates import Book
from moiety.core.rows import TableRows, transform_rows
from moiety.core.streams import stream
from moiety.data.dataset import Dataset, FeatureScale
from moiety.data.datasets import load_dataset
from moiety.models.gated import GatedExperts, gated_experts
from moiety.models.mlp import mlp
from moiety.recipes.common import train_epochs
from moiety.recipes.record import CommonExpert
from moiety.run.owner import ALONE, AloneTraining, run_alone, train_owned_expert, tune_gate
from moiety.serve.cards import Card, OwnedExpert
from moiety.serve.choose import Plain, Routed
from moiety.serve.input_spec import InputSpec
from moiety.serve.predictor import Predictor
from moiety.serve.trade import insert_expert, open_mixture, remove_expert, take_mixture
from moiety.solve.mixture import MixtureLoss
from moiety.tasks.classes import Classes

SEEDS = (0, 1, 2)
OWNERS = 5
PAGE = Path("docs/experts.md")
COLUMNS = {
    "anchor": "anchor",
    "apart": "trained apart",
    "tuned": "apart, gate tuned",
    "mean": "apart, mean row",
    "joint": "trained jointly",
    "ensemble": "ensemble",
    "one": "one model of all rows",
    "kept": "two experts kept",
    "add_s": "seconds to add one",
}


@dataclass(frozen=True)
class Setting:
    """Rows, and how owners hold them.

    Args:
        data: name of the data set.
        hidden: units of a network.
        alpha: of Dirichlet; 0 gives each owner two classes.
    """

    data: str
    hidden: int
    alpha: float


SETTINGS: Mapping[str, Setting] = {
    "digits, labels": Setting("digits", 32, 0.0),
    "digits, Dirichlet": Setting("digits", 32, 0.3),
    "Fashion-MNIST, labels": Setting("fashion-mnist", 64, 0.0),
    "Fashion-MNIST, Dirichlet": Setting("fashion-mnist", 64, 0.3),
}


@dataclass(frozen=True)
class Rows:
    """Who has what: public rows, those to test on, and those of the owners."""

    public: Dataset
    test: Dataset
    owners: Sequence[Dataset]

    @property
    def pooled(self) -> Dataset:
        """Put the rows of all owners together."""
        x, y = (torch.cat([getattr(one, name) for one in self.owners]) for name in ("x", "y"))
        return replace(self.public, x=x, y=y)


def share_rows(setting: Setting, seed: int) -> Rows:
    """Share rows out."""
    whole = load_dataset(setting.data)
    assert whole.y is not None
    order = torch.randperm(whole.size, generator=stream(seed, "rows"))[:12_000]
    x, y = whole.x[order].flatten(1), whole.y[order]
    fifth, quarter = len(y) // 5, len(y) // 5 + len(y) // 4
    own = torch.arange(quarter, len(y))
    if setting.alpha:
        rng = stream(seed, "owners")
        gamma = torch.distributions.Gamma(torch.tensor(setting.alpha), 1.0)
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng)))
        share_CO = gamma.sample(torch.Size((len(whole.classes), OWNERS)))
        holder = torch.multinomial(share_CO[y[own]] + 1e-12, 1, generator=rng)[:, 0]
    else:
        holder = y[own] * OWNERS // len(whole.classes)

    def take(rows: Tensor) -> Dataset:
        return Dataset(setting.data, x[rows], y[rows], whole.classes)

    owners = [take(own[holder == owner]) for owner in range(OWNERS)]
    return Rows(take(torch.arange(fifth)), take(torch.arange(fifth, quarter)), owners)


def train_anchor(setting: Setting, rows: Rows, seed: int) -> Predictor:
    """Train the public model on the public rows."""
    x = rows.public.x
    scale = FeatureScale(x.mean(0), x.std(0) + 0.1)
    objective = Classes(rows.public.classes)
    net = mlp((x.shape[1], setting.hidden, len(rows.public.classes)), stream(seed, "net"))
    assert rows.public.y is not None
    known = scale.apply(x), rows.public.y
    *_, params = train_epochs(net, CommonExpert(epochs=20), known, seed, objective)
    params = {name: t.detach().clone() for name, t in params.items()}
    spec = InputSpec((x.shape[1],), scale, rows.public.classes)
    return Predictor(params, net, Plain(net, objective), spec, {"method": "common"})


def score(answer: Tensor, data: Dataset) -> float:
    """Give the accuracy of answers, in percent."""
    assert data.y is not None
    return round(100 * float((answer.argmax(-1) == data.y).double().mean()), 2)


def play(setting: Setting, seed: int) -> dict[str, Any]:
    """Play a setting."""
    rows = share_rows(setting, seed)
    anchor = train_anchor(setting, rows, seed)
    empty = open_mixture(anchor, rows.public.x)
    how = AloneTraining(ALONE, seed)
    public = rows.public.x
    experts = [
        train_owned_expert(empty, data, Card(f"owner {place}"), how, public)
        for place, data in enumerate(rows.owners)
    ]
    blind = [
        train_owned_expert(empty, data, Card(f"owner {place}"), how)
        for place, data in enumerate(rows.owners)
    ]
    mixture = gather(empty, experts)
    begun = time.perf_counter()
    insert_expert(remove_expert(mixture, "owner 4"), experts[4])
    seconds = time.perf_counter() - begun
    found = {
        "anchor": anchor,
        "apart": mixture,
        "tuned": tune_gate(mixture, rows.public, how),
        "mean": gather(empty, blind),
        "joint": train_jointly(mixture, rows.pooled, seed),
        "one": train_one(anchor, rows.pooled, seed),
    }
    told = {name: score(one.predict_answer(rows.test.x), rows.test) for name, one in found.items()}
    told["ensemble"] = score(average_experts(mixture, rows.test.x), rows.test)
    told["kept"] = serve_owners(mixture, rows)
    return {**told, "add_s": round(seconds, 4), "same_bits": drop_leaves_bits(mixture)}


def gather(empty: Predictor, experts: Sequence[OwnedExpert]) -> Predictor:
    """Put all experts into a mixture."""
    for expert in experts:
        empty = insert_expert(empty, expert)
    return empty


def train_jointly(mixture: Predictor, pooled: Dataset, seed: int) -> Predictor:
    """Train experts and a gate of the same form together, on the rows of all owners."""
    apart = take_mixture(mixture)
    starts = [apart.common.params] * apart.held(mixture.params)
    rng = stream(seed, "gate")
    hidden = len(mixture.params["gate.layer1.w"])
    model = gated_experts(apart.expert, apart.common, starts, rng, hidden=hidden)
    params = run_pooled(mixture, model, MixtureLoss(model, mixture.objective), pooled, seed)
    serve = Routed(model, None, "soft", mixture.objective)
    return Predictor(params, model, serve, mixture.input_spec, mixture.note)


def train_one(anchor: Predictor, pooled: Dataset, seed: int) -> Predictor:
    """Train one model on the rows of all owners, from where the anchor is."""
    model: Any = anchor.model

    def lose(params: Any, batch: Any, kept: Any, /) -> tuple[Tensor, Any]:
        out, after = model.forward(params, batch, kept)
        return anchor.objective.rows(out, batch["y"]), after

    start = replace(model, params=anchor.params)
    params = run_pooled(anchor, start, lose, pooled, seed)
    return replace(anchor, params=params)


def run_pooled(
    served: Predictor, model: Any, loss: Callable[..., Any], pooled: Dataset, seed: int
) -> Mapping[str, Tensor]:
    """Descend on pooled rows as an owner does on its own."""
    assert pooled.y is not None
    x = served.input_spec.rows(pooled.x)
    rows: Any = TableRows({"x": x, "y": pooled.y}, torch.arange(len(x)))
    first = model.params
    if isinstance(model, GatedExperts):
        rows = transform_rows(rows, model.common)
        model = model.expert
    solve = ALONE.make_solver({"": loss}, 1, model=model)
    return run_alone(solve, first, rows, seed)


def average_experts(mixture: Predictor, x: Tensor) -> Tensor:
    """Average what all experts say of rows, and no gate."""
    model = take_mixture(mixture)
    seen = model.common({"x": mixture.input_spec.rows(x)})
    return model.expert_logits(mixture.params, seen).log_softmax(-1).logsumexp(0)


def serve_owners(mixture: Predictor, rows: Rows) -> float:
    """Serve each owner by the two experts that its rows choose; mean accuracy on its classes."""
    found = []
    assert rows.test.y is not None
    for data in rows.owners:
        assert data.y is not None
        mine = mixture.personalize(data.x, 2)
        here = torch.isin(rows.test.y, data.y.unique())
        test = replace(rows.test, x=rows.test.x[here], y=rows.test.y[here])
        found.append(score(mine.predict_answer(test.x), test))
    return round(statistics.fmean(found), 2)


def drop_leaves_bits(mixture: Predictor) -> bool:
    """Say whether dropping the second owner leaves every other tensor as it was."""
    after = remove_expert(mixture, "owner 1").params
    kept = [0, 1, *range(3, OWNERS + 1)]
    return all(
        torch.equal(after[name], tensor[kept] if len(tensor) != len(after[name]) else tensor)
        for name, tensor in mixture.params.items()
    )


def write_table(book: Book) -> str:
    """Write the table: a line a setting, means and spread over seeds."""
    lines = ["| setting | " + " | ".join(COLUMNS.values()) + " |", "| --- " * 10 + "|"]
    for name in SETTINGS:
        found = [told for key, told in book.figures.items() if key.startswith(f"{name}, seed")]
        if found:
            cells = [write_cell([one[column] for one in found], column) for column in COLUMNS]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_cell(values: Sequence[float], column: str) -> str:
    """Write a mean and the sample standard deviation over seeds."""
    places = 3 if column == "add_s" else 1
    mean = f"{statistics.fmean(values):.{places}f}"
    return f"{mean} ± {statistics.stdev(values):.{places}f}" if len(values) > 1 else mean


def main(words: Sequence[str] | None = None) -> int:
    """Play what is lacking, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep figures; go on from them")
    parser.add_argument("--only", default="", help="settings whose name has this word")
    parser.add_argument("--page", action="store_true", help="write the table into the page")
    said = parser.parse_args(words)
    torch.set_num_threads(1)
    book = Book.open(said.json)
    for seed in SEEDS:
        for name, setting in SETTINGS.items():
            if said.only in name:
                book.measure(f"{name}, seed {seed}", partial(play, setting, seed))
    table = write_table(book)
    print(table)
    if said.page:
        PAGE.write_text(fill(PAGE.read_text(), {"experts": table}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
