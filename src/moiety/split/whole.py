"""Everyone gets everything, or everything of some names."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from moiety.core.axes import Part
from moiety.core.state import Share, State, Turn


@dataclass(frozen=True)
class Whole:
    """Give every worker the same part, by default the whole model.

    Args:
        part: what everyone gets; a part by names leaves personal parameters out.
    """

    part: Part = field(default_factory=Part)

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]:
        del state
        return dict.fromkeys(turn.cohort, Share(self.part))
