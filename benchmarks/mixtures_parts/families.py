"""Each family beside flexmix in R, and its reduction beside the fit of all rows."""

from __future__ import annotations

import shutil
import time
import warnings
from typing import Any

import numpy as np

from benchmarks.mixtures_parts.gate import Gate, Section, not_run
from benchmarks.mixtures_parts.pieces import recall
from benchmarks.mixtures_parts.rival import flexmix
from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor
from moiety.mixtures.laws import find_law
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.model import Mixture, add_constant, gate_proba
from moiety.mixtures.poisson import POISSON

ROWS, TEST, TRIALS, MACHINES = 8000, 8000, 7, 16
FAMILIES = ("normal", "student", "poisson", "negative_binomial", "gamma", "binomial")
RIVALS = {"normal": "gaussian", "poisson": "poisson", "binomial": "binomial"}
SPREADS = {"negative_binomial": [[3.0, 8.0]], "gamma": [[4.0, 9.0]],
           "student": [[0.3, 0.1], [3.0, 9.0]]}  # fmt: skip
GATE = np.array([[0.2, 0.0], [2.5, 0.0], [0.0, 0.0], [0.0, 0.0]])
COEF = np.array([[1.6, -0.6], [0.2, 0.0], [-0.6, 0.5], [0.3, 0.0]])


def draw(family: str, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of two experts on three covariates."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    ready = add_constant(x)
    law = find_law(family, TRIALS if family == "binomial" else 1)
    if law is None:
        lines = np.where(label_rows(ready, rng) == 0, *(ready @ COEF).T)
        return x, lines + 0.5 * rng.standard_normal(rows)
    spreads = np.array(SPREADS.get(family, np.zeros((0, 2))))
    experts = LinkedExperts(COEF, spreads, law)
    label = label_rows(ready, rng)
    return x, law.draw(experts.lines(ready)[np.arange(rows), label], spreads[:, label], rng)


def label_rows(ready: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw which expert each row follows."""
    share = gate_proba(Mixture(GATE, LinkedExperts(COEF, np.zeros((0, 2)), POISSON)),
                       ready)  # fmt: skip
    return (rng.random(len(ready)) > share[:, 0]).astype(int)


def measured(family: str) -> dict[str, Any]:
    """Measure one family."""
    x, y = draw(family, ROWS, 0)
    test = draw(family, TEST, 1)
    options: dict[str, Any] = {"family": family, "trials": TRIALS if family == "binomial" else 1}
    few = slice(0, 2000)
    labels = (y[few] > np.median(y[few])).astype(int)
    found: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, seconds = MixtureOfExpertsRegressor(2, init=labels, **options), 0.0
        for _ in range(2):  # in the first, modules are loaded; R's is timed likewise
            begun = time.process_time()
            one.fit(x[few], y[few])
            seconds = time.process_time() - begun
        found["one start"] = {
            "log_likelihood": one.log_likelihood(x[few], y[few]), "cpu_s": seconds,
            "steps": one.n_iter_,
        }  # fmt: skip
        whole = MixtureOfExpertsRegressor(2, random_state=0, n_init=3, **options).fit(x, y)
        parts = np.array_split(np.arange(ROWS), MACHINES)
        apart = DistributedMixtureOfExpertsRegressor(
            2, random_state=0, n_init=3, refine_rounds=0, **options
        )
        begun = time.process_time()
        apart.fit([(x[part], y[part]) for part in parts])
        found["reduction"] = {
            "global": float(whole.log_density(*test).mean()),
            "reduced": float(apart.log_density(*test).mean()),
            "cpu_s": time.process_time() - begun,
            "kept": int(apart.kept_.sum()),
        }
    if family in RIVALS and shutil.which("Rscript"):
        found["flexmix"] = flexmix(
            x[few], y[few], family=RIVALS[family], labels=labels, trials=options["trials"]
        )
    return found


def run(*, quick: bool) -> Section:
    """Run the section."""
    asked = "reduction at M = 16 within 0.5 % of the global fit's log density"
    if quick:
        return Section([not_run("8 families", asked, "quick")], {})
    found = {name: recall(f"family-{name}", measured, name) for name in FAMILIES}
    gates = []
    for name, one in found.items():
        there = one["reduction"]
        loss = (there["global"] - there["reduced"]) / abs(there["global"])
        gates.append(
            Gate(f"8 {name}, reduction", asked, f"{100 * loss:.3f} % below", loss <= 0.005)
        )
        if "flexmix" in one:
            gates.append(race(name, one["one start"], one["flexmix"]))
    return Section(gates, found)


def race(name: str, own: dict[str, float], other: dict[str, float]) -> Gate:
    """Compare a fit with flexmix's from the same labels."""
    gap = own["log_likelihood"] - other["log_likelihood"]
    ratio = other["cpu_s"] / own["cpu_s"]
    shown = (
        f"{own['log_likelihood']:.4f}, flexmix {gap:+.4f} lower; its CPU time is {ratio:.1f} times "
        f"ours ({other['cpu_s']:.2f} s / {own['cpu_s']:.3f} s)"
    )
    asked = "flexmix's log-likelihood to 1e-3 or better, >= 15 times faster per start"
    return Gate(f"8 {name}, against flexmix", asked, shown, gap > -1e-3 and ratio >= 15)
