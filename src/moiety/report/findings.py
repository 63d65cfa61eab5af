"""What the numbers say, in words: who leads, by how much against the spread, and what to doubt."""

from __future__ import annotations

from collections.abc import Sequence

from moiety.core.ledger import Ledger
from moiety.report.frames import ORDER, Spread, Summary, last
from moiety.report.maps import unlike
from moiety.report.numbers import as_percent, points
from moiety.report.series import Series, status


def judged(rows: Sequence[Summary]) -> str:
    """Name the group that decides: the unseen workers, else those seen, else the first there is.

    Returns an empty string where no group has a worker with rows.
    """
    found = [name for row in rows for name in row.groups]
    return next((name for name in (*reversed(ORDER), *found) if name in found), "")


def ranked(rows: Sequence[Summary]) -> list[tuple[Summary, Spread]]:
    """Sort series by their accuracy on the group that decides, best first."""
    group = judged(rows)
    found = [(row, row.groups[group]) for row in rows if group in row.groups]
    return sorted(found, key=lambda pair: -pair[1].mean)


def noise(one: Spread, other: Spread) -> float | None:
    """Return the larger of two sample standard deviations, or None where neither has one."""
    found = [value.std for value in (one, other) if value.std is not None]
    return max(found, default=None)


def verdict(margin: float, doubt: float | None) -> str:
    """Hold a margin against the spread over seeds."""
    if doubt is None:
        return "with one seed each there is no spread to judge this by"
    if margin > doubt:
        return f"more than the spread over seeds ({points(doubt)})"
    return f"not more than the spread over seeds ({points(doubt)}), so they cannot be told apart"


def seeds(row: Summary) -> str:
    """Count seeds in words.

    One seed is singular.
    """
    return f"{len(row.seeds)} seed{'' if len(row.seeds) == 1 else 's'}"


def headline(rows: Sequence[Summary]) -> str:
    """Say in one sentence who leads and by how much against the spread over seeds."""
    order = ranked(rows)
    if not order:
        return "No worker had rows to be judged on."
    group = f"{judged(rows)} workers"
    (best, top), *others = order
    reached = f"{as_percent(top)} ({seeds(best)})"
    if not others:
        return f"{best.label} reaches {reached} on the {group}; there is no other to compare with."
    second, next_best = others[0]
    margin = top.mean - next_best.mean
    lost = "No trained method leads: " if best.reference else ""
    return (
        f"{lost}{best.label} {'and ' + second.label + ' tie' if margin == 0 else 'leads'} "
        f"on the {group} with {reached}, {points(margin)} above {second.label} "
        f"({as_percent(next_best)}): {verdict(margin, noise(top, next_best))}."
    )


def against(rows: Sequence[Summary]) -> list[str]:
    """Say of every series but the two best how far it is behind, and of any that training hurt."""
    order = ranked(rows)
    said = []
    for row, value in order[2:]:
        best, top = order[0]
        margin = top.mean - value.mean
        said.append(
            f"{row.label} is {points(margin)} behind {best.label}: "
            f"{verdict(margin, noise(top, value))}."
        )
    for row, value in order:
        for other, bar in order:
            if other.reference and not row.reference and bar.mean > value.mean:
                said.append(
                    f"{row.label} loses to {other.label}, which was not trained, "
                    f"by {points(bar.mean - value.mean)}: "
                    f"{verdict(bar.mean - value.mean, noise(bar, value))}."
                )
    return said


def warnings(ledgers: Sequence[Ledger], found: Sequence[Series]) -> list[str]:
    """List what a reader must know before trusting a comparison."""
    return [*_endings(ledgers), *_conditions(found)]


def _endings(ledgers: Sequence[Ledger]) -> list[str]:
    said = []
    for ledger in ledgers:
        how, who = status(ledger), f"{ledger.start.method}, seed {ledger.start.seed}"
        done = len(ledger.rounds)
        if how != "finished":
            reason = ledger.end.reason if ledger.end else "its ledger has no end"
            because = f": {reason}" if reason else ""
            said.append(f"{who}: {how} after {done} of {ledger.start.rounds} rounds{because}.")
        if not ledger.evaluations:
            said.append(f"{who}: left out of the comparison, for it holds no evaluation.")
    return said


def _conditions(found: Sequence[Series]) -> list[str]:
    said = []
    if other := unlike(found):
        named = ", ".join(str(seed) for seed in other)
        said.append(f"The series were not run on the same partition for seed {named}.")
    trained = [one for one in found if not one.reference]
    ends = {one.label: sorted({last(run).round for run in one.ledgers}) for one in trained}
    if len({round_ for rounds in ends.values() for round_ in rounds}) > 1:
        named = "; ".join(
            f"{label} after {', '.join(str(at) for at in rounds)}" for label, rounds in ends.items()
        )
        said.append(f"The last evaluations are not of the same round: {named}.")
    return said
