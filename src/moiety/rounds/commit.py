"""From replies to the next state: they are weighed and folded one by one, then the server steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch

from moiety.core.fold import Precision
from moiety.core.protocols import Method, OpenMerge
from moiety.core.state import Reply, State
from moiety.core.store import Store
from moiety.core.types import Memory, Params


def open_optimizer_stores(method: Method, sections: Memory) -> dict[str, Store]:
    """Open the sections of travelling memory; what has no dims (a step count) lies on no axis."""
    axes = method.model.axes
    return {
        section: method.store(
            tensors, {n: axes[n] for n, t in tensors.items() if n in axes and t.ndim}
        )
        for section, tensors in sections.items()
    }


@dataclass(frozen=True)
class Commit:
    """A commit under way: replies go in one by one, in job order, and the next state comes out.

    Args:
        method: the choices.
        state: that the server has.
        merge: of the pieces.
        optimizer_state: section -> the fold of the memory that travels with them; of means over
            workers, the fold of their changes.
        workers: whose replies went in.
    """

    method: Method
    state: State
    merge: OpenMerge
    optimizer_state: Mapping[str, Store]
    workers: list[int] = field(default_factory=list)

    def add(self, reply: Reply) -> None:
        """Fold one reply and what travels with it, weighed alike; changes of means weigh 1."""
        self.workers.append(reply.worker)
        for section, tensors in reply.optimizer_state.items():
            plain = section in self.method.worker_means
            weight = Precision() if plain else self.method.merge.weigh(reply)
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
            optimizer_state={
                section: self.close_section(section) for section in state.optimizer_state
            },
        )

    def close_section(self, section: str) -> Params:
        """Close the fold of a section; a mean over N workers moves by 1/N of all changes."""
        folded = self.optimizer_state[section].close()[0]
        if section not in self.method.worker_means:
            return folded
        share = len(self.workers) / self.method.worker_means[section]
        told = self.state.optimizer_state[section]
        return {name: told[name] + change * share for name, change in folded.items()}


def begin_commit(method: Method, state: State) -> Commit:
    """Begin a commit."""
    merge = method.merge.begin(method.store(state.params, method.model.axes))
    changes = {
        section: {name: torch.zeros_like(t) for name, t in state.optimizer_state[section].items()}
        for section in method.worker_means
    }
    stores = open_optimizer_stores(method, {**state.optimizer_state, **changes})
    return Commit(method, state, merge, stores)


def commit_replies(method: Method, state: State, replies: Iterable[Reply]) -> State:
    """Fold replies that are there already, in job order, into the next state."""
    commit = begin_commit(method, state)
    for reply in replies:
        commit.add(reply)
    return commit.close()
