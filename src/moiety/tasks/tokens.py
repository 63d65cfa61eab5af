"""What follows at every position of a text: causal language modelling.

Letters: B rows, N rows, T positions, V tokens, K experts at hand, P scored positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from moiety.core.objective import Metric, describe_kind
from moiety.tasks.losses import UNSCORED, token_cross_entropy
from moiety.tasks.metrics import ACCURACY, LOSS, PERPLEXITY
from moiety.tasks.targets import check_whole, find_outside, select_scored


@dataclass(frozen=True)
class Tokens:
    """Cross-entropy of the next token, averaged over the positions of a row that have one.

    A mixture mixes the probabilities of each token by the gate of its row.

    Args:
        names: the tokens, in the order of their numbers.
        metrics: how answers are scored.
    """

    names: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = (PERPLEXITY, LOSS, ACCURACY)

    name: str = field(default="tokens", init=False)
    categorical: bool = field(default=False, init=False)
    log_probabilities: bool = field(default=True, init=False)
    strata: tuple[str, ...] = field(default=(), init=False)

    @property
    def outputs(self) -> int:
        return len(self.names)

    def fit(self, y: Tensor, /) -> Tokens:
        del y
        return self

    def check(self, y: Tensor, /) -> Tensor:
        check_whole(y, "tokens", "the token that follows each position, int64 [N, T]")
        if y.ndim != 2:
            raise ValueError(
                f"y has shape {list(y.shape)}, but tokens are [N, T]: what follows each position "
                f"of a row, {UNSCORED} where nothing counts"
            )
        return find_outside(y, len(self.names), unscored=True)

    def stratify(self, y: Tensor, /) -> Tensor:
        return torch.zeros(len(y), dtype=torch.int64, device=y.device)

    def rows(self, out: Tensor, y: Tensor, /) -> Tensor:
        return token_cross_entropy(out, y)

    def mix(self, out: Tensor, log_gate: Tensor, y: Tensor, /) -> Tensor:
        index = y.clamp_min(0).expand(len(out), *y.shape)[..., None]
        right_KBT = out.log_softmax(-1).gather(-1, index)[..., 0]
        mixed_BT = torch.logsumexp(log_gate.T[:, :, None] + right_KBT, 0)
        scored_BT = (y != UNSCORED).to(mixed_BT.dtype)
        return -(mixed_BT * scored_BT).sum(1) / scored_BT.sum(1).clamp_min(1)

    def answer(self, out: Tensor, /) -> Tensor:
        return out.log_softmax(-1)

    def answer_mix(self, out: Tensor, log_gate: Tensor, /) -> Tensor:
        return torch.logsumexp(log_gate.T[:, :, None, None] + out.log_softmax(-1), 0)

    def decide(self, answer: Tensor, /) -> Tensor:
        return answer.argmax(-1)

    def select(self, answer: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        return select_scored(answer, y)

    def to_json(self) -> Mapping[str, Any]:
        return describe_kind(self)
