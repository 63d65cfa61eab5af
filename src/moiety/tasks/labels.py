"""Any subset of several labels for each row.

Letters: B rows, N rows, L labels, K experts at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from moiety.core.objective import Metric, describe_kind
from moiety.tasks.metrics import EXACT, LABEL_ACCURACY, MICRO_F1
from moiety.tasks.targets import check_width


@dataclass(frozen=True)
class Labels:
    """Binary cross-entropy of each label, averaged over the labels of a row.

    Answers are the log-probability of each label. Of a mixture, an expert is a density of all
    labels of a row together.

    Args:
        names: of the labels, in the order of outputs.
        metrics: how answers are scored; a label is said where its probability is above a half.
    """

    names: tuple[str, ...]
    metrics: tuple[Metric, ...] = (MICRO_F1, EXACT, LABEL_ACCURACY)

    name: str = field(default="labels", init=False)
    categorical: bool = field(default=False, init=False)
    log_probabilities: bool = field(default=True, init=False)

    @property
    def outputs(self) -> int:
        return len(self.names)

    @property
    def strata(self) -> tuple[str, ...]:
        return (*self.names, "none")

    def fit(self, y: Tensor, /) -> Labels:
        del y
        return self

    def check(self, y: Tensor, /) -> Tensor:
        if y.ndim != 2 or y.shape[1] != len(self.names):
            raise ValueError(
                f"y has shape {list(y.shape)}, but there are {len(self.names)} labels: give "
                f"[N, {len(self.names)}] of 0 and 1; for one class a row take the objective classes"
            )
        bad = (y != 0) & (y != 1)
        if bad.any():
            row, label = bad.nonzero()[0].tolist()
            raise ValueError(f"y[{row}, {label}] = {y[row, label].item()}; labels are 0 or 1")
        return y.float()

    def stratify(self, y: Tensor, /) -> Tensor:
        """Take the first label of a row."""
        none = (y > 0.5).any(1)
        first = (y > 0.5).int().argmax(1)
        return torch.where(none, first, torch.full_like(first, len(self.names)))

    def rows(self, out: Tensor, y: Tensor, /) -> Tensor:
        return self.surprise(out, y).mean(-1)

    def surprise(self, out: Tensor, y: Tensor) -> Tensor:
        """Give -log p of whether a row has each label, [..., B, L]."""
        check_width(out, len(self.names), self.name)
        y = y.to(out.dtype).expand_as(out)
        return F.binary_cross_entropy_with_logits(out, y, reduction="none")

    def mix(self, out: Tensor, log_gate: Tensor, y: Tensor, /) -> Tensor:
        return -torch.logsumexp(log_gate - self.surprise(out, y).sum(-1).T, -1)

    def answer(self, out: Tensor, /) -> Tensor:
        return F.logsigmoid(out)

    def answer_mix(self, out: Tensor, log_gate: Tensor, /) -> Tensor:
        return torch.logsumexp(log_gate.T[:, :, None] + F.logsigmoid(out), 0)

    def decide(self, answer: Tensor, /) -> Tensor:
        return (answer.exp() > 0.5).long()

    def select(self, answer: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        return answer, y

    def to_json(self) -> Mapping[str, Any]:
        return describe_kind(self)
