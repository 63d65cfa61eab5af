"""Shards that are alike, sorted or of one regime each: the default distributed fit on real sets."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes

from benchmarks.mixtures_parts.gate import Gate, Section, not_run
from benchmarks.mixtures_parts.pieces import recall
from benchmarks.mixtures_parts.real import SETS, Split, find_atoms, split
from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor

SHIPPED = ("diabetes", "tumours")
MACHINES, ROWS, EXPERTS = (4, 16), 6000, 3
WAYS = ("alike", "sorted by x", "sorted by y", "one regime each")
NEAR = 0.05
OPTIONS: dict[str, Any] = {"random_state": 0, "n_init": 3, "max_iter": 200, "tol": 1e-6}


def shipped(name: str) -> Split:
    """Give a set that scikit-learn ships: a third of the rows kept apart."""
    if name == "diabetes":
        bunch: Any = load_diabetes()
        x, y = bunch.data, bunch.target
    else:
        tumours: Any = load_breast_cancer()
        columns = tumours.data[:, :10]  # the means; the last is the response
        x, y = columns[:, [0, 1, 4, 5, 6, 7, 8]], columns[:, 9]
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[: len(y) // 3], order[len(y) // 3 :]
    x = (x - x[train].mean(0)) / x[train].std(0)
    y = (y - y[train].mean()) / y[train].std()
    return x[train], y[train], x[test], y[test]


def arrange(way: str, x: np.ndarray, y: np.ndarray, regime: np.ndarray) -> np.ndarray:
    """Give the order of rows that is then cut into shards."""
    if way == "alike":
        return np.random.default_rng(0).permutation(len(y))
    keys = {"sorted by x": x[:, 0], "sorted by y": y, "one regime each": regime}
    return np.argsort(keys[way], kind="stable")


def score(model: Any, rows: Split) -> float:
    """Give the mean log density of test rows that fewer than a hundredth share."""
    x, y = rows[2:]
    return float(model.log_density(x, y)[~find_atoms(y)].mean())


def measured(name: str) -> dict[str, Any]:
    """Measure one set."""
    rows = shipped(name) if name in SHIPPED else split(name)
    x, y = rows[0][:ROWS], rows[1][:ROWS]
    experts = 2 if name in SHIPPED else EXPERTS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = MixtureOfExpertsRegressor(experts, **OPTIONS).fit(x, y)
    found: dict[str, Any] = {"rows": len(y), "experts": experts, "global": score(whole, rows)}
    regime = whole.responsibilities(x, y).argmax(1)
    for machines in MACHINES:
        for way in WAYS:
            parts = np.array_split(arrange(way, x, y, regime), machines)
            model = DistributedMixtureOfExpertsRegressor(experts, **OPTIONS)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                model.fit([(x[part], y[part]) for part in parts])
            found[f"M = {machines}, {way}"] = {
                "log_density": score(model, rows),
                "rounds": model.n_refine_rounds_,
                "told": sorted({str(one.message)[:60] for one in told}),
            }
    return found


def run(*, quick: bool) -> Section:
    """Run the section."""
    asked = f"default distributed fit within {NEAR} of the global log density, or the fit warned"
    if quick:
        return Section([not_run("10 skew", asked, "quick")], {})
    found = {name: recall(f"skew-{name}", measured, name) for name in (*SETS, *SHIPPED)}
    cells = [
        (one["global"] - cell["log_density"], bool(cell["told"]))
        for one in found.values()
        for cell in one.values()
        if isinstance(cell, dict)
    ]
    near = sum(gap <= NEAR for gap, _ in cells)
    silent = sum(gap > NEAR and not told for gap, told in cells)
    shown = f"{near} of {len(cells)} within; {silent} of the others without a warning"
    return Section([Gate("10 unlike shards", asked, shown, bool(silent == 0))], found)
