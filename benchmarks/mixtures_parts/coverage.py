"""How often intervals hold what they should: of predictions and of coefficients."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.mixtures_parts.gate import Gate, Section, not_run
from benchmarks.mixtures_parts.pieces import recall
from moiety.estimators import MixtureOfExpertsRegressor

ROWS, REPLICATIONS, PIECES, TEST = 600, 200, 8, 1000
LARGE = 200_000  # rows whose fit stands for the nearest mixture where the law is another
LIKE, OTHER = "well specified", "misspecified"
ASKED = {
    "predictions": "90 % intervals hold 0.88 to 0.92",
    LIKE: "95 % intervals (observed) hold 0.92 to 0.97 of coefficients",
    OTHER: "95 % intervals (sandwich) hold 0.92 to 0.97 of coefficients",
}


def draw(rows: int, rng: np.random.Generator, *, uneven: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw two regressions; where uneven, their noise grows with a covariate and is skewed."""
    x = rng.normal(size=(rows, 2))
    first = rng.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0]))
    mean = np.where(first, 3 + x[:, 1], -3 - 0.5 * x[:, 0])
    noise = rng.normal(size=rows)
    if uneven:
        noise = (0.4 + 0.8 * np.abs(x[:, 1])) * (rng.gamma(4.0, size=rows) / 2 - 2)
    return x, mean + noise


def fit(x: np.ndarray, y: np.ndarray) -> MixtureOfExpertsRegressor:
    """Fit two experts."""
    return MixtureOfExpertsRegressor(2, random_state=0, n_init=2).fit(x, y)


def lay_out(gate: np.ndarray, experts: np.ndarray) -> np.ndarray:
    return np.concatenate([gate.ravel(), experts.ravel()])


def truth(name: str) -> list[float]:
    """Give the coefficients: the true ones, or those of a fit to very many rows."""
    if name == OTHER:
        mixture = fit(*draw(LARGE, np.random.default_rng(10**6), uneven=True)).mixture_
        return lay_out(mixture.gate[:, :-1], mixture.experts.coef).tolist()
    gate = np.array([[0.0], [-2.0], [0.0]])
    return lay_out(gate, np.array([[-3.0, 3.0], [-0.5, 0.0], [0.0, 1.0]])).tolist()


def piece(at: int, target: list[float], name: str) -> dict[str, Any]:
    """Measure some replications."""
    size = REPLICATIONS // PIECES
    uneven = name == OTHER
    kind = "sandwich" if uneven else "observed"
    held, predicted = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(at * size, (at + 1) * size):
            rng = np.random.default_rng(seed)
            x, y = draw(ROWS, rng, uneven=uneven)
            model = fit(x, y)
            errors = model.standard_errors(x, y, kind=kind)
            found = lay_out(model.mixture_.gate[:, :-1], model.mixture_.experts.coef)
            wide = 1.959964 * lay_out(errors["gate"], errors["experts"])
            held.append((np.abs(found - np.array(target)) <= wide).tolist())
            test_x, test_y = draw(TEST, rng, uneven=uneven)
            low, high = model.predict_dist(test_x).interval(0.9)
            predicted.append(float(((low <= test_y) & (test_y <= high)).mean()))
    return {"held": held, "predicted": predicted}


def run(*, quick: bool) -> Section:
    """Run the section."""
    if quick:
        return Section([not_run("9 coverage", ASKED["predictions"], "quick")], {})
    numbers, gates = {}, []
    for name in (LIKE, OTHER):
        target = recall(f"coverage-{name}-truth", truth, name)
        parts = [recall(f"coverage-{name}-{at}", piece, at, target, name) for at in range(PIECES)]
        held = np.concatenate([np.array(part["held"]) for part in parts])
        predicted = float(np.concatenate([part["predicted"] for part in parts]).mean())
        each, mean = held.mean(0), float(held.mean())
        numbers[name] = {"coefficients": each.tolist(), "predictions": predicted,
                         "replications": len(held)}  # fmt: skip
        shown = f"{mean:.3f} on average, each between {each.min():.3f} and {each.max():.3f}"
        gates += [
            Gate(f"9 N = {ROWS}, {name}, coefficients", ASKED[name], shown, 0.92 <= mean <= 0.97),
            Gate(f"9 N = {ROWS}, {name}, predictions", ASKED["predictions"],
                 f"{predicted:.3f}", 0.88 <= predicted <= 0.92),
        ]  # fmt: skip
    return Section(gates, numbers)
