"""Gate 4: one corrupted local fit among eight."""

from __future__ import annotations

import warnings

import numpy as np

from benchmarks.mixtures_parts.data import Simulated, simulated
from benchmarks.mixtures_parts.gate import Gate, Section
from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor
from moiety.ops.mixture.experts import Gaussian
from moiety.ops.mixture.model import Mixture

SUPPORT = 2000


def corruptions(good: Mixture, data: Simulated) -> dict[str, Mixture]:
    """Spoil the fit of the first of eight machines in several ways."""
    x, y = data.shards(8)[0]
    rng = np.random.default_rng(0)
    thirds = np.argsort(np.argsort(y)) * 4 // len(y)
    noise = rng.standard_normal(good.experts.coef.shape)
    size, experts = np.abs(good.experts.coef).mean(), good.experts
    stuck = MixtureOfExpertsRegressor(4, init=thirds, max_iter=5).fit(x, y)
    shuffled = MixtureOfExpertsRegressor(4, random_state=0).fit(x, rng.permutation(y))
    broken = Gaussian(np.full_like(experts.coef, np.nan), experts.variances)
    swapped = Mixture(good.gate, Gaussian(experts.coef[:, ::-1], experts.variances))
    return {
        "stopped in a bad optimum": stuck.mixture_,
        "responses shuffled": shuffled.mixture_,
        "coefficients with noise": Mixture(
            good.gate, Gaussian(experts.coef + size * noise, experts.variances)
        ),
        "experts under the wrong gate columns": swapped,
        "not a number": Mixture(good.gate, broken),
    }


def reduced(mixtures: list[Mixture], data: Simulated, *, screen: bool = True) -> tuple[float, bool]:
    """Merge, and give the training log-likelihood and whether the first fit was left out."""
    model = DistributedMixtureOfExpertsRegressor(4, random_state=0, screen=screen)
    rows = np.random.default_rng(1).choice(len(data.y), SUPPORT, replace=False)
    model.merge(mixtures, np.full(len(mixtures), len(data.y) / 8), support=data.x[rows])
    return model.log_likelihood(data.x, data.y), bool(not model.kept_[0])


def run(*, quick: bool) -> Section:
    """Run the section."""
    del quick
    data = simulated("P")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [
            MixtureOfExpertsRegressor(4, random_state=at).fit(x, y).mixture_
            for at, (x, y) in enumerate(data.shards(8))
        ]
        clean, _ = reduced(fits, data)
        numbers: dict[str, object] = {"clean": clean}
        worst = 0.0
        for name, bad in corruptions(fits[0], data).items():
            value, dropped = reduced([bad, *fits[1:]], data)
            numbers[name] = {"train": value, "cost": clean - value, "dropped": dropped}
            worst = max(worst, clean - value)
    gate = Gate(
        "4 set P, one bad fit of eight",
        "costs < 100",
        f"at most {worst:.2f} over {len(numbers) - 1} ways of being bad",
        worst < 100,
    )
    return Section([gate], numbers)
