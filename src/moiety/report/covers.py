"""Lines that lie on each other."""

from __future__ import annotations

from collections.abc import Sequence

from moiety.report.frames import Point
from moiety.report.series import Series


def count_covers(curves: Sequence[Sequence[Point]]) -> list[int]:
    """Count for each curve the later ones that lie on it, and would hide it.

    Two lie on each other where they are of the same rounds and nowhere a fiftieth of the range of
    all curves apart.
    """
    values = [point.value.mean for curve in curves for point in curve]
    near = (max(values) - min(values)) / 50 if values else 0.0

    def lies_on(one: Sequence[Point], other: Sequence[Point]) -> bool:
        alike = [p.round for p in one] == [p.round for p in other]
        pairs = zip(one, other, strict=False)
        return alike and all(abs(p.value.mean - q.value.mean) <= near for p, q in pairs)

    return [
        sum(lies_on(curve, other) for other in curves[at + 1 :]) if curve else 0
        for at, curve in enumerate(curves)
    ]


def describe_covers(series: Sequence[Series], points: Sequence[Point]) -> str:
    """Say which lines lie on each other; the lower one is drawn wide and pale."""
    found = [[p for p in points if p.label == one.label and not one.reference] for one in series]
    hidden = [one.label for one, n in zip(series, count_covers(found), strict=True) if n]
    told = f"{', '.join(hidden)}: another line lies on it, so it is wide and pale"
    return f" {told}." if hidden else ""
