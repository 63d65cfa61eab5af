"""The gate: from the mean of a request's hidden states to a weight for each expert.

It is DDOME's gate (``moiety.models.gated``) as a torch module: two layers on standardised features.
Letters: B rows, T positions, D width, H hidden units, E experts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moiety.core.streams import stream
from moiety.models.init import draw_uniform
from moiety.prompts.config import MopsConfig

LEAST = -30.0
"""The log of the least weight of an open expert."""


class MopsGate(nn.Module):
    """Two layers on standardised features; scores are the same for all experts at first."""

    def __init__(self, width: int, config: MopsConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, config.gate_hidden_size)
        self.out = nn.Linear(config.gate_hidden_size, config.num_experts)
        if self.hidden.weight.device.type != "meta":
            self.redraw(config.seed)
            self.forget()

    def redraw(self, seed: int) -> None:
        """Draw fresh first values, uneven over experts, in place."""
        rng = stream(seed, "gate")
        with torch.no_grad():
            for layer in (self.hidden, self.out):
                fan = layer.in_features
                layer.weight.copy_(draw_uniform(tuple(layer.weight.shape), fan, rng))
                layer.bias.copy_(draw_uniform(tuple(layer.bias.shape), fan, rng))

    def forget(self) -> None:
        """Score all experts alike, in place."""
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def list_parts(self) -> list[Tensor]:
        """List the parameters; ``parameters()`` walks modules, which a decoded token would feel."""
        return [self.hidden.weight, self.hidden.bias, self.out.weight, self.out.bias]

    def forward(self, z_BD: Tensor) -> Tensor:
        """Score experts, [B, E]."""
        dtype = self.hidden.weight.dtype
        return self.out(F.relu(self.hidden(standardise(z_BD).to(dtype))))


def standardise(z_BD: Tensor) -> Tensor:
    """Bring each row to mean 0 and deviation 1, in float32."""
    return F.layer_norm(z_BD.float(), z_BD.shape[-1:])


def weigh_experts(score_BE: Tensor, config: MopsConfig) -> Tensor:
    """Give the log of each expert's weight, [B, E]; minus infinity for one that is closed."""
    score_BE = score_BE.float() / config.gate_temperature
    closed_BE = None
    if config.top_k is not None:
        kept = score_BE.topk(min(config.top_k, score_BE.shape[-1]), -1).indices
        closed_BE = torch.ones_like(score_BE, dtype=torch.bool).scatter(-1, kept, value=False)
    if config.gate_activation == "sigmoid":
        log_BE = F.logsigmoid(score_BE)
    elif closed_BE is not None:
        log_BE = score_BE.masked_fill(closed_BE, -torch.inf).log_softmax(-1)
    else:
        log_BE = score_BE.log_softmax(-1)
    log_BE = log_BE.clamp_min(LEAST)
    return log_BE if closed_BE is None else log_BE.masked_fill(closed_BE, -torch.inf)


def open_experts(expert_B: Tensor, num_experts: int) -> Tensor:
    """Open one expert for each row: the log of a one-hot weight, [B, E].

    Raises:
        ValueError: if there is no such expert.
    """
    if expert_B.is_floating_point() or expert_B.min() < 0 or expert_B.max() >= num_experts:
        raise ValueError(f"expert_ids={expert_B.tolist()}; choose whole numbers from 0 to "
                         f"{num_experts - 1}")  # fmt: skip
    open_BE = F.one_hot(expert_B.long(), num_experts).bool()
    return torch.zeros(open_BE.shape, device=open_BE.device).masked_fill(~open_BE, -torch.inf)


def find_instruction(attended_BT: Tensor, labels_BT: Tensor | None) -> Tensor:
    """Mark the tokens of the request, [B, T]: attended, and before the first that has a label.

    Raises:
        ValueError: for labels that are not of tokens.
    """
    if labels_BT is None:
        return attended_BT
    shapes = [list(one.shape) for one in (labels_BT, attended_BT)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"labels have shape {shapes[0]}, but tokens {shapes[1]}; give a causal "
                         "language model a label for each token")  # fmt: skip
    return attended_BT & ((labels_BT != -100).cumsum(-1) == 0)


def find_prefix(attended_BT: Tensor, length: int) -> Tensor:
    """Mark the first tokens that are attended, [B, T]."""
    return attended_BT & (attended_BT.cumsum(-1) <= length)


def pool_hidden(hidden_BTD: Tensor, read_BT: Tensor, *, last: bool) -> Tensor:
    """Average hidden states over the tokens that are read, or take the last of them, [B, D].

    Raises:
        ValueError: if a row has no token to read.
    """
    count_B = read_BT.sum(-1)
    if not bool(count_B.all()):
        row = int((count_B == 0).nonzero()[0])
        raise ValueError(
            f"row {row} of the batch has no instruction that the gate could read before its first "
            "scored token; give labels of -100 on the instruction, or gate_pooling='prefix'"
        )
    if last:
        place_B = (read_BT.cumsum(-1) == count_B[:, None]).int().argmax(-1)
        return hidden_BTD[torch.arange(len(place_B), device=place_B.device), place_B].float()
    weight_BT = read_BT.float() / count_B[:, None]
    return torch.einsum("bt,btd->bd", weight_BT, hidden_BTD.float())
