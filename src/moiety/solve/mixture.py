"""What DDOME's workers minimise: the mixture of what they hold, or an expert and the gate.

Letters: B rows, E experts, K experts at hand, C classes. arXiv:2306.08586.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.gated import EXPERT, GatedExperts, gather_held_scores

MIXTURE_LOSSES = ("probs", "logits", "logits_full", "sumloss")


@dataclass(frozen=True)
class MixtureLoss:
    """Cross-entropy of the gated mixture over the experts at hand.

    Args:
        model: the mixture.
        kind: ``probs`` mixes probabilities; ``logits`` mixes logits; ``logits_full`` likewise
            without renormalising the gate over the experts at hand; ``sumloss`` mixes losses.
    """

    model: GatedExperts
    kind: str = "probs"

    def __post_init__(self) -> None:
        if self.kind not in MIXTURE_LOSSES:
            raise ValueError(f"mixture loss {self.kind!r}; choose one of {MIXTURE_LOSSES}")

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        logits_KBC, after = self.model.expert_forward(params, batch)
        log_BK = gather_held_scores(self.model.log_gate(params, batch), kept)
        if self.kind != "logits_full":
            log_BK = log_BK.log_softmax(-1)
        return compute_mixture_loss(self.kind, logits_KBC.float(), log_BK, batch["y"]), after


def compute_mixture_loss(kind: str, logits_KBC: Tensor, log_BK: Tensor, y_B: Tensor) -> Tensor:
    """Give the loss of each row, [B]."""
    if kind in ("logits", "logits_full"):
        mixed_BC = torch.einsum("bk,kbc->bc", log_BK.exp(), logits_KBC)
        return F.cross_entropy(mixed_BC, y_B, reduction="none")
    right_KB = logits_KBC.log_softmax(-1).gather(-1, y_B.expand(len(logits_KBC), -1)[..., None])
    right_BK = right_KB[..., 0].T
    if kind == "sumloss":
        return -(log_BK.exp() * right_BK).sum(-1)
    return -torch.logsumexp(log_BK + right_BK, -1)


@dataclass(frozen=True)
class AnchorLoss:
    """An anchor's two losses: its expert on its labels, and the gate on "these rows are mine".

    The expert's loss does not touch the gate, nor the gate's the expert.

    Args:
        model: the mixture.
        teach: whether anchors teach the gate.
    """

    model: GatedExperts
    teach: bool = True

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        logits_KBC, after = self.model.expert_forward(params, batch)
        loss_B = F.cross_entropy(logits_KBC[0].float(), batch["y"], reduction="none")
        if self.teach:
            mine = kept[EXPERT].to(loss_B.device)
            loss_B = loss_B - self.model.log_gate(params, batch).index_select(-1, mine)[:, 0]
        return loss_B, after
