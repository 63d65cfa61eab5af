"""Everyone gets a part that is fixed once and for all."""

from collections.abc import Mapping
from dataclasses import dataclass

from moiety.core.state import Share, State, Turn


@dataclass(frozen=True)
class Own:
    """Give each worker the part that belongs to it.

    Args:
        shares: worker -> its part and role.
    """

    shares: Mapping[int, Share]

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]:
        del state
        missing = [worker for worker in turn.cohort if worker not in self.shares]
        if missing:
            raise ValueError(f"workers {missing[:5]} have no part of their own; name one for each")
        return {worker: self.shares[worker] for worker in turn.cohort}
