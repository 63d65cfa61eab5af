"""How the whole is made good for use when parts of it learned apart.

Letters: B rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from moiety.core.axes import Axes, expand_entry
from moiety.core.objective import Objective
from moiety.core.protocols import Calibratable
from moiety.core.rows import CALIBRATION_ROWS, Rows, take_all_rows
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel


@dataclass(frozen=True)
class Calibration:
    """Calibrate as the model does for parts that held some share of each axis."""

    model: Calibratable
    held: Mapping[str, float]

    def __call__(self, params: Params, rows: Rows | None, /) -> Params:
        return self.model.calibrate(params, rows, self.held)


@dataclass(frozen=True)
class SumCalibration:
    """Scale sums over units to what they were in a part, where training rows say it is better.

    A unit of the whole sums over more units than it did in a part, so answers grow by one over the
    share held with every layer. The order of classes hardly minds; numbers do, and what is compared
    with a fixed threshold. A module that divides by its own width needs no scale, and only rows can
    tell.

    Args:
        model: of the whole.
        objective: whose loss on the rows decides.
        held: axis -> share of it that a part held in training.
    """

    model: FeatureModel
    objective: Objective
    held: Mapping[str, float]

    def __call__(self, params: Params, rows: Rows | None, /) -> Params:
        scaled = scale_sums(params, self.model.axes, self.held)
        if rows is None:
            return params
        batch = take_all_rows(rows, CALIBRATION_ROWS)
        plain, better = (self.measure(one, batch) for one in (params, scaled))
        return scaled if better < plain else params

    def measure(self, params: Params, batch: Batch) -> float:
        """Give the mean loss of some rows."""
        with torch.no_grad():
            out = self.model.logits(params, batch, {}).float()
            return float(self.objective.rows(out, batch["y"]).mean())


def scale_sums(params: Params, axes: Axes, held: Mapping[str, float]) -> Params:
    """Multiply weights by the share held of each axis that they sum over.

    Those are the dims behind the first, as torch lays weights out.

    Args:
        params: of the whole.
        axes: of each.
        held: axis -> share of it that a part held.

    >>> axes = {"w1": ("h", None), "w2": (None, "h")}
    >>> params = {name: torch.ones(1, 1) for name in axes}
    >>> found = scale_sums(params, axes, {"h": 0.25})
    >>> float(found["w1"]), float(found["w2"])
    (1.0, 0.25)
    """
    scaled = dict(params)
    for name, entries in axes.items():
        for entry in map(expand_entry, entries[1:]):
            if entry is not None and entry.axis in held:
                scaled[name] = scaled[name] * held[entry.axis]
    return scaled
