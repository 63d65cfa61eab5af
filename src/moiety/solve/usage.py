"""How well a worker knows each index of an axis: by how much its gate used it.

Letters: B rows, E indices of the axis, K of them at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from moiety.core.solver import Descent
from moiety.core.state import Update
from moiety.core.types import Batch, Carry, Params
from moiety.solve.wrapped import FinishedJob, Wrapped


class Gate(Protocol):
    """A model that scores the indices of an axis from inputs."""

    def log_gate(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the log of the scores of all indices, [B, E]."""
        ...


@dataclass(frozen=True)
class Usage:
    """The mean over all rows of the gate's scores of the indices at hand, which sum to 1.

    Args:
        gate: scores the axis; read after the last step.
        axis: whose indices are weighed, experts or prompts.
        least: an index that is used less than this share of an even use says nothing, for its
            steps are noise: Adam makes a full step of a gradient however small.
    """

    gate: Gate
    axis: str
    least: float = 0.0

    def look(self, solve: Descent, carry: Carry, batch: Batch, role: str, /) -> Params:
        del solve, role
        score_BE = self.gate.log_gate({**carry["params"], **carry["frozen"]}, batch)
        if self.axis in carry["kept"]:
            score_BE = score_BE.index_select(-1, carry["kept"][self.axis].to(score_BE.device))
        return {self.axis: score_BE.softmax(-1).sum(0)}

    def end(self, update: Update, done: FinishedJob, /) -> Update:
        used = done.mean()[self.axis]
        axes = {**update.precision.axes, self.axis: used * (used * len(used) >= self.least)}
        return replace(update, precision=replace(update.precision, axes=axes))


def weigh_by_usage(solve: Descent, gate: Gate, axis: str, least: float = 0.0) -> Wrapped:
    """Send along with a piece how much each of its indices of an axis was used."""
    usage = Usage(gate, axis, least)
    return Wrapped(solve, look=usage.look, end=usage.end, weighs=True)
