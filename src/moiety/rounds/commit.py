"""From replies to the next state: they are weighed and folded one by one, then the server steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from moiety.core.protocols import Method, OpenMerge
from moiety.core.state import Reply, State
from moiety.core.store import Store


def open_optimizer_stores(method: Method, state: State) -> dict[str, Store]:
    """Open the sections of travelling memory; what has no dims (a step count) lies on no axis."""
    axes = method.model.axes
    return {
        section: method.store(
            tensors, {n: axes[n] for n, t in tensors.items() if n in axes and t.ndim}
        )
        for section, tensors in state.optimizer_state.items()
    }


@dataclass(frozen=True)
class Commit:
    """A commit under way: replies go in one by one, in job order, and the next state comes out.

    Args:
        method: the choices.
        state: that the server has.
        merge: of the pieces.
        optimizer_state: section -> the fold of the memory that travels with them.
    """

    method: Method
    state: State
    merge: OpenMerge
    optimizer_state: Mapping[str, Store]

    def add(self, reply: Reply) -> None:
        """Fold one reply and what travels with it, weighed alike."""
        for section, tensors in reply.optimizer_state.items():
            weight = self.method.merge.weigh(reply)
            self.optimizer_state[section].add(reply.share.part, tensors, weight)
        self.merge.add(reply)

    def close(self) -> State:
        """Move the server towards what was merged."""
        state, merged = self.state, self.merge.close()
        params, server = self.method.server(state.params, merged.params, merged.held, state.server)
        frozen = {
            name: state.params[name] if rule == "keep" else merged.params[name]
            for name, rule in self.method.model.buffers.items()
        }
        return replace(
            state,
            round=state.round + 1,
            params={**params, **frozen},
            server=server,
            optimizer_state={name: one.close()[0] for name, one in self.optimizer_state.items()},
        )


def begin_commit(method: Method, state: State) -> Commit:
    """Begin a commit."""
    merge = method.merge.begin(method.store(state.params, method.model.axes))
    return Commit(method, state, merge, open_optimizer_stores(method, state))


def commit_replies(method: Method, state: State, replies: Iterable[Reply]) -> State:
    """Fold replies that are there already, in job order, into the next state."""
    commit = begin_commit(method, state)
    for reply in replies:
        commit.add(reply)
    return commit.close()
