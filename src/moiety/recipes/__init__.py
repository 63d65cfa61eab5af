"""Complete runs as typed records, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from moiety.recipes import asynchronous, ddome, gist, ist, mixtures, quickstart, texts
from moiety.recipes.record import Federation


@dataclass(frozen=True)
class Recipe:
    """A record and what it shows."""

    record: Federation
    about: str


RECIPES: Mapping[str, Recipe] = {
    "quickstart": Recipe(quickstart.quickstart(), "digits; DDOME beside FedAvg and FedProx"),
    "yours": Recipe(quickstart.yours(), "FedAvg and DDOME on data of your own: --data FILE"),
    "ddome-modes": Recipe(ddome.modes(), "where small experts win (synthetic, 100 workers)"),
    "ddome-modes-wide": Recipe(ddome.modes_wide(), "where they lose: one model fits all labels"),
    "ddome-fashion": Recipe(ddome.fashion(), "Fashion-MNIST, 100 workers, experts of 16 units"),
    "gist-cora": Recipe(gist.cora(), "Cora; features of a GCN dealt to 4 workers"),
    "gist-cs": Recipe(gist.coauthor_cs(), "Coauthor CS; GraphSAGE on clusters of authors"),
    "ist-digits": Recipe(ist.digits(), "digits; hidden layers dealt out, local SGD beside"),
    "ist-fashion": Recipe(ist.fashion(), "Fashion-MNIST; wide hidden layers dealt to 4 workers"),
    "dmoe-breast": Recipe(mixtures.breast_cancer(), "breast cancer; mixtures in one exchange"),
    "ist-shakespeare": Recipe(
        texts.shakespeare(), "a character transformer dealt by heads and hidden units"
    ),
    "asyncdrop-fashion": Recipe(
        asynchronous.fashion(), "Fashion-MNIST, 20 workers of unequal speed, nobody is waited for"
    ),
    "fedbuff-fashion": Recipe(asynchronous.buffered(), "the same workers, commits of four replies"),
}
