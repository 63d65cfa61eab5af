"""The data sets that go by a name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from moiety.core.errors import UnknownNameError
from moiety.data.homes import DATA_VARIABLE

if TYPE_CHECKING:
    from moiety.data.dataset import Dataset


@dataclass(frozen=True)
class DatasetEntry:
    """A data set that can be loaded by name: how, what it is, and what it needs."""

    load: Callable[[], Dataset]
    about: str
    needs: str


def load_by(module: str, function: str) -> Callable[[], Dataset]:
    """Load by a function of a module of this folder, which is imported when rows are asked for."""
    return lambda: getattr(importlib.import_module(f"moiety.data.{module}"), function)()


SHIPPED = "the extra 'data'"
IN_DATA_FOLDER = f"files in the folder named by {DATA_VARIABLE}"

DATASETS: Mapping[str, DatasetEntry] = {
    "digits": DatasetEntry(
        load_by("shipped", "digits"), "1,797 handwritten digits, 8x8, 10 classes", SHIPPED
    ),
    "wine": DatasetEntry(
        load_by("shipped", "wine"), "178 wines, 13 measurements, 3 classes", SHIPPED
    ),
    "breast-cancer": DatasetEntry(
        load_by("shipped", "breast_cancer"), "569 tumours, 30 measurements, 2 classes", SHIPPED
    ),
    "diabetes": DatasetEntry(
        load_by("shipped", "diabetes"), "442 patients, 10 measurements, 1 number", SHIPPED
    ),
    "linnerud": DatasetEntry(
        load_by("shipped", "linnerud"), "20 men, 3 exercises, 3 numbers", SHIPPED
    ),
    "modes": DatasetEntry(
        load_by("shipped", "fixed_modes"),
        "synthetic, 10 classes of 6 noisy templates, 12x12",
        "nothing",
    ),
    "modes-noisy": DatasetEntry(
        load_by("shipped", "noisy_modes"),
        "the same with 4 templates and half as much noise again",
        "nothing",
    ),
    "fashion-mnist": DatasetEntry(
        load_by("cache", "fashion_mnist"),
        "60,000 + 10,000 pieces of clothing, 28x28, 10 classes",
        IN_DATA_FOLDER,
    ),
    "cifar10": DatasetEntry(
        load_by("cache", "cifar10"),
        "30,000 + 10,000 photographs, 3x32x32, 10 classes",
        f"{IN_DATA_FOLDER}; {SHIPPED}",
    ),
    "cifar10-small": DatasetEntry(
        load_by("shipped", "cifar10_small"),
        "the same, pixels averaged 2x2 to 3x16x16",
        f"{IN_DATA_FOLDER}; {SHIPPED}",
    ),
    "cora": DatasetEntry(
        load_by("cache", "cora"), "2,708 papers in a graph of citations, 7 classes", IN_DATA_FOLDER
    ),
    "coauthor-cs": DatasetEntry(
        load_by("cache", "coauthor_cs"),
        "18,333 authors in a graph of joint papers, 15 classes",
        IN_DATA_FOLDER,
    ),
    "shakespeare": DatasetEntry(
        load_by("texts", "shakespeare"),
        "tiny Shakespeare, 17,428 windows of 64 characters, 65 letters",
        IN_DATA_FOLDER,
    ),
    "femnist": DatasetEntry(
        load_by("cache", "femnist"),
        "18,796 characters by 184 writers, 28x28, 62 classes",
        IN_DATA_FOLDER,
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
