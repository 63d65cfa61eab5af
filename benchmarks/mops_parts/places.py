"""Where methods are compared on the real model: records, workers, and how much of it was pruned."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.mops_parts.cells import Cell
from benchmarks.mops_parts.central import train_rival
from benchmarks.mops_parts.federated import METHODS, train_workers
from benchmarks.mops_parts.records import LONG, Study, open_study, pad_records, read_dolly
from benchmarks.mops_parts.rivals import RIVALS
from moiety.prompts import prune_language

CENTRAL, WORKERS = "central", "over workers"


@dataclass(frozen=True)
class Place:
    """Where methods are compared.

    Args:
        train: trains a method by name at a rate, with a seed.
        rates: method -> its rates.
        chosen_at: the place whose best rates are taken; empty where all are tried.
        pruned: the share of the base's numbers that are 0, by SparseGPT on training records.
        dolly: whether records are those of Dolly.
    """

    train: Callable[[Study, str, float, int], dict[str, Any]]
    rates: Mapping[str, tuple[float, ...]]
    chosen_at: str = ""
    pruned: float = 0.0
    dolly: bool = False


def train_among(where: str) -> Callable[[Study, str, float, int], dict[str, Any]]:
    """Train over workers that have skills as is said of them."""
    return lambda study, name, lr, seed: train_workers(study, name, lr, seed, where)


AT_CENTRE = Place(train_rival, {name: rival.rates for name, rival in RIVALS.items()})
AT_WORKERS = Place(
    train_among("one skill each"), {name: method.rates for name, method in METHODS.items()}
)
PLACES: Mapping[str, Place] = {
    CENTRAL: AT_CENTRE,
    WORKERS: AT_WORKERS,
    "over workers that share skills": replace(
        AT_WORKERS, train=train_among("a skill by two"), chosen_at=WORKERS
    ),
    "over workers of two skills": replace(
        AT_WORKERS, train=train_among("two skills each"), chosen_at=WORKERS
    ),
    **{
        f"{name}, {share:.0%} pruned": replace(place, chosen_at=name, pruned=share)
        for share in (0.5, 0.75)
        for name, place in ((CENTRAL, AT_CENTRE), (WORKERS, AT_WORKERS))
    },
    **{
        f"Dolly, {name}": replace(place, chosen_at=name, dolly=True)
        for name, place in ((CENTRAL, AT_CENTRE), (WORKERS, AT_WORKERS))
    },
}


@functools.lru_cache(maxsize=1)
def open_whole() -> Study:
    """Open the model and its records once."""
    return open_study()


@functools.lru_cache(maxsize=1)
def open_at(pruned: float, *, dolly: bool) -> Study:
    """Open what a place needs: the one last asked for is kept."""
    study = open_whole()
    if dolly:
        skills, parts = read_dolly(study.tokenizer)
        study = replace(study, skills=skills, length=LONG, **parts)
    return replace(study, model=prune_base(study, pruned)) if pruned else study


def prune_base(study: Study, share: float) -> Any:
    """Prune a copy of the model by SparseGPT, as the paper's models are, on what it learns from."""
    batch = pad_records(study.train)
    del batch["labels"]
    return prune_language(copy.deepcopy(study.model), share, "sparsegpt", **batch)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train and measure one cell."""
    place = PLACES[cell.place]
    study = open_at(place.pruned, dolly=place.dolly)
    return place.train(study, cell.name, cell.lr, cell.seed)
