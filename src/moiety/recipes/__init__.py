"""Complete runs as typed records, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from moiety.recipes import asynchronous, ddome, gist, images, ist, mixtures, quickstart, texts
from moiety.recipes.record import Federation


@dataclass(frozen=True)
class RecipeEntry:
    """A record and what it shows."""

    record: Federation
    about: str


RECIPES: Mapping[str, RecipeEntry] = {
    "quickstart": RecipeEntry(quickstart.quickstart(), "digits; DDOME beside FedAvg and FedProx"),
    "yours": RecipeEntry(quickstart.yours(), "FedAvg and DDOME on data of your own: --data FILE"),
    "ddome-modes": RecipeEntry(
        ddome.ddome_modes(), "where small experts win (synthetic, 100 workers)"
    ),
    "ddome-modes-wide": RecipeEntry(
        ddome.ddome_modes_wide(), "where they lose: one model fits all labels"
    ),
    "ddome-fashion": RecipeEntry(
        ddome.ddome_fashion(), "Fashion-MNIST, 100 workers, experts of 16 units"
    ),
    "gist-cora": RecipeEntry(gist.gist_cora(), "Cora; features of a GCN assigned to 4 workers"),
    "gist-cs": RecipeEntry(
        gist.gist_coauthor_cs(), "Coauthor CS; GraphSAGE on clusters of authors"
    ),
    "ist-digits": RecipeEntry(ist.ist_digits(), "digits; hidden layers assigned, local SGD beside"),
    "ist-fashion": RecipeEntry(
        ist.ist_fashion(), "Fashion-MNIST; wide hidden layers assigned to 4 workers"
    ),
    "dmoe-breast": RecipeEntry(
        mixtures.dmoe_breast_cancer(), "breast cancer; mixtures in one exchange"
    ),
    "ist-shakespeare": RecipeEntry(
        texts.ist_shakespeare(), "a character transformer assigned by heads and hidden units"
    ),
    "asyncdrop-fashion": RecipeEntry(
        asynchronous.asyncdrop_fashion(),
        "Fashion-MNIST, 20 workers of unequal speed, nobody is waited for",
    ),
    "fedbuff-fashion": RecipeEntry(
        asynchronous.fedbuff_fashion(), "the same workers, commits of four replies"
    ),
    "resist-cifar": RecipeEntry(images.resist_cifar(), "CIFAR-10 at 16x16; residual blocks apart"),
    "loft-cifar": RecipeEntry(
        images.loft_cifar(), "the same; filters assigned, then pruned and tuned"
    ),
}
