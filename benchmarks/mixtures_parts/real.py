"""Section 5: real data, against scikit-learn's regressors. It only reports.

A model that is done is found again in the folder that ``MOIETY_PARTS`` names.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

from benchmarks.mixtures_parts.data import folder
from benchmarks.mixtures_parts.gate import Gate, Section, not_run
from benchmarks.mixtures_parts.pieces import recall
from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
    select_experts,
)

SETS = ("protein", "kin40k", "flights", "california")
GP_ROWS = 1000
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def split(name: str) -> Split:
    """Read a set, and give training and test rows with standardised covariates and response."""
    if name in ("protein", "kin40k"):
        data = np.load(folder() / f"reg_{name}.npz")
        x, y, test = data["x"].astype(float), data["y"].astype(float), data["fold"] == 0
    elif name == "flights":
        data = np.load(folder() / "reg_flights200k.npz")
        x = np.column_stack([data["distance"], data["time"]]).astype(float)
        y, test = data["delay"].astype(float), None
    else:
        x, y = california()
        test = None
    if test is None:
        test = np.random.default_rng(0).random(len(y)) < 0.1
    order = np.random.default_rng(1).permutation(np.flatnonzero(~test))
    centre, spread = x[order].mean(0), x[order].std(0)
    x, y = (x - centre) / spread, (y - y[order].mean()) / y[order].std()
    return x[order], y[order], x[test], y[test]


def california() -> tuple[np.ndarray, np.ndarray]:
    """Read California housing: missing bedrooms by the median, one indicator per place but one."""
    import pandas as pd

    frame = pd.read_csv(folder() / "reg_california_housing.csv.gz")
    frame["total_bedrooms"] = frame["total_bedrooms"].fillna(frame["total_bedrooms"].median())
    y = frame.pop("median_house_value").to_numpy(float)
    places = pd.get_dummies(frame.pop("ocean_proximity")).drop(columns=["ISLAND"], errors="ignore")
    counts = frame.columns[frame.min() > 0]
    frame[counts] = np.log(frame[counts])
    return np.column_stack([frame, places.iloc[:, 1:]]).astype(float), y


def normal(y: np.ndarray, mean: np.ndarray, spread: float | np.ndarray) -> np.ndarray:
    """Give log densities under normal predictions."""
    return -0.5 * ((y - mean) / spread) ** 2 - np.log(spread * np.sqrt(2 * np.pi))


def find_atoms(y: np.ndarray) -> np.ndarray:
    """Tell which responses are one that at least a hundredth of the rows share."""
    values, counts = np.unique(y, return_counts=True)
    return np.isin(y, values[counts >= 0.01 * len(y)])


def score(y: np.ndarray, mean: np.ndarray, density: np.ndarray, seconds: float) -> dict[str, float]:
    """Collect what is reported; ``density`` is the log density of every row.

    A density means nothing on rows that share one response, so that the mean over the others stands
    beside the mean over all.
    """
    rmse = float(np.sqrt(np.mean((y - mean) ** 2)))
    return {
        "log_density": float(density.mean()),
        "without_atoms": float(density[~find_atoms(y)].mean()),
        "rmse": rmse,
        "seconds": seconds,
    }


def plain(model: object, rows: Split) -> dict[str, float]:
    """Fit a regressor; its density is normal with the spread of residuals on rows kept apart."""
    x, y, test_x, test_y = rows
    begun = time.perf_counter()
    fit_x, apart_x, fit_y, apart_y = train_test_split(x, y, test_size=0.1, random_state=0)
    model.fit(fit_x, fit_y)  # type: ignore[attr-defined]
    spread = float(np.sqrt(np.mean((apart_y - model.predict(apart_x)) ** 2)))  # type: ignore[attr-defined]
    mean = model.predict(test_x)  # type: ignore[attr-defined]
    return score(test_y, mean, normal(test_y, mean, spread), time.perf_counter() - begun)


def gaussian_process(rows: Split) -> dict[str, float]:
    """Fit a Gaussian process to the first rows, as many as it can take."""
    x, y, test_x, test_y = rows
    begun = time.perf_counter()
    lengths: Any = np.ones(x.shape[1])
    kernel = ConstantKernel(1.0) * RBF(lengths) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel).fit(x[:GP_ROWS], y[:GP_ROWS])
    found: Any = model.predict(test_x, return_std=True)
    mean, spread = found
    return score(test_y, mean, normal(test_y, mean, spread), time.perf_counter() - begun)


def mixture(model: Any, rows: Split, shards: int) -> dict[str, float]:
    """Fit a mixture, globally or on shards."""
    x, y, test_x, test_y = rows
    begun = time.perf_counter()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if shards:
            parts = np.array_split(np.arange(len(y)), shards)
            model.fit([(x[part], y[part]) for part in parts])
        else:
            model.fit(x, y)
    seconds = time.perf_counter() - begun
    found = model.predict_dist(test_x)
    result = score(test_y, found.mean(), found.logpdf(test_y), seconds)
    if shards:
        result |= {"rounds": model.n_refine_rounds_, "gap_told": len(told)}
    return result


def measured(name: str) -> dict[str, object]:
    """Measure one set, model by model."""
    rows = split(name)
    x, y = rows[:2]
    chosen = recall(f"real-{name}-experts", choose, x, y)
    found: dict[str, object] = {"rows": len(y), "covariates": x.shape[1], "experts": chosen}
    options = {"random_state": 0, "n_init": 4, "max_iter": 100, "tol": 1e-5}

    def add(label: str, measure: Callable[[], dict[str, float]]) -> None:
        found[label] = recall(f"real-{name}-{label}", measure)

    add("global", lambda: mixture(MixtureOfExpertsRegressor(chosen, **options), rows, 0))
    for machines in (4, 16):
        for label, rounds in (("one exchange", 0), ("default", "auto")):
            model = DistributedMixtureOfExpertsRegressor(chosen, refine_rounds=rounds, **options)
            add(f"{machines} machines, {label}", partial(mixture, model, rows, machines))
    add("linear", lambda: plain(LinearRegression(), rows))
    add("gradient boosting", lambda: plain(HistGradientBoostingRegressor(random_state=0), rows))
    add(f"Gaussian process, {GP_ROWS} rows", lambda: gaussian_process(rows))
    return found


def choose(x: np.ndarray, y: np.ndarray) -> int:
    """Choose the number of experts by BIC on some rows."""
    few = slice(0, 12_000)
    model = MixtureOfExpertsRegressor(random_state=0, n_init=4, max_iter=100, tol=1e-5)
    return select_experts(model, (2, 4, 8), x[few], y[few]).n_experts


def run(*, quick: bool) -> Section:
    """Run the section."""
    asked = "held-out log density and RMSE beside three baselines on four sets"
    if quick:
        return Section([not_run("5 real data", asked, "quick")], {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = {name: measured(name) for name in SETS}
    gate = Gate("5 real data", asked, f"{len(numbers)} sets, see the table", passed=None)
    return Section([gate], dict(numbers))
