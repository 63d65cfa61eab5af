"""A mixture as arrays by name, as files and messages hold it.

Letters: D columns with the constant, K experts, P spreads, G classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.law import Law
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture
from moiety.mixtures.noise import Noise

GATE, EXPERTS, VARIANCES, SPREADS = "gate", "experts", "variances", "spreads"


def lay_out_mixture(mixture: Mixture) -> dict[str, Array]:
    """Give gate [D, K], experts [D, K] or [D, K, G], and variances [K] or spreads [P, K] if any."""
    experts = mixture.experts
    found = {GATE: mixture.gate, EXPERTS: experts.coef}
    if isinstance(experts, GaussianExperts):
        found[VARIANCES] = experts.variances
    if isinstance(experts, LinkedExperts) and len(experts.spreads):
        found[SPREADS] = experts.spreads
    return found


def build_mixture(found: Mapping[str, Array], law: Law, noise: Noise | None = None) -> Mixture:
    """Make a mixture of its arrays; ``law`` is of numbers that come without variances."""
    gate, coef = found[GATE], found[EXPERTS]
    if VARIANCES in found:
        return Mixture(gate, GaussianExperts(coef, found[VARIANCES]), noise)
    if coef.ndim == 2:
        spreads = found.get(SPREADS, np.zeros((0, coef.shape[1])))
        return Mixture(gate, LinkedExperts(coef, spreads, law), noise)
    return Mixture(gate, CategoricalExperts(coef), noise)
