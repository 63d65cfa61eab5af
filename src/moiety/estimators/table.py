"""Parameters as a table.

Letters: N rows, D columns with the constant, K experts, G classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from moiety.estimators.options import check_level
from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.experts import Experts, GaussianExperts
from moiety.mixtures.fit import RowArrays
from moiety.mixtures.freedom import ALL_FREE, Freedom
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, gate_proba, responsibilities

REACHED = 1e-4  # a responsibility above it counts a row among those that an expert reaches
COLUMNS = ("block", "expert", "class", "term", "estimate", "error", "z", "p", "low", "high")


def name_spreads(experts: Experts) -> dict[str, Array]:
    """Give the parameters beside the lines by name, each [K]."""
    if isinstance(experts, LinkedExperts):
        return dict(zip(experts.law.spread_names, experts.spreads, strict=True))
    if isinstance(experts, GaussianExperts):
        return {"variances": experts.variances}
    return {}


def tabulate_parameters(
    mixture: Mixture,
    terms: Sequence[str],
    errors: Mapping[str, Array],
    level: float,
    free: Freedom = ALL_FREE,
) -> Any:
    """Lay parameters and their errors out as a frame of pandas, a row each."""
    import pandas as pd  # a second of loading, which fits do not need

    check_level(level, "level of intervals")
    reach = float(ndtri(0.5 + 0.5 * level))
    rows = [
        *list_coefficients(mixture, list(enumerate(terms)), errors, reach, free),
        *list_spreads(mixture, errors, reach),
        *list_noise(mixture, errors, reach),
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    classes = isinstance(mixture.experts, CategoricalExperts)
    return frame if classes else frame.drop(columns="class")


def measure_experts(mixture: Mixture, rows: RowArrays) -> dict[str, Array]:
    """Measure how much of the rows each expert has, by name of the measure, each [K].

    Noise, where there is some, is the last, of the number -1.
    """
    owned, weights = responsibilities(mixture, rows[0], rows[1]), rows[2]
    share = weights @ gate_proba(mixture, rows[0]) / weights.sum()
    number = np.arange(mixture.num_experts)
    if mixture.noise is not None:
        owned = np.column_stack([owned, 1 - owned.sum(1)])
        share = np.append((1 - mixture.noise.share) * share, mixture.noise.share)
        number = np.append(number, -1)
    assigned = weights @ (owned.argmax(1)[:, None] == np.arange(len(number)))
    reached = weights @ (owned > REACHED)
    ratio = np.divide(assigned, reached, out=np.zeros(len(number)), where=reached > 0)
    return {"expert": number, "share": share, "rows": weights @ owned, "assigned": assigned,
            "ratio": ratio}  # fmt: skip


def list_coefficients(
    mixture: Mixture,
    terms: Sequence[tuple[int, str]],
    errors: Mapping[str, Array],
    reach: float,
    free: Freedom,
) -> Iterator[tuple]:
    """List coefficients of gate and experts, of columns in use."""
    coef = mixture.experts.coef
    own = coef[..., :-1] if coef.ndim == 3 else coef[..., None]
    used = {"gate": free.find_gate_rows(len(terms)), "expert": free.find_expert_rows(len(terms))}
    for block, values in (("gate", mixture.gate[:, :-1, None]), ("expert", own)):
        spread = errors["gate" if block == "gate" else "experts"].reshape(values.shape)
        for expert, kind in np.ndindex(values.shape[1:]):
            for row, term in (terms[at] for at in used[block]):
                value, error = float(values[row, expert, kind]), float(spread[row, expert, kind])
                z = value / error if error > 0 else np.nan
                tail = 2 * float(ndtr(-abs(z)))
                ends = value - reach * error, value + reach * error
                yield block, expert, kind, term, value, error, z, tail, *ends


def list_noise(mixture: Mixture, errors: Mapping[str, Array], reach: float) -> Iterator[tuple]:
    """List the share of noise; its interval is that of the log-odds."""
    if mixture.noise is not None:
        share, error = mixture.noise.share, float(errors["noise"])
        ends = (expit(logit(share) + sign * reach * error) for sign in (-1, 1))
        told = share, share * (1 - share) * error, np.nan, np.nan, *ends
        yield "noise", -1, 0, "share", *told


def list_spreads(mixture: Mixture, errors: Mapping[str, Array], reach: float) -> Iterator[tuple]:
    """List the positive parameters beside the lines; their errors are from those of logarithms."""
    for name, values in name_spreads(mixture.experts).items():
        for expert, (value, error) in enumerate(zip(values, errors[f"log_{name}"], strict=True)):
            ends = value * np.exp(-reach * error), value * np.exp(reach * error)
            yield "spread", expert, 0, name, value, value * error, np.nan, np.nan, *ends
