"""Data sets of the benchmark, read from the data directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.model import Mixture, add_constant, gate_proba


def folder() -> Path:
    """Give the data directory."""
    place = os.environ.get("MOIETY_DATA")
    if not place:
        raise SystemExit("set MOIETY_DATA to the data directory")
    return Path(place)


@dataclass(frozen=True)
class Simulated:
    """A simulated set: training rows, test rows, and the truth."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    truth: Mixture

    def shards(self, machines: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Cut the training rows into contiguous shards."""
        parts = np.array_split(np.arange(len(self.y)), machines)
        return [(self.x[part], self.y[part]) for part in parts]


def simulated(name: str) -> Simulated:
    """Read set S or P."""
    data = np.load(folder() / "dmoe" / f"{name}.npz")
    cut, x, y = int(data["n_train"]), data["X"], data["y"]
    truth = Mixture(data["alpha"], GaussianExperts(data["beta"], data["sigma2"]))
    return Simulated(x[:cut], y[:cut], x[cut:], y[cut:], truth)


def p_labels() -> np.ndarray:
    """Read the labels from which fits of set P start."""
    return np.load(folder() / "dmoe" / "P_init_labels.npz")["global_labels"]


def draw_y(truth: Mixture, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw responses from a mixture."""
    rows = add_constant(x)
    below = gate_proba(truth, rows).cumsum(1)
    label = (rng.random(len(x))[:, None] > below[:, :-1]).sum(1)
    means = truth.experts.lines(rows)[np.arange(len(x)), label]
    return means + np.sqrt(truth.experts.variances[label]) * rng.standard_normal(len(x))


def like_p(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, Mixture]:
    """Draw more rows from the design of set P."""
    data = np.load(folder() / "dmoe" / "P.npz")
    truth = Mixture(data["alpha"], GaussianExperts(data["beta"], data["sigma2"]))
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(data["cov_x"])
    x = data["mu_x"] + rng.standard_normal((rows, len(root))) @ root.T
    return x, draw_y(truth, x, rng), truth
