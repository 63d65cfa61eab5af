"""Whether a pace fits the workers of a recipe."""

from moiety.recipes.record import Federation


def check_pace(record: Federation, workers: int, *, anchors: bool) -> None:
    """Refuse a pace that does not fit the workers or who of them takes part."""
    record.pace.check(workers)
    drawn = record.turnout
    if not record.pace.waits and (
        drawn.chance < 1 or (drawn.anchors >= 0 and anchors and not drawn.fixed)
    ):
        raise ValueError(
            f"pace.kind={record.pace.kind!r} sends out whoever is idle, but turnout.chance="
            f"{drawn.chance} and turnout.anchors={drawn.anchors} say who takes part in a round; "
            "choose chance 1 and anchors -1, or pace.kind sync"
        )
