"""Complete runs as typed records, by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moiety.core.registry import Registry

if TYPE_CHECKING:
    from moiety.recipes.record import Federation


REFERENCE = "common"
"""Not a method: the common expert alone, which never trains."""


@dataclass(frozen=True)
class RecipeEntry:
    """A record and what it shows."""

    record: Federation
    about: str


@dataclass(frozen=True)
class RecipeLine:
    """What is written down of a recipe: the function of a module of this folder, and a sentence."""

    module: str
    function: str
    about: str


def find_recipe(_name: str, line: RecipeLine) -> RecipeEntry:
    """Import the module of a recipe, and make its record."""
    module = importlib.import_module(f"moiety.recipes.{line.module}")
    return RecipeEntry(getattr(module, line.function)(), line.about)


RECIPES: Registry[RecipeLine, RecipeEntry] = Registry(
    {
        "quickstart": RecipeLine(
            "quickstart", "quickstart", "digits; DDOME beside FedAvg and FedProx"
        ),
        "yours": RecipeLine(
            "quickstart", "yours", "FedAvg and DDOME on data of your own: --data FILE"
        ),
        "ddome-modes": RecipeLine(
            "ddome", "ddome_modes", "where small experts win (synthetic, 100 workers)"
        ),
        "ddome-modes-wide": RecipeLine(
            "ddome", "ddome_modes_wide", "where they lose: one model fits all labels"
        ),
        "ddome-fashion": RecipeLine(
            "ddome", "ddome_fashion", "Fashion-MNIST, 100 workers, experts of 16 units"
        ),
        "gist-cora": RecipeLine(
            "gist", "gist_cora", "Cora; features of a GCN assigned to 4 workers"
        ),
        "gist-cs": RecipeLine(
            "gist", "gist_coauthor_cs", "Coauthor CS; GraphSAGE on clusters of authors"
        ),
        "ist-digits": RecipeLine(
            "ist", "ist_digits", "digits; hidden layers assigned, local SGD beside"
        ),
        "ist-fashion": RecipeLine(
            "ist", "ist_fashion", "Fashion-MNIST; wide hidden layers assigned to 4 workers"
        ),
        "dmoe-breast": RecipeLine(
            "mixtures", "dmoe_breast_cancer", "breast cancer; mixtures in one exchange"
        ),
        "ist-shakespeare": RecipeLine(
            "texts", "ist_shakespeare", "a character transformer assigned by heads and hidden units"
        ),
        "mops": RecipeLine(
            "mops", "mops_records", "prompts of a frozen language model; records of several skills"
        ),
        "asyncdrop-fashion": RecipeLine(
            "asynchronous",
            "asyncdrop_fashion",
            "Fashion-MNIST, 20 workers of unequal speed, nobody is waited for",
        ),
        "fedbuff-fashion": RecipeLine(
            "asynchronous", "fedbuff_fashion", "the same workers, commits of four replies"
        ),
        "resist-cifar": RecipeLine(
            "images", "resist_cifar", "CIFAR-10 at 16x16; residual blocks apart"
        ),
        "loft-cifar": RecipeLine(
            "images", "loft_cifar", "the same; filters assigned, then pruned and tuned"
        ),
    },
    find_recipe,
)
