"""Small problems for the tests of mixtures."""

import os
from pathlib import Path

import numpy as np

from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.model import Mixture, add_constant, gate_proba


def data_folder() -> Path:
    """Find the reference data; a test that calls this carries the mark ``needs_data``."""
    return Path(os.environ["MOIETY_DATA"]) / "dmoe"


def gaussian_mixture(seed: int, experts: int = 3, width: int = 2) -> Mixture[GaussianExperts]:
    rng = np.random.default_rng(seed)
    gate = rng.normal(size=(width + 1, experts))
    coef = 3 * rng.normal(size=(width + 1, experts))
    return Mixture(gate - gate[:, -1:], GaussianExperts(coef, rng.uniform(0.2, 2.0, experts)))


def categorical_mixture(
    seed: int, experts: int = 2, classes: int = 3
) -> Mixture[CategoricalExperts]:
    rng = np.random.default_rng(seed)
    gate, coef = rng.normal(size=(3, experts)), 2 * rng.normal(size=(3, experts, classes))
    return Mixture(gate - gate[:, -1:], CategoricalExperts(coef - coef[..., -1:]))


def draw(mixture: Mixture, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, mixture.gate.shape[0] - 1))
    ready, at = add_constant(x), np.arange(rows)
    label = (rng.random(rows)[:, None] > gate_proba(mixture, ready).cumsum(1)[:, :-1]).sum(1)
    lines = mixture.experts.lines(ready)[at, label]
    if isinstance(mixture.experts, CategoricalExperts):
        below = np.exp(lines).cumsum(1)[:, :-1]
        return x, (rng.random(rows)[:, None] > below).sum(1)
    return x, lines + np.sqrt(mixture.experts.variances[label]) * rng.normal(size=rows)


def shards(x: np.ndarray, y: np.ndarray, machines: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(x[part], y[part]) for part in np.array_split(np.arange(len(y)), machines)]
