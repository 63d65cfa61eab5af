"""Replies of a round, held until all are there: for merges that must see them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from moiety.core.protocols import Merged
from moiety.core.state import Reply
from moiety.core.store import Store


@dataclass(frozen=True)
class Gathering:
    """A merge under way that holds all replies; the order in which they came is forgotten.

    Args:
        store: has the whole.
        merge_all: makes the model of all replies, by the numbers of their workers.
        replies: that came.
    """

    store: Store
    merge_all: Callable[[Store, Sequence[Reply]], Merged]
    replies: list[Reply] = field(default_factory=list)

    def add(self, reply: Reply, /) -> None:
        self.replies.append(reply)

    def close(self) -> Merged:
        return self.merge_all(self.store, sorted(self.replies, key=lambda reply: reply.worker))
