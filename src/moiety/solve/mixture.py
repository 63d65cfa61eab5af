"""What DDOME's workers minimise: the mixture of what they hold, or an expert and the gate.

Letters: B rows, E experts, K experts at hand, C outputs. arXiv:2306.08586.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.core.objective import Objective
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.gated import EXPERT, GatedExperts, gather_held_scores
from moiety.tasks.objectives import shift_outputs

MIXTURE_LOSSES = ("probs", "logits", "logits_full", "sumloss")


@dataclass(frozen=True)
class MixtureLoss:
    """The objective's loss of the gated mixture over the experts at hand.

    Args:
        model: the mixture.
        objective: what is learnt.
        kind: ``probs`` mixes probabilities (densities); ``logits`` mixes outputs; ``logits_full``
            likewise without renormalising the gate over the experts at hand; ``sumloss`` mixes
            losses.
        shared: how many of the last experts at hand are everyone's. They learn as if alone, and
            the others and the gate beside them as they are.
    """

    model: GatedExperts
    objective: Objective
    kind: str = "probs"
    shared: int = 0

    def __post_init__(self) -> None:
        if self.kind not in MIXTURE_LOSSES:
            raise ValueError(f"mixture loss {self.kind!r}; choose one of {MIXTURE_LOSSES}")

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        logits_KBC, after = self.model.expert_forward(params, batch)
        log_BK = gather_held_scores(self.model.log_gate(params, batch), kept)
        if self.kind != "logits_full":
            log_BK = log_BK.log_softmax(-1)
        out_KBC = shift_outputs(logits_KBC.float(), batch)
        if not self.shared:
            return self.mix(out_KBC, log_BK, batch["y"]), after
        own_KBC, shared_KBC = out_KBC[: -self.shared], out_KBC[-self.shared :]
        loss_B = self.mix(torch.cat([own_KBC, shared_KBC.detach()]), log_BK, batch["y"])
        return loss_B + lose_apart(self.objective, shared_KBC, batch["y"]), after

    def mix(self, out_KBC: Tensor, log_BK: Tensor, y_B: Tensor) -> Tensor:
        """Give the loss of each row, [B], of outputs and log weights of the experts at hand."""
        if self.kind == "probs":
            return self.objective.mix(out_KBC, log_BK, y_B)
        if self.kind == "sumloss":
            each = [lose_alone(self.objective, out_BC, y_B) for out_BC in out_KBC]
            return (log_BK.exp() * torch.stack(each, -1)).sum(-1)
        mixed_BC = torch.einsum("bk,kb...->b...", log_BK.exp(), out_KBC)
        return lose_alone(self.objective, mixed_BC, y_B)


def lose_alone(objective: Objective, out_BC: Tensor, y_B: Tensor) -> Tensor:
    """Give the loss of each row under one expert, on the scale of a mixture's, [B]."""
    return objective.mix(out_BC[None], out_BC.new_zeros((len(out_BC), 1)), y_B)


def lose_apart(objective: Objective, out_KBC: Tensor, y_B: Tensor) -> Tensor:
    """Add up the losses of each row under some experts, each as if it were alone, [B]."""
    return torch.stack([objective.rows(out_BC, y_B) for out_BC in out_KBC]).sum(0)


@dataclass(frozen=True)
class AnchorLoss:
    """An anchor's two losses: its expert on its labels, and the gate on "these rows are mine".

    The expert's loss does not touch the gate, nor the gate's the expert.

    Args:
        model: the mixture.
        objective: what is learnt.
        teach: whether anchors teach the gate.
        shared: how many of the last experts at hand are everyone's; the gate is taught to tell the
            others apart.
    """

    model: GatedExperts
    objective: Objective
    teach: bool = True
    shared: int = 0

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        logits_KBC, after = self.model.expert_forward(params, batch)
        out_BC = shift_outputs(logits_KBC[0].float(), batch)
        loss_B = lose_alone(self.objective, out_BC, batch["y"])
        if self.teach:
            mine = kept[EXPERT].to(loss_B.device)
            log_BE = self.model.log_gate(params, batch)
            if self.shared:
                log_BE = log_BE[:, : -self.shared].log_softmax(-1)
                mine = mine[: -self.shared]
            loss_B = loss_B - log_BE.index_select(-1, mine)[:, 0]
        if self.shared:
            shared_KBC = shift_outputs(logits_KBC[-self.shared :].float(), batch)
            loss_B = loss_B + lose_apart(self.objective, shared_KBC, batch["y"])
        return loss_B, after
