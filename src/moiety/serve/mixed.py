"""How a worker uses several models that no gate tells apart: all of them, or one.

Letters: B rows, K models at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moiety.core.axes import Part
from moiety.core.objective import Objective
from moiety.core.protocols import Kept
from moiety.core.rows import Rows, chunk_positions
from moiety.core.types import Batch, Params
from moiety.models.components import MIX, Components
from moiety.models.stacked import EXPERT, count_models


@dataclass(frozen=True)
class Mixed:
    """Everyone mixes all models: equally, or by the weights that a worker set by its own rows.

    Args:
        model: the models.
        objective: what answers are.
    """

    model: Components
    objective: Objective

    def config(self) -> dict[str, Any]:
        """Say how to build this again."""
        return {"kind": "mixed"}

    def choose(self, params: Params, rows: Rows, /) -> Part:
        del params, rows
        return Part()

    def scores(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor:
        out = self.model.ask(piece, batch).float()
        log_BK = piece[MIX].log_softmax(-1).expand(out.shape[1], -1)
        return self.objective.answer_mix(out, log_BK)

    def routes(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor | None:
        del piece, batch, kept


@torch.no_grad()
def weigh_models_once(
    model: Components, params: Params, rows: Rows, objective: Objective
) -> dict[str, Tensor]:
    """Set the weights of a new worker's mixture in one step, from equal ones; models stay.

    Args:
        model: the models.
        params: of all of them.
        rows: of the worker, with targets ``y``.
        objective: what was learnt.

    Returns:
        ``params`` with the worker's ``mix``: the log of the mean shares of its rows for which each
        model answers.
    """
    total_K = torch.zeros(count_models(params))
    for ids in chunk_positions(rows, 2048):
        batch = rows.take(ids)
        out = model.ask(params, batch).float()
        loss_KB = torch.stack([objective.rows(one, batch["y"]) for one in out])
        total_K = total_K + (-loss_KB).softmax(0).sum(1).cpu()
    if not rows.size:
        raise ValueError("no rows to weigh models by; give at least one")
    return {**params, MIX: (total_K / rows.size).clamp_min(1e-6).log()}


@dataclass(frozen=True)
class Surest:
    """A worker uses the one model that is surest of its rows: of least mean entropy. No labels.

    Args:
        model: the models.
        objective: what answers are: log-probabilities of classes.
    """

    model: Components
    objective: Objective

    def config(self) -> dict[str, Any]:
        """Say how to build this again."""
        return {"kind": "surest"}

    def choose(self, params: Params, rows: Rows, /) -> Part:
        total_K: Tensor | None = None
        for ids in chunk_positions(rows, 2048):
            log_KBC = self.model.ask(params, rows.take(ids)).float().log_softmax(-1)
            entropy_K = -(log_KBC.exp() * log_KBC).sum((1, 2))
            total_K = entropy_K if total_K is None else total_K + entropy_K
        if total_K is None:
            raise ValueError("no rows to choose a model by; give at least one")
        return Part({EXPERT: total_K.argmin(-1, keepdim=True).cpu()})

    def scores(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return self.objective.answer(self.model.ask(piece, batch)[0].float())

    def routes(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor | None:
        held = kept[EXPERT] if EXPERT in kept else torch.zeros(1, dtype=torch.int64)
        count = len(next(iter(batch.values())))
        return held[:1].expand(count)
