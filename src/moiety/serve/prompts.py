"""How a worker uses prompts of a frozen language model: those that its requests score highest.

Letters: B rows, E experts, K experts at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from moiety.core.axes import Part
from moiety.core.objective import Objective
from moiety.core.protocols import Kept, Transform
from moiety.core.rows import Rows
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel
from moiety.ops.top import select_best
from moiety.serve.choose import average_gate_scores
from moiety.tasks.tokens import Tokens

AXIS = "prompt"


@runtime_checkable
class GatedPrompts(FeatureModel, Protocol):
    """A frozen model with prompts on the axis ``prompt`` and a gate over them."""

    @property
    def common(self) -> Transform:
        """Adds the column that the gate reads."""
        ...

    @property
    def taught(self) -> bool:
        """Whether the gate was taught before."""
        ...

    def log_gate(self, params: Params, batch: Batch, /) -> Tensor: ...

    def teach(self, x: Tensor, y: Tensor, seed: int, /) -> tuple[Params, float]:
        """Teach the gate on rows set apart."""
        ...

    def make_single(self, *, deep: bool) -> FeatureModel:
        """Make the rival without a gate, of as many prompts."""
        ...


@dataclass(frozen=True)
class ServePrompts:
    """A worker uses the prompts that score highest over all its requests, mixed by the gate.

    Args:
        model: the language model.
        k: experts per worker; 0 serves all.
        objective: what answers are.
    """

    model: GatedPrompts
    k: int = 0
    objective: Objective = field(default_factory=Tokens)

    def config(self) -> dict[str, Any]:
        """Say how to build this again."""
        return {"kind": "prompts", "k": self.k}

    def choose(self, params: Params, rows: Rows, /) -> Part:
        score_E = average_gate_scores(self.model, params, rows)
        count = self.k or len(score_E)
        return Part({AXIS: select_best(score_E, count).sort().values})

    def scores(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return self.objective.answer(self.model.logits(piece, batch, kept).float())

    def routes(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor | None:
        score_BE = self.model.log_gate(piece, self.model.common(batch))
        if AXIS not in kept:
            return score_BE.argmax(-1)
        held = kept[AXIS].to(score_BE.device)
        return held[score_BE.index_select(-1, held).argmax(-1)]
