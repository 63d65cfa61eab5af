"""Sub-networks as models of their own, and frozen networks as views of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from moiety.core.axes import Part, take_piece
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel


def deploy_subnet(model: FeatureModel, params: Params, part: Part) -> FeatureModel:
    """Cut a sub-network out as a model of its own, for use as it is: nothing is scaled.

    Args:
        model: any record of ``moiety.models``; widths are read off its tensors.
        params: of the whole, as merged and not calibrated.
        part: what the sub-network keeps.
    """
    record: Any = model
    return replace(record, params=take_piece(params, model.axes, part))


@dataclass(frozen=True)
class FrozenFeatures:
    """A view of rows: inputs become the features of a network that nobody trains any more."""

    model: FeatureModel
    params: Params

    def __call__(self, batch: Batch, /) -> Batch:
        """Replace the column ``x`` by features, [B, D]."""
        return {**batch, "x": self.model.features(self.params, batch)}
