"""Gate 2: the reduction on many machines, near the maximum."""

from __future__ import annotations

import warnings

from benchmarks.mixtures_parts.data import Simulated, simulated
from benchmarks.mixtures_parts.gate import Gate, Section
from moiety.estimators import DistributedMixtureOfExpertsRegressor

MAXIMA = {"S": -11026.9702, "P": -87994.4536}
CHOICES: dict[str, dict[str, object]] = {
    "information": {},
    "information, one refining round": {"refine_rounds": 1},
    "average gate": {"gate": "average"},
    "projection gate": {"gate": "projection"},
    "posterior gate": {"gate": "posterior"},
    "published recipe": {"gate": "posterior", "cost": "kl_reference"},
    "reverse KL": {"cost": "reverse_kl"},
    "W2": {"cost": "w2"},
    "aligned average": {"reduction": "average"},
    "middle": {"reduction": "middle"},
}


def shown(model: DistributedMixtureOfExpertsRegressor, data: Simulated) -> dict[str, object]:
    """Measure on training and test rows."""
    return {
        "train": model.log_likelihood(data.x, data.y),
        "test": model.log_likelihood(data.test_x, data.test_y),
        "dropped": int((~model.kept_).sum()),
    }


def fitted(data: Simulated, experts: int, machines: int, choices: list[str]) -> dict[str, object]:
    """Fit on shards, once for each thing that machines are asked, and reduce in every way."""
    found: dict[str, object] = {}
    asked: dict[str, DistributedMixtureOfExpertsRegressor] = {}
    for choice in choices:
        options = CHOICES[choice]
        rounds, gate = options.get("refine_rounds", 0), options.get("gate") == "posterior"
        key = f"{rounds} {gate}"
        if key not in asked:
            model = DistributedMixtureOfExpertsRegressor(experts, random_state=0, **options)
            asked[key] = model.fit(data.shards(machines))
            found[f"{choice}: ledger"] = {
                **vars(model.ledger_),
                "longest_fit_s": model.ledger_.longest_fit_s,
                "learning_s": model.ledger_.learning_s,
            }
        model = asked[key] if rounds else asked[key].reduce_again(**options)
        found[choice] = shown(model, data)
    density = asked["0 False"].unreduced_log_density
    found["unreduced average"] = {
        "train": float(density(data.x, data.y).sum()),
        "test": float(density(data.test_x, data.test_y).sum()),
    }
    return found


def table(name: str, experts: int, machines: list[int], choices: list[str]) -> dict[str, object]:
    """Fit every choice on every number of machines."""
    data = simulated(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {str(count): fitted(data, experts, count, choices) for count in machines}


def run(*, quick: bool) -> Section:
    """Run the section."""
    counts = [16] if quick else [4, 8, 16, 64]
    choices = list(CHOICES)[:2] if quick else list(CHOICES)
    numbers: dict[str, object] = {
        name: table(name, experts, counts, choices) for name, experts in (("P", 4), ("S", 3))
    }
    gates = []
    for name, maximum in MAXIMA.items():
        found = numbers[name]["16"]  # type: ignore[index]
        for choice, bar in (("information", 60.0), ("information, one refining round", 3.0)):
            below = maximum - found[choice]["train"]
            gates.append(
                Gate(
                    f"2 set {name}, 16 machines, {choice}",
                    f"within {bar:g} of the maximum",
                    f"{below:.2f} below ({found[choice]['train']:.2f})",
                    below <= bar,
                )
            )
    return Section(gates, numbers)
