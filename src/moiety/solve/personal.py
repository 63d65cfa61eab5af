"""What a worker minimises who trains a model for all, and one for itself that stays near it.

Li et al., *Ditto: Fair and Robust Federated Learning Through Personalization*, arXiv:2012.04221.
Letters: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moiety.core.protocols import Kept
from moiety.core.solver import Descent
from moiety.core.state import Update
from moiety.core.types import Batch, Params
from moiety.models.personal import OWN_PREFIX, TRAINED, SharedAndOwn, name_own
from moiety.solve.sgd import OWN
from moiety.solve.wrapped import FinishedJob, Wrapped
from moiety.tasks.objectives import Losses


@dataclass(frozen=True)
class BothLosses:
    """The loss of the shared model and that of the worker's, added.

    The worker's is its own, or mixed with the shared one as it uses it; the shared never sees it.

    Args:
        model: both.
        losses: of one model.
    """

    model: SharedAndOwn
    losses: Losses

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        shared_B, after = self.losses(self.model.take_shared(params), batch, kept)
        own_B, own_after = self.losses(self.model.mix_own(params), batch, kept)
        return shared_B + own_B, {**after, **name_own(own_after)}


@dataclass(frozen=True)
class NearShared:
    """``lam / 2 * |own - shared|^2``, with the shared model as it was sent (equation 2).

    Args:
        lam: how near; 0 lets every worker learn alone.
    """

    lam: float

    def __call__(self, params: Params, origin: Params, /) -> Tensor:
        apart = [
            (tensor - origin[name.removeprefix(OWN_PREFIX)]).square().sum()
            for name, tensor in params.items()
            if name.startswith(OWN_PREFIX)
        ]
        return 0.5 * self.lam * torch.stack(apart).sum()


def mark_trained(update: Update, done: FinishedJob, /) -> Update:
    """Say in a worker's memory that it has a model of its own."""
    del done
    own = update.memory[OWN]
    trained = torch.ones_like(own[TRAINED])
    return replace(update, memory={**update.memory, OWN: {**own, TRAINED: trained}})


def train_own(solve: Descent) -> Wrapped:
    """Let a descent on both models leave word that the worker's own is trained."""
    return Wrapped(solve, end=mark_trained, keeps=True)
