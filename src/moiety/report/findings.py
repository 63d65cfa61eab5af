"""What the numbers say, in words: who leads, by how much against the spread, and what to doubt."""

from __future__ import annotations

from collections.abc import Sequence

from moiety.core.keep import VALIDATION, find_final_evaluation
from moiety.core.ledger import End, Ledger
from moiety.core.objective import OF_CLASSES
from moiety.report.frames import ORDER, Spread, Summary, describe_group
from moiety.report.matrices import find_unlike_seeds, tabulate_routes
from moiety.report.measure import Measure
from moiety.report.series import Series, read_status

LOST = 0.05
"""By what share of its value a common expert must be ahead for that to be said."""


def choose_deciding_group(rows: Sequence[Summary]) -> str:
    """Name the group that decides: the unseen workers, else those seen, else the first there is.

    Returns an empty string where no group has a worker with rows.
    """
    found = [name for row in rows for name in row.groups]
    return next((name for name in (*reversed(ORDER), *found) if name in found), "")


def choose_measure(rows: Sequence[Summary]) -> Measure:
    """Compare by the metric of the first series; a series of another one is not ranked."""
    return Measure(rows[0].metric if rows else OF_CLASSES[0])


def rank_series(rows: Sequence[Summary]) -> list[tuple[Summary, Spread]]:
    """Sort series by what counts of them on the group that decides, best first."""
    group, by = choose_deciding_group(rows), choose_measure(rows)
    alike = [row for row in rows if row.metric == by.entry]
    found = [(row, row.groups[group]) for row in alike if group in row.groups]
    return sorted(found, key=lambda pair: -by.sign * pair[1].mean)


def find_noise(one: Spread, other: Spread) -> float | None:
    """Return the larger of two sample standard deviations, or None where neither has one."""
    found = [value.std for value in (one, other) if value.std is not None]
    return max(found, default=None)


def describe_margin(margin: float, doubt: float | None, by: Measure) -> str:
    """Hold a margin against the spread over seeds."""
    if doubt is None:
        return "with one seed each there is no spread to judge this by"
    if margin > doubt:
        return f"more than the spread over seeds ({by.write_gap(doubt)})"
    return (
        f"not more than the spread over seeds ({by.write_gap(doubt)}), so they cannot be told apart"
    )


def describe_seeds(row: Summary) -> str:
    """Count seeds in words.

    One seed is singular.
    """
    return f"{len(row.seeds)} seed{'' if len(row.seeds) == 1 else 's'}"


def write_headline(rows: Sequence[Summary]) -> str:
    """Say in one sentence who leads and by how much against the spread over seeds."""
    order, by = rank_series(rows), choose_measure(rows)
    if not order:
        return "No worker had rows to be judged on."
    group = describe_group(choose_deciding_group(rows))
    (best, top), *others = order
    reached = f"{by.write_spread(top)} ({describe_seeds(best)})"
    if not others:
        return f"{best.label} reaches {reached} on the {group}; there is no other to compare with."
    second, next_best = others[0]
    margin = by.sign * (top.mean - next_best.mean)
    lost = "No trained method leads: " if best.reference else ""
    if margin == 0:
        return f"{lost}{best.label} and {second.label} tie on the {group} with {reached}."
    clear = describe_margin(margin, find_noise(top, next_best), by)
    return (
        f"{lost}{best.label} leads on the {group} with {reached}, {by.write_gap(margin)} "
        f"{by.ahead} {second.label} ({by.write_spread(next_best)}): {clear}."
    )


def describe_others(rows: Sequence[Summary]) -> list[str]:
    """Say of every series but the two best how far it is behind, and of any that training hurt."""
    order, by = rank_series(rows), choose_measure(rows)
    said = []
    for row, value in order[2:]:
        best, top = order[0]
        margin = by.sign * (top.mean - value.mean)
        said.append(
            f"{row.label} is {by.write_gap(margin)} behind {best.label}: "
            f"{describe_margin(margin, find_noise(top, value), by)}."
        )
    for row, value in order:
        for other, bar in order:
            margin = by.sign * (bar.mean - value.mean)
            if other.reference and not row.reference and margin > 0:
                said.append(
                    f"{row.label} loses to {other.label}, which was not trained, "
                    f"by {by.write_gap(margin)}: "
                    f"{describe_margin(margin, find_noise(bar, value), by)}."
                )
    return said


