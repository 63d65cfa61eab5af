"""The data sets that go by a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

import torch
import torch.nn.functional as F

from moiety.core.errors import UnknownNameError
from moiety.core.extras import import_extra
from moiety.core.streams import stream
from moiety.data import cache, texts
from moiety.data.dataset import Dataset
from moiety.data.modes import draw_modes
from moiety.tasks.numbers import Numbers


@dataclass(frozen=True)
class DatasetEntry:
    """A data set that can be loaded by name: how, what it is, and what it needs."""

    load: Callable[[], Dataset]
    about: str
    needs: str


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


SHIPPED = "the extra 'data'"
IN_DATA_FOLDER = f"files in the folder named by {cache.VARIABLE}"

DATASETS: Mapping[str, DatasetEntry] = {
    "digits": DatasetEntry(digits, "1,797 handwritten digits, 8x8, 10 classes", SHIPPED),
    "wine": DatasetEntry(wine, "178 wines, 13 measurements, 3 classes", SHIPPED),
    "breast-cancer": DatasetEntry(
        breast_cancer, "569 tumours, 30 measurements, 2 classes", SHIPPED
    ),
    "diabetes": DatasetEntry(diabetes, "442 patients, 10 measurements, 1 number", SHIPPED),
    "linnerud": DatasetEntry(linnerud, "20 men, 3 exercises, 3 numbers", SHIPPED),
    "modes": DatasetEntry(
        fixed_modes, "synthetic, 10 classes of 6 noisy templates, 12x12", "nothing"
    ),
    "modes-noisy": DatasetEntry(
        noisy_modes, "the same with 4 templates and half as much noise again", "nothing"
    ),
    "fashion-mnist": DatasetEntry(
        cache.fashion_mnist, "60,000 + 10,000 pieces of clothing, 28x28, 10 classes", IN_DATA_FOLDER
    ),
    "cifar10": DatasetEntry(
        cache.cifar10,
        "30,000 + 10,000 photographs, 3x32x32, 10 classes",
        f"{IN_DATA_FOLDER}; {SHIPPED}",
    ),
    "cifar10-small": DatasetEntry(
        cifar10_small, "the same, pixels averaged 2x2 to 3x16x16", f"{IN_DATA_FOLDER}; {SHIPPED}"
    ),
    "cora": DatasetEntry(
        cache.cora, "2,708 papers in a graph of citations, 7 classes", IN_DATA_FOLDER
    ),
    "coauthor-cs": DatasetEntry(
        cache.coauthor_cs, "18,333 authors in a graph of joint papers, 15 classes", IN_DATA_FOLDER
    ),
    "shakespeare": DatasetEntry(
        texts.shakespeare,
        "tiny Shakespeare, 17,428 windows of 64 characters, 65 letters",
        IN_DATA_FOLDER,
    ),
    "femnist": DatasetEntry(
        cache.femnist, "18,796 characters by 184 writers, 28x28, 62 classes", IN_DATA_FOLDER
    ),
}


def load_dataset(name: str) -> Dataset:
    """Load a data set by name.

    Raises:
        ValueError: if the name is unknown; says the nearest names.
        ImportError: if a library is missing; says which.

    >>> load_dataset("digit")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    moiety.core.errors.UnknownNameError: unknown data set 'digit'; nearest: digits, ...
    """
    if name not in DATASETS:
        near = get_close_matches(name, DATASETS, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}. " if near else ""
        raise UnknownNameError(
            f"unknown data set {name!r}; {hint}Known: {', '.join(sorted(DATASETS))}"
        )
    return DATASETS[name].load()
