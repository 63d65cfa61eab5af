"""Answers to requests of several skills: causal language modelling of the answer alone.

A target is the skill of the request, then the token that follows each position, -1 where none is
scored. Letters: B rows, N rows, T positions, V tokens, K experts at hand, P scored positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from moiety.core.objective import Metric
from moiety.tasks.metrics import ACCURACY, LOSS, PERPLEXITY
from moiety.tasks.targets import check_whole
from moiety.tasks.tokens import Tokens


@dataclass(frozen=True)
class Answers:
    """Cross-entropy of the answer's tokens; the skill is for reports and for teaching a gate.

    Args:
        names: the tokens, in the order of their numbers.
        skills: names of the skills, in the order of their numbers.
        metrics: how answers are scored.
    """

    names: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = (PERPLEXITY, LOSS, ACCURACY)

    name: str = field(default="answers", init=False)
    categorical: bool = field(default=False, init=False)
    log_probabilities: bool = field(default=True, init=False)

    @property
    def outputs(self) -> int:
        return len(self.names)

    @property
    def strata(self) -> tuple[str, ...]:
        return self.skills

    @property
    def tokens(self) -> Tokens:
        """What is learnt of the positions."""
        return Tokens(self.names, self.metrics)

    def fit(self, y: Tensor, /) -> Answers:
        del y
        return self

    def check(self, y: Tensor, /) -> Tensor:
        check_whole(y, "answers", "the skill, then the token that follows each position, [N, 1+T]")
        if y.ndim != 2 or y.shape[1] < 2:
            raise ValueError(
                f"y has shape {list(y.shape)}, but answers are [N, 1 + T]: the skill of a row, "
                "then what follows each position"
            )
        count = max(1, len(self.skills))
        if len(y) and not 0 <= int(y[:, 0].min()) <= int(y[:, 0].max()) < count:
            raise ValueError(
                f"skills from {int(y[:, 0].min())} to {int(y[:, 0].max())}, but there are {count}; "
                "number them from 0"
            )
        return torch.cat([y[:, :1], self.tokens.check(y[:, 1:])], 1)

    def stratify(self, y: Tensor, /) -> Tensor:
        return y[:, 0]

    def rows(self, out: Tensor, y: Tensor, /) -> Tensor:
        return self.tokens.rows(out, y[:, 1:])

    def mix(self, out: Tensor, log_gate: Tensor, y: Tensor, /) -> Tensor:
        return self.tokens.mix(out, log_gate, y[:, 1:])

    def answer(self, out: Tensor, /) -> Tensor:
        return self.tokens.answer(out)

    def answer_mix(self, out: Tensor, log_gate: Tensor, /) -> Tensor:
        return self.tokens.answer_mix(out, log_gate)

    def decide(self, answer: Tensor, /) -> Tensor:
        return self.tokens.decide(answer)

    def select(self, answer: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        return self.tokens.select(answer, y[:, 1:])

    def to_json(self) -> Mapping[str, Any]:
        return {**self.tokens.to_json(), "kind": self.name, "skills": list(self.skills)}
