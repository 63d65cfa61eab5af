"""Gate 4: one corrupted local fit among eight, from hardly to grossly."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from benchmarks.mixtures_parts.data import Simulated, simulated
from benchmarks.mixtures_parts.gate import Gate, Section
from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.model import Mixture

MACHINES = 8
SUPPORT = 2000
GATE_NOISE = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
COEF_NOISE = (0.003, 0.01, 0.03, 0.1, 0.3)
VARIANCES = (0.5, 0.8, 1.2, 1.5, 2.0, 3.0)
GATE_SCALES = (0.0, 0.5, 0.8, 1.2, 2.0)
BAD = (0, 3, 6)  # the machines whose fit is spoilt in turn


def gross(good: Mixture, data: Simulated) -> dict[str, Mixture]:
    """Spoil the fit of the first machine beyond any use."""
    x, y = data.shards(MACHINES)[0]
    rng = np.random.default_rng(0)
    thirds = np.argsort(np.argsort(y)) * 4 // len(y)
    noise = rng.standard_normal(good.experts.coef.shape)
    experts = good.experts
    stuck = MixtureOfExpertsRegressor(4, init=thirds, max_iter=5).fit(x, y)
    shuffled = MixtureOfExpertsRegressor(4, random_state=0).fit(x, rng.permutation(y))
    broken = GaussianExperts(np.full_like(experts.coef, np.nan), experts.variances)
    swapped = Mixture(good.gate, GaussianExperts(experts.coef[:, ::-1], experts.variances))
    return {
        "stopped in a bad optimum": stuck.mixture_,
        "responses shuffled": shuffled.mixture_,
        "coefficients with noise": with_noise(good, 0.0, 1.0, noise),
        "experts under the wrong gate columns": swapped,
        "not a number": Mixture(good.gate, broken),
    }


def with_noise(good: Mixture, gate_sd: float, coef_sd: float, noise: np.ndarray) -> Mixture:
    """Add noise to the gate, and to coefficients relative to their mean size."""
    size, free = (
        np.abs(good.experts.coef).mean(),
        np.arange(good.num_experts) < good.num_experts - 1,
    )
    coef = good.experts.coef + coef_sd * size * noise
    return Mixture(
        good.gate + gate_sd * free * noise, GaussianExperts(coef, good.experts.variances)
    )


def moderate(good: Mixture, seed: int) -> Iterator[tuple[str, str, Mixture]]:
    """Spoil a fit a little and then more; the kind, how much, and the fit."""
    noise = np.random.default_rng(seed).standard_normal(good.gate.shape)
    experts = good.experts
    for sd in GATE_NOISE:
        yield "gate with noise of sd", f"{sd:g}", with_noise(good, sd, 0.0, noise)
    for sd in COEF_NOISE:
        yield "coefficients with relative noise of", f"{sd:g}", with_noise(good, 0.0, sd, noise)
    for times in VARIANCES:
        scaled = GaussianExperts(experts.coef, times * experts.variances)
        yield "variances times", f"{times:g}", Mixture(good.gate, scaled)
    for times in GATE_SCALES:
        yield "gate times", f"{times:g}", Mixture(times * good.gate, experts)


def reduced(mixtures: list[Mixture], data: Simulated, bad: int | None) -> dict[str, object]:
    """Merge, and give the training log-likelihood and who was left out."""
    model = DistributedMixtureOfExpertsRegressor(4, random_state=0)
    rows = np.random.default_rng(1).choice(len(data.y), SUPPORT, replace=False)
    model.merge(mixtures, np.full(len(mixtures), len(data.y) / MACHINES), support=data.x[rows])
    out = np.flatnonzero(~model.kept_).tolist()
    return {
        "train": model.log_likelihood(data.x, data.y),
        "dropped": bad in out,
        "good_dropped": len([at for at in out if at != bad]),
    }


def spoilt(fits: list[Mixture], at: int, mixture: Mixture) -> list[Mixture]:
    """Put one fit in the place of another."""
    return [*fits[:at], mixture, *fits[at + 1 :]]


def worst_of(found: list[dict[str, object]]) -> dict[str, object]:
    """Keep the run that costs most, and count in how many the bad fit was left out."""
    worst = max(found, key=lambda one: one["cost"])  # type: ignore[arg-type, return-value]
    return {**worst, "dropped": sum(bool(one["dropped"]) for one in found), "of": len(found)}


def measured(data: Simulated) -> dict[str, object]:
    """Reduce with every bad fit."""
    fits = [
        MixtureOfExpertsRegressor(4, random_state=at).fit(x, y).mixture_
        for at, (x, y) in enumerate(data.shards(MACHINES))
    ]
    clean = reduced(fits, data, None)

    def cost(at: int, mixture: Mixture) -> dict[str, object]:
        found = reduced(spoilt(fits, at, mixture), data, at)
        return {**found, "cost": clean["train"] - found["train"]}  # type: ignore[operator]

    numbers: dict[str, object] = {"clean": clean["train"], "clean_dropped": clean["good_dropped"]}
    numbers["gross"] = {
        name: worst_of([cost(0, bad)]) for name, bad in gross(fits[0], data).items()
    }
    runs: dict[str, list[dict[str, object]]] = {}
    for at in BAD:
        for kind, much, bad in moderate(fits[at], seed=at):
            runs.setdefault(f"{kind} {much}", []).append(cost(at, bad))
    numbers["moderate"] = {name: worst_of(found) for name, found in runs.items()}
    return numbers


def run(*, quick: bool) -> Section:
    """Run the section."""
    del quick
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = measured(simulated("P"))
    gates = []
    for kind in ("gross", "moderate"):
        found: dict[str, dict[str, float]] = numbers[kind]  # type: ignore[assignment]
        costs = [one["cost"] for one in found.values()]
        shown = f"at most {max(costs):.2f} over {len(costs)} ways of being bad"
        gates.append(
            Gate(f"4 set P, one bad fit of eight, {kind}", "costs < 100", shown, max(costs) < 100)
        )
    return Section(gates, numbers)
