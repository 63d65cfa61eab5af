"""Options that are numbers."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from moiety.mixtures.baselines import REDUCTIONS
from moiety.mixtures.reduce import GATES
from moiety.mixtures.restrict import OFFSET_WEIGHTS

SUPPORTS = ("rows", "normal")


def check_whole_number(options: Any, name: str, least: int) -> None:
    """Refuse an option that is no whole number, or too small."""
    value = getattr(options, name)
    if not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def check_amount(options: Any, name: str) -> None:
    """Refuse an option that is no finite number of at least 0."""
    value = getattr(options, name)
    if not isinstance(value, Real) or not np.isfinite(float(value)) or float(value) < 0:
        raise ValueError(f"{name}={value!r} must be a finite number of at least 0")


def check_spread(options: Any, name: str) -> None:
    """Refuse an option that is no number above 0; infinity is one."""
    value = getattr(options, name)
    if not isinstance(value, Real) or not float(value) > 0:
        raise ValueError(f"{name}={value!r} must be a number above 0; float('inf') sets no limit")


def check_level(level: float, kind: str) -> None:
    """Refuse what is no chance; ``kind`` says of what."""
    if not 0 < level < 1:
        raise ValueError(f"{level=} is no {kind}; choose one between 0 and 1")


def check_sharing(options: Any) -> None:
    """Refuse what experts cannot share."""
    if not isinstance(options.shared_spread, bool | np.bool_):
        raise ValueError(  # noqa: TRY004 - as all refusals here
            f"shared_spread={options.shared_spread!r} must be True or False"
        )
    if options.shared_columns is not None and options.expert_lasso:
        raise ValueError(
            "expert_lasso makes slopes 0 expert by expert, and shared_columns have one slope for "
            "all; leave one of them out"
        )


def names_columns(options: Any) -> bool:
    """Tell whether gate or experts are to use some covariates only."""
    chosen = options.gate_columns, options.expert_columns, options.offset
    return any(one is not None for one in chosen)


def check_restrictions(options: Any) -> None:
    """Refuse columns that a reduction cannot keep."""
    if names_columns(options) and options.gate == "posterior":
        raise ValueError(
            "gate='posterior' uses all covariates; choose another gate, or leave out "
            "gate_columns, expert_columns and offset"
        )
    family = getattr(options, "family", "normal")
    if options.offset is not None and family not in ("normal", *OFFSET_WEIGHTS):
        raise ValueError(
            f"the reduction of family={family!r} knows no offset; choose family='poisson', or fit "
            "all rows in one place"
        )


def check_reduction(cost: str, gate: str, reduction: str, costs: Iterable[str]) -> None:
    """Refuse choices that are not known, before any machine is asked."""
    for name, value, known in (
        ("cost", cost, sorted(costs)),
        ("gate", gate, list(GATES)),
        ("reduction", reduction, ["transport", *sorted(REDUCTIONS)]),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is not known here; choose from {known}")


def check_support_choice(support: Any, gate: str) -> None:
    """Refuse a support that is not known, or that has no responses where the gate needs them."""
    if isinstance(support, str) and support not in SUPPORTS:
        raise ValueError(f"{support=} is not known; choose from {list(SUPPORTS)}, or give rows")
    if gate == "posterior" and not (isinstance(support, str) and support == "rows"):
        raise ValueError("gate='posterior' needs responses of rows; choose support='rows'")
