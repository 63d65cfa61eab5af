"""The laws by name."""

from __future__ import annotations

from moiety.mixtures.binomial import Binomial
from moiety.mixtures.gamma import Gamma
from moiety.mixtures.law import Law
from moiety.mixtures.negative_binomial import NegativeBinomial
from moiety.mixtures.poisson import POISSON
from moiety.mixtures.student import Student

LAWS: dict[str, Law] = {
    law.name: law for law in (POISSON, Binomial(), NegativeBinomial(), Gamma(), Student())
}
NORMAL = "normal"  # its experts have costs and a closed form of their own
FAMILIES = (NORMAL, *LAWS)


def find_law(family: str, trials: int = 1) -> Law | None:
    """Find the law of a family; None for the normal one.

    Raises:
        ValueError: for an unknown family, or for trials of a law that has none.
    """
    if family not in FAMILIES:
        raise ValueError(f"family={family!r} is not known; choose from {list(FAMILIES)}")
    if family == Binomial().name:
        return Binomial(trials)
    if trials != 1:
        raise ValueError(f"{trials=} is of family='binomial' alone, not of {family!r}")
    return LAWS.get(family)
