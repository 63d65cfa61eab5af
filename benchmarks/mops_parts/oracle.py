"""MoPs whose gate is told the skill of every row: what a gate can win at most.

Letters: B rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from moiety.core.protocols import Method
from moiety.core.types import Batch, Params
from moiety.methods.mops import mops
from moiety.methods.task import Task

SURE = 60.0
"""The score of the right expert; others have 0."""


@dataclass(frozen=True)
class SkillColumn:
    """The skill in place of what a gate reads of the request, [B, D]."""

    width: int

    def __call__(self, batch: Batch, /) -> Batch:
        embed = torch.nn.functional.one_hot(batch["y"][:, 0], self.width).float()
        return batch if "embed" in batch else {**batch, "embed": embed}


def tell_gate(params: Params) -> Params:
    """Make a gate that opens the expert of the skill that it is told."""
    told = {name: torch.zeros_like(params[name]) for name in ("gate.layer1.b", "gate.layer2.b")}
    told["gate.layer1.w"] = torch.eye(*params["gate.layer1.w"].shape)
    told["gate.layer2.w"] = SURE * torch.eye(*params["gate.layer2.w"].shape)
    return {**params, **told}


def make_oracle(task: Task) -> Method:
    """Make the method of a task whose model has prompts and a gate."""
    start = tell_gate(task.start or task.model.params)
    column = SkillColumn(start["gate.layer1.w"].shape[1])
    return replace(mops(replace(task, start=start), gate_rate=0.0), transform=column)
