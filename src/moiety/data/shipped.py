"""Data sets made here: those that ship with scikit-learn, synthetic ones, and smaller copies."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from moiety.core.extras import import_extra
from moiety.core.streams import stream
from moiety.data import cache
from moiety.data.dataset import Dataset
from moiety.data.modes import draw_modes
from moiety.tasks.numbers import Numbers

UCI = "UCI Machine Learning Repository, as shipped with scikit-learn"


def digits() -> Dataset:
    """Load the handwritten digits that ship with scikit-learn, [1797, 1, 8, 8] in 0..1."""
    raw = import_extra("sklearn.datasets", "the data set 'digits'").load_digits()
    return Dataset(
        name="digits",
        x=torch.from_numpy(raw.images).float()[:, None] / 16,
        y=torch.from_numpy(raw.target).long(),
        classes=tuple(str(digit) for digit in range(10)),
        source=f"Alpaydin and Kaynak 1998, {UCI}",
        licence="CC BY 4.0",
    )


def wine() -> Dataset:
    """Load the wine recognition table, [178, 13]."""
    raw = import_extra("sklearn.datasets", "the data set 'wine'").load_wine()
    return Dataset(
        name="wine",
        x=torch.from_numpy(raw.data).float(),
        y=torch.from_numpy(raw.target).long(),
        classes=tuple(str(name) for name in raw.target_names),
        source=f"Aeberhard and Forina 1992, {UCI}",
        licence="CC BY 4.0",
    )


def breast_cancer() -> Dataset:
    """Load the breast cancer (diagnostic) table, [569, 30]."""
    raw = import_extra("sklearn.datasets", "the data set 'breast-cancer'").load_breast_cancer()
    return Dataset(
        name="breast-cancer",
        x=torch.from_numpy(raw.data).float(),
        y=torch.from_numpy(raw.target).long(),
        classes=tuple(str(name) for name in raw.target_names),
        source=f"Wolberg, Mangasarian, Street and Street 1993, {UCI}",
        licence="CC BY 4.0",
    )


def diabetes() -> Dataset:
    """Load the diabetes table, [442, 10]; what is told is the disease's progression in a year."""
    raw = import_extra("sklearn.datasets", "the data set 'diabetes'").load_diabetes(scaled=False)
    return Dataset(
        name="diabetes",
        x=torch.from_numpy(raw.data).float(),
        y=torch.from_numpy(raw.target).float(),
        source="Efron, Hastie, Johnstone and Tibshirani 2004, as shipped with scikit-learn",
        licence="unstated; free to use with the paper's name",
        objective=Numbers(("progression",)),
    )


def linnerud() -> Dataset:
    """Load Linnerud's table, [20, 3]: exercises of men, and three numbers of their bodies."""
    raw = import_extra("sklearn.datasets", "the data set 'linnerud'").load_linnerud()
    return Dataset(
        name="linnerud",
        x=torch.from_numpy(raw.data).float(),
        y=torch.from_numpy(raw.target).float(),
        source="Tenenhaus 1998, as shipped with scikit-learn",
        licence="unstated; free to use with the book's name",
        objective=Numbers(tuple(str(name).lower() for name in raw.target_names)),
    )


def fixed_modes() -> Dataset:
    """Draw the synthetic problem from its fixed seed, [12000, 1, 12, 12]."""
    return draw_modes(stream(0, "modes"))


def noisy_modes() -> Dataset:
    """Draw the easier shapes in heavier noise: four templates a class, [12000, 1, 12, 12]."""
    return replace(draw_modes(stream(0, "modes"), num_modes=4, noise=1.5), name="modes-noisy")


def cifar10_small() -> Dataset:
    """Load CIFAR-10 with every 2x2 pixels averaged, [40000, 3, 16, 16]."""
    whole = cache.cifar10()
    return replace(whole, name="cifar10-small", x=F.avg_pool2d(whole.x, 2))
