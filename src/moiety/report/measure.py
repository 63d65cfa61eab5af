"""What series are compared by, and how its values are written."""

from __future__ import annotations

from dataclasses import dataclass

from moiety.core.objective import SHARE, MetricEntry
from moiety.report.frames import Spread
from moiety.report.numbers import (
    NONE,
    format_number,
    format_percent,
    format_percent_spread,
    format_points,
)


@dataclass(frozen=True)
class Measure:
    """A metric as reports write it: shares in percent, other numbers with their unit.

    Args:
        entry: of the ledger.
    """

    entry: MetricEntry

    @property
    def share(self) -> bool:
        """Whether values are shares, shown in percent."""
        return self.entry.unit == SHARE

    @property
    def word(self) -> str:
        """The metric's name within a sentence."""
        return self.entry.name.replace("_", " ")

    @property
    def title(self) -> str:
        """The metric's name at the beginning of one."""
        return self.word[:1].upper() + self.word[1:]

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.entry.higher_is_better else -1

    @property
    def ahead(self) -> str:
        """Where the better one lies."""
        return "above" if self.entry.higher_is_better else "below"

    @property
    def scale(self) -> int:
        """What tables multiply values by."""
        return 100 if self.share else 1

    def label(self, what: str) -> str:
        """Name values with their unit, for a heading."""
        unit = "%" if self.share else self.entry.unit
        return f"{what} ({unit})" if unit else what

    def write_value(self, value: float) -> str:
        """Write a value."""
        return format_percent(value) if self.share else self._unit(format_number(value))

    def write_spread(self, value: Spread | None) -> str:
        """Write a value with its sample standard deviation over seeds."""
        if value is None:
            return NONE
        if self.share:
            return format_percent_spread(value)
        mean = format_number(value.mean)
        return self._unit(mean if value.std is None else f"{mean} ± {format_number(value.std)}")

    def write_gap(self, gap: float) -> str:
        """Write a difference."""
        return format_points(gap) if self.share else self._unit(format_number(gap))

    def _unit(self, text: str) -> str:
        return f"{text} {self.entry.unit}".rstrip()
