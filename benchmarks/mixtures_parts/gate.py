"""A figure asked for, and the figure measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gate:
    """One line of the report; ``passed`` is None where the gate was not run or asks for no bar."""

    name: str
    asked: str
    measured: str
    passed: bool | None

    @property
    def state(self) -> str:
        """Say how it went."""
        if self.passed is None:
            return "not run" if self.measured.startswith("not run") else "reported"
        return "pass" if self.passed else "FALLS SHORT"

    def line(self) -> str:
        """Give the line to print."""
        state = self.state
        return f"[{state:>11}] {self.name}: asked {self.asked}; measured {self.measured}"


@dataclass(frozen=True)
class Section:
    """What a section found: its gates, and all its numbers."""

    gates: list[Gate]
    numbers: dict[str, Any]


def not_run(name: str, asked: str, why: str) -> Gate:
    """Make a gate that was not run."""
    return Gate(name, asked, f"not run ({why})", None)
