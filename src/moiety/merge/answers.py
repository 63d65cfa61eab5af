"""Add up what workers answer, name by name."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from moiety.core.fold import Precision
from moiety.core.protocols import Merged
from moiety.core.state import Reply
from moiety.core.store import Store


@dataclass(frozen=True)
class AnswerSum:
    """Sums under way."""

    total: dict[str, Tensor] = field(default_factory=dict)

    def add(self, reply: Reply, /) -> None:
        for name, tensor in reply.answer.items():
            self.total[name] = self.total[name] + tensor if name in self.total else tensor

    def close(self) -> Merged:
        return Merged(self.total, {})


@dataclass(frozen=True)
class AddAnswers:
    """Add the answers in the order of the replies; the server's optimiser makes the step."""

    def weigh(self, reply: Reply, /) -> Precision:
        return reply.precision

    def begin(self, store: Store, /) -> AnswerSum:
        del store
        return AnswerSum()
