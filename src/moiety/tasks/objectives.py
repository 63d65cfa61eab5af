"""What a worker minimises: one loss a row, and terms that look at parameters alone.

Letters: B rows, N nodes, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from moiety.core.objective import Objective
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.tasks.losses import UNSCORED

IMPORTANCE = "importance"
"""The column of how much a row counts in training, 1 on average; rows count alike without it."""


def weigh_rows(losses_B: Tensor, batch: Batch) -> Tensor:
    """Multiply the loss of each row by how much the row counts, [B]."""
    return losses_B * batch[IMPORTANCE] if IMPORTANCE in batch else losses_B


LOG_SHARES = "log_shares"
"""The column of the log of a worker's own label shares, [B, C], for logit adjustment."""


def shift_outputs(out: Tensor, batch: Batch) -> Tensor:
    """Add the log of the worker's label shares to outputs [..., B, C], where rows have them."""
    return out + batch[LOG_SHARES] if LOG_SHARES in batch else out


class Losses(Protocol):
    """One loss a row, and new values of buffers where the model has some."""

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]: ...


class Forward(Protocol):
    """Outputs in training, [B, C], and new values of buffers: a model's ``forward``."""

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]: ...


class Term(Protocol):
    """A penalty on the parameters, given where they started."""

    def __call__(self, params: Params, origin: Params, /) -> Tensor: ...


class Arrange(Protocol):
    """Makes losses of an objective and a model's ``forward``: how rows lie in outputs."""

    def __call__(self, objective: Objective, forward: Forward, /) -> Losses: ...


@dataclass(frozen=True)
class RowLosses:
    """The objective's loss of each row: of the outputs for it and its target, column ``y``."""

    objective: Objective
    forward: Forward

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        out, after = self.forward(params, batch, kept)
        return self.objective.rows(shift_outputs(out.float(), batch), batch["y"]), after


@dataclass(frozen=True)
class NodeLosses:
    """Mean loss over the labelled nodes of a subgraph, the same number for each row.

    A row is a cluster; weights of rows that sum to 1 make the mean of it again. A subgraph without
    a labelled node has loss 0.
    """

    objective: Objective
    forward: Forward

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        out_NC, after = self.forward(params, batch, kept)
        here_N = batch["y"] != UNSCORED
        losses = self.objective.rows(out_NC[here_N].float(), batch["y"][here_N])
        mean = losses.sum() / max(1, len(losses))
        return mean.expand(len(batch["weight"])), after


@dataclass(frozen=True)
class AdjustedLosses:
    """Losses that must see a worker's label shares: logit adjustment, by ``shift_outputs``.

    Menon et al., *Long-Tail Learning via Logit Adjustment*, arXiv:2007.07314, eq. 10, with the
    worker's own shares; Zhang et al., arXiv:2209.00189, in federations.
    """

    losses: Losses

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        if LOG_SHARES not in batch:
            raise ValueError(
                f"local.prior='adjust' reads the column {LOG_SHARES!r}, which these rows lack; "
                "open them through moiety.data.label_shares.LabelShares(open, classes)"
            )
        return self.losses(params, batch, kept)


@dataclass(frozen=True)
class Proximal:
    """``mu / 2 * |params - origin|^2``, which keeps a worker near what it was sent.

    Li et al., *Federated Optimization in Heterogeneous Networks*, arXiv:1812.06127, eq. 2.
    """

    mu: float

    def __post_init__(self) -> None:
        if not 0 <= self.mu < math.inf:
            raise ValueError(f"mu={self.mu} would push a worker away; choose a finite mu >= 0")

    def __call__(self, params: Params, origin: Params, /) -> Tensor:
        apart = [(param - origin[name]).square().sum() for name, param in params.items()]
        return 0.5 * self.mu * torch.stack(apart).sum()
