"""Gate 3: squared errors fall as one over the number of rows."""

from __future__ import annotations

import warnings

import numpy as np

from benchmarks.mixtures_parts.data import draw_y, simulated
from benchmarks.mixtures_parts.gate import Gate, Section
from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.model import Mixture

PARTS = ("gate", "experts", "variances")
CHOICES = {
    "reduction": {},
    "projection gate": {"gate": "projection"},
    "published recipe": {"gate": "posterior", "cost": "kl_reference"},
    "aligned average": {"reduction": "average"},
    "middle": {"reduction": "middle"},
}


def errors(found: Mixture[GaussianExperts], truth: Mixture[GaussianExperts]) -> list[float]:
    """Sum squared errors over the entries of gate, experts and variances."""
    return [
        float(((found.gate - truth.gate) ** 2).sum()),
        float(((found.experts.coef - truth.experts.coef) ** 2).sum()),
        float(((found.experts.variances - truth.experts.variances) ** 2).sum()),
    ]


def replicate(rows: int, machines: int, seed: int) -> dict[str, list[float]]:
    """Draw one data set, fit it every way from the truth, and measure the errors."""
    truth = simulated("S").truth
    rng = np.random.default_rng([seed, rows, machines])
    x = rng.standard_normal((rows, 2))
    y = draw_y(truth, x, rng)
    parts = np.array_split(np.arange(rows), machines)
    shards = [(x[part], y[part]) for part in parts]
    found = {"global": MixtureOfExpertsRegressor(3, init=truth).fit(x, y).mixture_}
    for name, choice in CHOICES.items():
        model = DistributedMixtureOfExpertsRegressor(3, init=truth, random_state=seed, **choice)
        found[name] = model.fit(shards).mixture_
    return {name: errors(mixture, truth) for name, mixture in found.items()}


def averaged(rows: int, machines: int, times: int) -> dict[str, dict[str, float]]:
    """Average the errors over replications."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = [replicate(rows, machines, seed) for seed in range(times)]
    return {
        name: dict(zip(PARTS, np.mean([one[name] for one in drawn], 0).tolist(), strict=True))
        for name in drawn[0]
    }


def slopes(by_rows: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Fit log error against log rows."""
    sizes = np.log([float(rows) for rows in by_rows])
    names = next(iter(by_rows.values()))
    return {
        name: {
            part: float(np.polyfit(sizes, np.log([e[name][part] for e in by_rows.values()]), 1)[0])
            for part in PARTS
        }
        for name in names
    }


def run(*, quick: bool) -> Section:
    """Run the section."""
    sizes = [2000, 8000, 32000] if quick else [2000, 4000, 8000, 16000, 32000, 64000]
    times = 20
    by_rows = {str(rows): averaged(rows, 4, times) for rows in sizes}
    found = slopes(by_rows)
    numbers: dict[str, object] = {"by_rows": by_rows, "slopes": found, "replications": times}
    if not quick:
        numbers["by_machines"] = {
            str(count): averaged(32000, count, times) for count in (2, 8, 32, 64)
        }
    shown = ", ".join(f"{part} {found['reduction'][part]:.3f}" for part in PARTS)
    asked = f"-1 +- 0.15 for gate, experts, variances ({times} replications)"
    near = all(abs(found["reduction"][part] + 1) <= 0.15 for part in PARTS)
    return Section([Gate("3 set S, slope of log error on log rows", asked, shown, near)], numbers)
