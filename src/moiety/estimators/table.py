"""Parameters as a table.

Letters: D columns with the constant, K experts, G classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from moiety.mixtures.experts import CategoricalExperts, Experts, GaussianExperts
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture

COLUMNS = ("block", "expert", "class", "term", "estimate", "error", "z", "p", "low", "high")


def name_spreads(experts: Experts) -> dict[str, Array]:
    """Give the parameters beside the lines by name, each [K]."""
    if isinstance(experts, LinkedExperts):
        return dict(zip(experts.law.spread_names, experts.spreads, strict=True))
    if isinstance(experts, GaussianExperts):
        return {"variances": experts.variances}
    return {}


def tabulate_parameters(
    mixture: Mixture, terms: Sequence[str], errors: Mapping[str, Array], level: float
) -> Any:
    """Lay parameters and their errors out as a frame of pandas, a row each."""
    import pandas as pd  # a second of loading, which fits do not need

    if not 0 < level < 1:
        raise ValueError(f"{level=} is no level of intervals; choose one between 0 and 1")
    reach = float(ndtri(0.5 + 0.5 * level))
    rows = [
        *list_coefficients(mixture, terms, errors, reach),
        *list_spreads(mixture, errors, reach),
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    classes = isinstance(mixture.experts, CategoricalExperts)
    return frame if classes else frame.drop(columns="class")


def list_coefficients(
    mixture: Mixture, terms: Sequence[str], errors: Mapping[str, Array], reach: float
) -> Iterator[tuple]:
    """List coefficients of gate and experts."""
    coef = mixture.experts.coef
    free = coef[..., :-1] if coef.ndim == 3 else coef[..., None]
    for block, values in (("gate", mixture.gate[:, :-1, None]), ("expert", free)):
        spread = errors["gate" if block == "gate" else "experts"].reshape(values.shape)
        for expert, kind in np.ndindex(values.shape[1:]):
            for row, term in enumerate(terms):
                value, error = float(values[row, expert, kind]), float(spread[row, expert, kind])
                z = value / error if error > 0 else np.nan
                tail = 2 * float(ndtr(-abs(z)))
                ends = value - reach * error, value + reach * error
                yield block, expert, kind, term, value, error, z, tail, *ends


def list_spreads(mixture: Mixture, errors: Mapping[str, Array], reach: float) -> Iterator[tuple]:
    """List the positive parameters beside the lines; their errors are from those of logarithms."""
    for name, values in name_spreads(mixture.experts).items():
        for expert, (value, error) in enumerate(zip(values, errors[f"log_{name}"], strict=True)):
            ends = value * np.exp(-reach * error), value * np.exp(reach * error)
            yield "spread", expert, 0, name, value, value * error, np.nan, np.nan, *ends
