"""Gate 2: the reduction on many machines, near the maximum and faster than the global fit."""

from __future__ import annotations

import time
import warnings

import numpy as np

from benchmarks.mixtures_parts.data import Simulated, like_p, simulated
from benchmarks.mixtures_parts.gate import Gate, Section, not_run
from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor

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


def large(rows: int, machines: int) -> dict[str, float]:
    """Fit one large design globally and on machines, each on one core."""
    x, y, _ = like_p(rows + 100_000, seed=1)
    train, test = slice(0, rows), slice(rows, None)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    whole = MixtureOfExpertsRegressor(4, random_state=0).fit(x[train], y[train])
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
    parts = np.array_split(np.arange(rows), machines)
    model = DistributedMixtureOfExpertsRegressor(4, random_state=0)
    model.fit([(x[part], y[part]) for part in parts])
    return {
        "rows": rows,
        "machines": machines,
        "global_s": seconds,
        "global_cpu_s": cpu_s,
        "global_steps": whole.n_iter_,
        "longest_fit_s": model.ledger_.longest_fit_s,
        "reduction_s": model.ledger_.reduction_s,
        "learning_s": model.ledger_.learning_s,
        "longest_fit_cpu_s": model.ledger_.longest_fit_cpu_s,
        "reduction_cpu_s": model.ledger_.reduction_cpu_s,
        "learning_cpu_s": model.ledger_.learning_cpu_s,
        "local_steps": model.n_iter_,
        "global_test": whole.log_likelihood(x[test], y[test]),
        "reduced_test": model.log_likelihood(x[test], y[test]),
    }


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
    asked = "learning time <= 1/10 of the global fit's, held-out log-likelihood within 0.1 %"
    if quick:
        return Section(
            [*gates, not_run("2 N = 10^6, d = 20, 16 machines", asked, "quick")], numbers
        )
    big = large(1_000_000, 16)
    numbers["large"] = big
    ratio = big["learning_cpu_s"] / big["global_cpu_s"]
    loss = 1 - big["global_test"] / big["reduced_test"]
    shown = (
        f"{ratio:.4f} ({big['learning_cpu_s']:.2f} s / {big['global_cpu_s']:.2f} s of one core), "
        f"{100 * loss:.4f} % below"
    )
    gates.append(
        Gate("2 N = 10^6, d = 20, 16 machines", asked, shown, ratio <= 0.1 and loss <= 0.001)
    )
    return Section(gates, numbers)
