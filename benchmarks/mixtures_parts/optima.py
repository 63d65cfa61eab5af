"""Random problems: how often a run ends in the best optimum, beside flexmix in R."""

from __future__ import annotations

import shutil
import time
import warnings
from typing import Any

import numpy as np

from benchmarks.mixtures_parts.data import draw_y
from benchmarks.mixtures_parts.gate import Gate, Section, not_run
from benchmarks.mixtures_parts.pieces import recall
from benchmarks.mixtures_parts.rival import flexmix
from moiety.estimators import MixtureOfExpertsRegressor
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.model import Mixture

PROBLEMS, RUNS, ROWS, EXPERTS = 20, 5, 600, 3
NEAR = 0.05  # of log-likelihood, within which a run is at the best optimum
ASKED = ">= 97 of 100 default runs"
SIX = ">= 4 with six own starts each"
ONE = ">= 15 from the same labels"


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a mixture of three regressions on two covariates, and rows of it."""
    rng = np.random.default_rng(seed)
    gate, coef = rng.normal(size=(3, EXPERTS)), 2 * rng.normal(size=(3, EXPERTS))
    truth = Mixture(gate - gate[:, -1:], GaussianExperts(coef, rng.uniform(0.2, 1.5, EXPERTS)))
    x = rng.normal(size=(ROWS, 2))
    return x, draw_y(truth, x, rng)


def timed(x: np.ndarray, y: np.ndarray, **options: Any) -> dict[str, float]:
    """Fit, and take the time of the processor."""
    begun = time.process_time()
    model = MixtureOfExpertsRegressor(EXPERTS, **options).fit(x, y)
    seconds = time.process_time() - begun
    return {"log_likelihood": model.log_likelihood(x, y), "cpu_s": seconds}


def measured(seed: int) -> dict[str, Any]:
    """Fit one problem in all ways."""
    x, y = problem(seed)
    labels = np.random.default_rng(seed).integers(EXPERTS, size=ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, Any] = {
            "default": [timed(x, y, random_state=run) for run in range(RUNS)],
            "six starts": timed(x, y, random_state=0, n_init=6),
            "labels": [timed(x, y, init=labels) for _ in range(2)][-1],  # as R's is timed
            "thirty starts": timed(x, y, random_state=99, n_init=30),
        }
    if shutil.which("Rscript"):
        found["flexmix, labels"] = flexmix(x, y, labels=labels)
        found["flexmix, six starts"] = flexmix(x, y, experts=EXPERTS, seed=seed + 1)
    return found


def run(*, quick: bool) -> Section:
    """Run the section."""
    name = "7 random problems, runs at the best optimum"
    if quick:
        return Section([not_run(name, ASKED, "quick")], {})
    found = {str(seed): recall(f"optima-{seed}", measured, seed) for seed in range(PROBLEMS)}
    return Section(judge(name, found), found)


def judge(name: str, found: dict[str, Any]) -> list[Gate]:
    """Compare shares and times."""
    best, ours, theirs = {}, 0, 0
    for at, one in found.items():
        others = [value for key, value in one.items() if key != "default"]
        best[at] = max(fit["log_likelihood"] for fit in [*one["default"], *others])
        ours += sum(fit["log_likelihood"] > best[at] - NEAR for fit in one["default"])
        rival = one.get("flexmix, six starts", {"log_likelihood": -np.inf})
        theirs += rival["log_likelihood"] > best[at] - NEAR
    runs = RUNS * len(found)
    shown = f"{ours} of {runs}; flexmix with six starts {theirs} of {len(found)}"
    gates = [Gate(name, ASKED, shown, bool(ours >= 0.97 * runs))]
    if not all("flexmix, labels" in one for one in found.values()):
        return [*gates, not_run("7 processor time, flexmix over ours", ONE, "R is not installed")]
    for label, asked, own, other, bar in (
        ("one start", ONE, lambda one: one["labels"]["cpu_s"], "flexmix, labels", 15),
        ("six starts", SIX, lambda one: one["six starts"]["cpu_s"], "flexmix, six starts", 4),
    ):
        mine = float(np.median([own(one) for one in found.values()]))
        rival = float(np.median([one[other]["cpu_s"] for one in found.values()]))
        text = f"{rival / mine:.1f} ({rival:.2f} s / {mine:.3f} s, medians)"
        named = f"7 random problems, flexmix's CPU time over ours, {label}"
        gates.append(Gate(named, asked, text, bool(rival / mine >= bar)))
    return gates
