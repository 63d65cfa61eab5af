"""One class of several for each row.

Letters: B rows, N rows, C classes, K experts at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.objective import Metric, describe_kind
from moiety.tasks.losses import UNSCORED, cross_entropy
from moiety.tasks.metrics import ACCURACY, LOSS
from moiety.tasks.targets import check_whole, find_outside, select_scored


@dataclass(frozen=True)
class Classes:
    """Cross-entropy of the outputs, which are logits, with the class of a row.

    Args:
        names: of the classes, in the order of outputs; empty where nobody said them.
        weights: of the classes, each row's loss times that of its class; empty for 1 each.
        smoothing: share of a target that is spread evenly over all classes.
        balance: ``fit`` weighs classes so that all of them count alike.
        unscored: whether -1 may stand for "no class", neither learnt nor scored.
        metrics: how answers are scored.

    >>> Classes(("no", "yes")).rows(torch.zeros(1, 2), torch.tensor([1]))
    tensor([0.6931])
    """

    names: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    smoothing: float = 0.0
    balance: bool = False
    unscored: bool = False
    metrics: tuple[Metric, ...] = (ACCURACY, LOSS)

    name: str = field(default="classes", init=False)
    categorical: bool = field(default=True, init=False)
    log_probabilities: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing}; choose a share of at least 0, below 1")
        if self.weights and len(self.weights) != len(self.names):
            raise ValueError(
                f"{len(self.weights)} weights for {len(self.names)} classes; give one for each "
                "class, and the names of the classes"
            )
        if not all(0 <= weight < float("inf") for weight in self.weights):
            raise ValueError(f"weights={self.weights}; choose finite weights of at least 0")

    @property
    def outputs(self) -> int:
        return len(self.names)

    @property
    def strata(self) -> tuple[str, ...]:
        return self.names

    def fit(self, y: Tensor, /) -> Classes:
        if not self.balance:
            return self
        count_C = torch.bincount(y[y != UNSCORED].cpu(), minlength=len(self.names)).double()
        share_C = count_C.sum() / (count_C > 0).sum() / count_C.clamp_min(1)
        return replace(self, weights=tuple(share_C.tolist()))

    def check(self, y: Tensor, /) -> Tensor:
        check_whole(y, "classes", "its class, int64 [N]")
        if y.ndim != 1:
            raise ValueError(
                f"y has shape {list(y.shape)}, but a row has one class: give [N], y.flatten() or "
                "y.argmax(1); for several labels a row take the objective labels"
            )
        return find_outside(y, len(self.names), unscored=self.unscored)

    def stratify(self, y: Tensor, /) -> Tensor:
        return y if self.names else torch.zeros_like(y)

    def rows(self, out: Tensor, y: Tensor, /) -> Tensor:
        losses_B = cross_entropy(out, y)
        if self.smoothing:
            losses_B = self.smooth(losses_B, out.log_softmax(-1))
        return self.weigh(losses_B, y)

    def smooth(self, losses_B: Tensor, log_BC: Tensor) -> Tensor:
        """Spread a share of each target over all classes."""
        return (1 - self.smoothing) * losses_B - self.smoothing * log_BC.mean(-1)

    def weigh(self, losses_B: Tensor, y: Tensor) -> Tensor:
        """Multiply each loss by the weight of its class."""
        if not self.weights:
            return losses_B
        return losses_B * torch.tensor(self.weights, device=losses_B.device)[y]

    def mix(self, out: Tensor, log_gate: Tensor, y: Tensor, /) -> Tensor:
        log_KBC = out.log_softmax(-1)
        right_KB = log_KBC.gather(-1, y.expand(len(out), -1)[..., None])[..., 0]
        losses_B = -torch.logsumexp(log_gate + right_KB.T, -1)
        if self.smoothing:
            mixed_BC = torch.logsumexp(log_gate.T[..., None] + log_KBC, 0)
            losses_B = self.smooth(losses_B, mixed_BC)
        return self.weigh(losses_B, y)

    def answer(self, out: Tensor, /) -> Tensor:
        return out.log_softmax(-1)

    def answer_mix(self, out: Tensor, log_gate: Tensor, /) -> Tensor:
        return torch.logsumexp(log_gate.T[:, :, None] + out.log_softmax(-1), 0)

    def decide(self, answer: Tensor, /) -> Tensor:
        return answer.argmax(-1)

    def select(self, answer: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        return select_scored(answer, y)

    def to_json(self) -> Mapping[str, Any]:
        return {
            **describe_kind(self),
            "weights": list(self.weights),
            "smoothing": self.smoothing,
            "balance": self.balance,
            "unscored": self.unscored,
        }
