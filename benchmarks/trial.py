"""A run of a recipe as figures: played as ``moiety run`` plays it, read off its ledger."""

from __future__ import annotations

import contextlib
import io
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moiety import load_model
from moiety.core.ledger import Evaluation, Ledger, Round, read_ledger
from moiety.models.gated import GatedExperts
from moiety.recipes import RECIPES
from moiety.recipes.build import RunInputs
from moiety.recipes.fields import override_fields, to_plain
from moiety.recipes.prepare import prepare_seed_data
from moiety.recipes.record import Federation, write_read_fields
from moiety.run.group import start_run
from moiety.run.loop import LEDGER
from moiety.run.spec import list_differences, resolve_run, write_flag
from moiety.split.gated import ANCHOR

Figures = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A method on a recipe with some fields changed.

    Args:
        name: how tables call it.
        method: which, or ``common``.
        recipe: by name.
        changes: field -> value, nested.
        seeds: which seeds.
    """

    name: str
    method: str
    recipe: str = "ddome-modes"
    changes: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0, 1, 2)

    @property
    def record(self) -> Federation:
        """The record that is run."""
        return override_fields(RECIPES[self.recipe].record, self.changes)

    @property
    def command(self) -> str:
        """What a user types to get these numbers.

        >>> Trial("three", "ddome", changes={"ddome": {"k": 3}}, seeds=(0,)).command
        'moiety run ddome-modes --methods ddome --seeds 1 --ddome.k 3'
        """
        base = to_plain(RECIPES[self.recipe].record)
        mine = write_read_fields(replace(self.record, methods=(self.method,)))
        words = ["moiety", "run", self.recipe, "--methods", self.method]
        if len(self.seeds) != base["seeds"]:
            words += ["--seeds", str(len(self.seeds))]
        for path, value in list_differences(base, mine):
            words += [] if path == "methods" else write_flag(path, value)
        return shlex.join(words)


@contextlib.contextmanager
def ran(trial: Trial, seed: int) -> Iterator[tuple[Path, RunInputs]]:
    """Play one seed as the command line does, in a folder that is there for a while."""
    spec, built = resolve_run(trial.recipe, trial.record, trial.method, seed)
    with tempfile.TemporaryDirectory() as place:
        with contextlib.redirect_stderr(io.StringIO()):
            start_run(spec, built, Path(place))
        yield Path(place), built


def ledger_of(trial: Trial, seed: int) -> Ledger:
    """Play one seed, and read its ledger."""
    with ran(trial, seed) as (folder, _):
        return read_ledger(folder / LEDGER)


def played(trial: Trial, seed: int) -> Figures:
    """Play one seed of a trial, and take its figures."""
    with ran(trial, seed) as (folder, built):
        found = taken(read_ledger(folder / LEDGER))
        found["reached"] = built.common_score
        if trial.method == "ddome":
            found["gate"] = gate_health(folder / "final", trial.record, seed)
    return found


def taken(ledger: Ledger) -> Figures:
    """Take figures from a ledger: accuracies in percent, bytes, seconds."""
    return {
        "unseen": {str(e.round): percent(e, "unseen") for e in ledger.evaluations},
        "seen": {str(e.round): percent(e, "seen") for e in ledger.evaluations},
        "worst": worst(ledger.evaluations[-1]),
        "seconds": sum(entry.seconds for entry in ledger.rounds),
        "traffic": [list(kind) for kind in sorted({traffic(entry) for entry in ledger.rounds})],
    }


def traffic(entry: Round) -> tuple[int, int, int, int]:
    """Count what crossed the wire in a round: anchors, other workers, bytes down, bytes up."""
    anchors = sum(work.role == ANCHOR for work in entry.workers)
    return anchors, len(entry.workers) - anchors, entry.down_bytes, entry.up_bytes


def percent(entry: Evaluation, group: str) -> float:
    """Average the accuracy over the workers of a group, each counting the same."""
    values = entry.groups[group].metrics["accuracy"]
    return 100 * sum(values) / len(values)


def worst(entry: Evaluation) -> float:
    """Give the accuracy of the worst worker, seen or unseen."""
    return 100 * min(min(entry.groups[name].metrics["accuracy"]) for name in ("seen", "unseen"))


def gate_health(final: Path, record: Federation, seed: int) -> Figures:
    """Look where a trained gate sends the test rows, each once, among all experts.

    Returns:
        ``share`` of the rows that each expert wins, and ``block``: how often the winner is the
        owner of the label's block. Without anchors, blocks are those that anchors would have.
    """
    served = load_model(final)
    model = served.model
    assert isinstance(model, GatedExperts)
    base = prepare_seed_data(record, seed)
    assert base.data.y is not None
    rows = torch.cat(list(base.places.groups["seen"].values())).unique()
    with torch.no_grad():
        batch = model.common({"x": base.data.x[rows]})
        winner_N = model.log_gate(served.params, batch).argmax(-1)
    owner_C = owners(record, seed)
    experts = len(served.params["gate.layer2.b"])
    share_E = winner_N.bincount(minlength=experts) / len(winner_N)
    right = (winner_N == owner_C[base.data.y[rows]]).double().mean()
    return {"share": share_E.tolist(), "block": right.item()}


def owners(record: Federation, seed: int) -> Tensor:
    """Give the expert whose anchor holds each class, [C]."""
    count = record.population.anchors or 5
    with_anchors = override_fields(record, {"population": {"scheme": "labels", "anchors": count}})
    base = prepare_seed_data(with_anchors, seed)
    assert base.data.y is not None
    owner_C = torch.full((len(base.data.classes),), -1)
    for worker, expert in base.places.anchors.items():
        owner_C[base.data.y[base.places.train[worker]].unique()] = expert
    return owner_C