def list_warnings(ledgers: Sequence[Ledger], found: Sequence[Series]) -> list[str]:
    """List what a reader must know before trusting a comparison."""
    return [*_endings(ledgers), *_conditions(found), *_lost(ledgers), *_idle_experts(found)]


def _lost(ledgers: Sequence[Ledger]) -> list[str]:
    said = []
    for ledger in ledgers:
        by, bar = Measure(ledger.start.metrics[0]), ledger.start.common_score
        if bar is None or not ledger.rounds or not ledger.evaluations:
            continue
        group = find_final_evaluation(ledger).groups.get(VALIDATION)
        if group is None:
            continue
        scored = [*zip(group.metrics[by.entry.name], group.rows, strict=True)]
        reached = sum(value * rows for value, rows in scored if rows) / max(1, sum(group.rows))
        if by.sign * (bar - reached) > LOST * abs(bar):
            said.append(
                f"{ledger.start.method}, seed {ledger.start.seed}: on the validation rows its "
                f"{by.word} is {by.write_value(reached)}, worse than the {by.write_value(bar)} of "
                "its own common expert. More rounds or a larger rate may help; of a mixture, "
                "experts that begin as the common expert."
            )
    return said


def _idle_experts(found: Sequence[Series]) -> list[str]:
    said = []
    for routes in (routes for one in found for routes in tabulate_routes(one)):
        idle = [str(expert) for expert, row in enumerate(routes.counts) if not any(row)]
        if idle:
            many = f"experts {', '.join(idle)} serve" if idle[1:] else f"expert {idle[0]} serves"
            said.append(
                f"{routes.label}, seed {routes.seed}: {many} nobody: no row of the last evaluation "
                "was sent there."
            )
    return said


def _endings(ledgers: Sequence[Ledger]) -> list[str]:
    said = []
    for ledger in ledgers:
        how, who = read_status(ledger), f"{ledger.start.method}, seed {ledger.start.seed}"
        done = len(ledger.rounds)
        planned = max(done, ledger.start.rounds)  # a run may have been made longer
        if how != "finished":
            reason = ledger.end.reason if ledger.end else "its ledger has no end"
            because = f": {reason}" if reason else ""
            said.append(f"{who}: {how} after {done} of {planned} rounds{because}.")
        elif ledger.end and (told := _describe_end(ledger.end, planned)):
            said.append(f"{who}: {told}.")
        if not ledger.evaluations:
            said.append(f"{who}: left out of the comparison, for it holds no evaluation.")
    return said


def _describe_end(end: End, rounds: int) -> str:
    told = [f"training ended after {end.round} of {rounds} rounds: {end.reason}"] * bool(end.reason)
    if end.final is not None and end.final != end.round:
        told.append(f"the final model is that of round {end.final}, the best by validation rows")
    return "; ".join(told)


def _conditions(found: Sequence[Series]) -> list[str]:
    said = []
    measures = sorted({ledger.start.metrics[0].name for one in found for ledger in one.ledgers})
    if len(measures) > 1:
        said.append(f"The series are not scored alike, by {', '.join(measures)}; compare none.")
    if other := find_unlike_seeds(found):
        named = ", ".join(str(seed) for seed in other)
        said.append(f"The series were not run on the same partition for seed {named}.")
    trained = [one for one in found if not one.reference]
    ends = {
        one.label: sorted({find_final_evaluation(run).round for run in one.ledgers})
        for one in trained
    }
    if len({round_ for rounds in ends.values() for round_ in rounds}) > 1:
        named = "; ".join(
            f"{label} after {', '.join(str(at) for at in rounds)}" for label, rounds in ends.items()
        )
        said.append(f"The models compared are not of the same round: {named}.")
    return said
