"""What is minimised where something is frozen: an expert beside it, or a gate over it.

Letters: B rows, E experts, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.core.objective import Objective
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel
from moiety.models.gated import GatedExperts

FROZEN, LOG_GATE = "frozen", "log_gate"
"""Columns: what is frozen says of a row, [B, ..., O]; log weights of it and the expert, [B, 2]."""

ALL_FROZEN = "all_frozen"
"""The column of what all experts of a mixture say of a row, [B, E, ..., O]."""


@dataclass(frozen=True)
class BesideFrozen:
    """The loss of a mixture of two: a frozen model, and the expert, which alone is trained.

    So the expert learns what the frozen model does not know yet, where the gate would ask it.

    Args:
        model: of the expert.
        objective: what is learnt.
    """

    model: FeatureModel
    objective: Objective

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        out, after = self.model.forward(params, batch, kept)
        both = torch.stack([batch[FROZEN], out.float()])
        return self.objective.mix(both, batch[LOG_GATE], batch["y"]), after


@dataclass(frozen=True)
class GateAlone:
    """The loss of a mixture whose experts are frozen: what they say of a row is a column.

    Args:
        model: the mixture.
        objective: what is learnt.
    """

    model: GatedExperts
    objective: Objective

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        del kept
        told_EB = batch[ALL_FROZEN].transpose(0, 1)
        log_BE = self.model.log_gate(params, batch)
        return self.objective.mix(told_EB, log_BE, batch["y"]), {}
