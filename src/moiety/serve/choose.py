"""How a worker uses the whole: as it is, or routed by a gate.

Letters: B rows, E experts, K experts at hand, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from moiety.core.axes import Part
from moiety.core.errors import UnknownNameError
from moiety.core.objective import Objective
from moiety.core.protocols import Kept, Model, Transform
from moiety.core.rows import Rows, chunk_positions
from moiety.core.types import Batch, Params
from moiety.models.gated import EXPERT, GatedExperts, gather_held_scores
from moiety.ops.top import count_covering, hold_shared, select_best
from moiety.tasks.classes import Classes

MODES = ("top1", "soft")


@dataclass(frozen=True)
class Plain:
    """Everyone uses the same whole model."""

    model: Model
    objective: Objective = field(default_factory=Classes)

    def config(self) -> dict[str, Any]:
        """Say how to build this again."""
        return {"kind": "plain"}

    def choose(self, params: Params, rows: Rows, /) -> Part:
        del params, rows
        return Part()

    def scores(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return self.objective.answer(self.model.logits(piece, batch, kept).float())

    def routes(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor | None:
        del piece, batch, kept


@dataclass(frozen=True)
class Routed:
    """A worker uses the k experts that score highest over all its rows, without labels.

    Args:
        model: the mixture.
        k: experts per worker; None serves all of them.
        mode: ``top1`` answers each row by the best-scored expert at hand, as DDOME does
            (arXiv:2306.08586, section 3.4 of its specification); ``soft`` mixes those at hand.
        objective: what answers are.
        shared: how many of the last experts everyone uses besides.
        cover: below 1, a worker uses the fewest experts that have this share of the scores, k at
            most.
    """

    model: GatedExperts
    k: int | None
    mode: str = "top1"
    objective: Objective = field(default_factory=Classes)
    shared: int = 0
    cover: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnknownNameError(f"serving mode {self.mode!r}; choose one of {MODES}")

    def config(self) -> dict[str, Any]:
        """Say how to build this again."""
        shared = {"shared": self.shared} if self.shared else {}
        cover = {"cover": self.cover} if self.cover < 1 else {}
        return {"kind": "routed", "k": self.k, "mode": self.mode, **shared, **cover}

    def choose(self, params: Params, rows: Rows, /) -> Part:
        total_E = average_gate_scores(self.model, params, rows)
        routed = len(total_E) - self.shared
        most = routed if self.k is None else self.k
        if self.cover < 1:
            most = min(most, int(count_covering(total_E[:routed], self.cover)))
        chosen = select_best(total_E[:routed], most).sort().values
        return Part({EXPERT: hold_shared(chosen, len(total_E), self.shared)})

    def scores(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor:
        out_KBC = self.model.expert_logits(piece, batch)
        log_BK = gather_held_scores(self.model.log_gate(piece, batch), kept)
        if self.mode == "soft":
            return self.objective.answer_mix(out_KBC.float(), log_BK.log_softmax(-1))
        place_B = log_BK.argmax(-1)
        rows = torch.arange(out_KBC.shape[1], device=place_B.device)
        return self.objective.answer(out_KBC[place_B, rows].float())

    def routes(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor | None:
        place_B = gather_held_scores(self.model.log_gate(piece, batch), kept).argmax(-1)
        return kept[EXPERT].to(place_B.device)[place_B] if EXPERT in kept else place_B


class EmbeddedGate(Protocol):
    """A gate over experts, and what adds the column that it reads."""

    @property
    def common(self) -> Transform: ...
    def log_gate(self, params: Params, batch: Batch, /) -> Tensor: ...


def average_gate_scores(model: EmbeddedGate, params: Params, rows: Rows) -> Tensor:
    """Average the gate's scores over all rows, [E]; labels are not looked at."""
    total: Tensor | None = None
    for ids in chunk_positions(rows, 4096):
        batch = rows.take(ids)
        seen = batch if "embed" in batch else model.common(batch)
        score_E = model.log_gate(params, seen).exp().sum(0)
        total = score_E if total is None else total + score_E
    if total is None:
        raise ValueError("no rows to choose experts by; give at least one")
    return total / rows.size
