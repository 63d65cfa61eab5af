"""What is run for DDOME: the trials behind its gates, those reported beside, and the map."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gates import Book
from benchmarks.trial import Figures, Trial, played

LATE = ("200", "250", "300")
"""The score on ``ddome-modes`` and ``ddome-fashion`` is the mean after these rounds."""

WIDTHS, CLASSES = (2, 3, 4, 6, 8, 16, 32, 64), (2, 4)


def ddome(name: str, **choices: Any) -> Trial:
    """Vary DDOME's options on ``ddome-modes``."""
    return Trial(name, "ddome", changes={"ddome": choices})


GATED: Mapping[str, Trial] = {
    "ddome": Trial("DDOME", "ddome"),
    "fedavg": Trial("FedAvg", "fedavg"),
    "common": Trial("common expert alone", "common"),
    "k1": ddome("DDOME, K = 1", k=1),
    "k3": ddome("DDOME, K = 3", k=3),
    "random": ddome("DDOME, random routing in training", random=True),
    "untaught": ddome("DDOME, anchors do not teach the gate", teach=False),
    "sumloss": ddome("DDOME, sumloss", loss="sumloss"),
    "sumloss untaught": ddome(
        "DDOME, sumloss, anchors do not teach the gate", loss="sumloss", teach=False
    ),
    "no anchors": Trial("DDOME, no anchors", "ddome", changes={"population": {"anchors": 0}}),
}
"""Trials that a gate reads."""

QUICKSTART: Mapping[str, Trial] = {
    "quickstart ddome": Trial("DDOME", "ddome", "quickstart"),
    "quickstart fedavg": Trial("FedAvg", "fedavg", "quickstart"),
    "quickstart fedprox": Trial("FedProx", "fedprox", "quickstart"),
    "quickstart common": Trial("common expert alone", "common", "quickstart"),
}

DIRICHLET = {"population": {"scheme": "dirichlet"}}

SHOWN: Mapping[str, Trial] = {
    "fedprox": Trial("FedProx", "fedprox"),
    "soft": ddome("DDOME, soft serving", serve="soft"),
    "from common": ddome("DDOME, experts start as the common expert", from_common=True),
    "k5": ddome("DDOME, K = 5", k=5),
    "dirichlet ddome": Trial("Dirichlet 0.1: DDOME", "ddome", changes=DIRICHLET),
    "dirichlet fedavg": Trial("Dirichlet 0.1: FedAvg", "fedavg", changes=DIRICHLET),
    "dirichlet common": Trial("Dirichlet 0.1: common expert", "common", changes=DIRICHLET),
}
"""Trials on ``ddome-modes`` that are reported and gate nothing."""

METHODS = {
    "ddome": "DDOME",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "common": "common expert alone",
}

ELSEWHERE: Mapping[str, Trial] = {
    f"{recipe} {method}": Trial(name, method, recipe)
    for recipe in ("ddome-modes-wide", "ddome-fashion")
    for method, name in METHODS.items()
}
"""Other recipes, reported."""


WIDE = {"mlp": {"hidden": [16]}, "population": {"classes": 4}}

MORE: Mapping[str, Trial] = {
    "map 16 4, k3": Trial("DDOME, K = 3", "ddome", "quickstart", {**WIDE, "ddome": {"k": 3}}),
    "map 16 4, k5": Trial("DDOME, K = 5", "ddome", "quickstart", {**WIDE, "ddome": {"k": 5}}),
    "map 16 4, soft": Trial(
        "DDOME, soft serving", "ddome", "quickstart", {**WIDE, "ddome": {"serve": "soft"}}
    ),
}
"""Whether more experts a worker mend a loss on the map: 16 hidden units, four classes a worker."""


def on_map(width: int, classes: int, method: str) -> str:
    """Name a cell of the map; one of them is the quickstart."""
    here = (width, classes) == (3, 2)
    return f"quickstart {method}" if here else f"map {width} {classes} {method}"


def varied(width: int, classes: int, method: str) -> Trial:
    """Change the width of the networks and the classes per worker of the quickstart."""
    changes: dict[str, Any] = {"mlp": {"hidden": [width]}, "population": {"classes": classes}}
    name = f"{METHODS[method]}, {width} hidden units, {classes} classes per worker"
    return Trial(name, method, "quickstart", changes)


MAP: Mapping[str, Trial] = {
    on_map(width, classes, method): varied(width, classes, method)
    for classes in CLASSES
    for width in WIDTHS
    for method in ("ddome", "fedavg")
}

ALL: Mapping[str, Trial] = {**GATED, **MAP, **QUICKSTART, **SHOWN, **ELSEWHERE, **MORE}


def seeds(book: Book, name: str) -> list[Figures]:
    """Measure every seed of a trial that was not measured before."""
    trial = ALL[name]
    return [
        book.measure(f"{name}, seed {seed}", lambda seed=seed: played(trial, seed))
        for seed in trial.seeds
    ]


def known(book: Book, name: str) -> list[Figures]:
    """Look up a trial; empty unless every seed was measured."""
    keys = [f"{name}, seed {seed}" for seed in ALL[name].seeds]
    found = [book.figures[key] for key in keys if key in book.figures]
    return found if len(found) == len(keys) else []


def score(found: Figures, rounds: Sequence[str] = LATE) -> float:
    """Give the accuracy on unseen workers, in percent: the mean after some rounds, or the last.

    >>> score({"unseen": {"200": 50.0, "250": 51.0, "300": 55.0}})
    52.0
    >>> score({"unseen": {"0": 40.0}})
    40.0
    """
    late = [found["unseen"][at] for at in rounds if at in found["unseen"]]
    return statistics.mean(late) if len(late) == len(rounds) else final(found)


def final(found: Figures) -> float:
    """Give the accuracy on unseen workers at the last evaluation, in percent."""
    return list(found["unseen"].values())[-1]


def scores(book: Book, name: str) -> list[float]:
    """Give the score of every seed of a trial."""
    return [score(found) for found in seeds(book, name)]


def finals(book: Book, name: str) -> list[float]:
    """Give the last accuracy of every seed of a trial."""
    return [final(found) for found in seeds(book, name)]
