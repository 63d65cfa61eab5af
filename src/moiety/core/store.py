"""Where the whole lives, behind three verbs, so that it need not live in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from moiety.core.axes import Axes, Part, take_piece
from moiety.core.fold import Precision, Total, divide_sums, fold_piece
from moiety.core.types import Params


class Store(Protocol):
    """The whole model during one round."""

    def take(self, part: Part, /) -> Params:
        """Cut a piece."""
        ...

    def add(self, part: Part, piece: Params, precision: Precision, /) -> None:
        """Add a piece to the fold."""
        ...

    def close(self) -> tuple[Params, Params]:
        """End the fold: merged parameters, and masks of what somebody held."""
        ...


@dataclass(frozen=True)
class LocalStore:
    """The whole in the memory of one process."""

    params: Params
    axes: Axes
    total: Total = field(default_factory=Total)

    def take(self, part: Part, /) -> Params:
        return take_piece(self.params, self.axes, part)

    def add(self, part: Part, piece: Params, precision: Precision, /) -> None:
        fold_piece(self.total, self.params, self.axes, part, piece, precision)

    def close(self) -> tuple[Params, Params]:
        return divide_sums(self.total, self.params)
