"""Whether a schedule, and who takes part, fit the workers of a recipe."""

from moiety.core.protocols import Method
from moiety.merge.stack import Stack
from moiety.recipes.record import Federation


def check_late_replies(record: Federation, method: Method) -> None:
    """Refuse a schedule that draws late replies back where the merge gives other coordinates."""
    if not record.schedule.is_synchronous and isinstance(method.merge, Stack):
        raise ValueError(
            f"schedule.kind={record.schedule.kind!r} draws late replies back number by number, but "
            f"{method.name} finds other factors of a product each round; take schedule.kind sync, "
            f"or --{method.name}.merge holders"
        )


def check_schedule(record: Federation, workers: int, *, anchors: bool) -> None:
    """Refuse a cohort of nobody, and a schedule that fits neither workers nor participation."""
    drawn = record.participation
    if drawn.size < 1:
        raise ValueError(f"participation.size={drawn.size}; choose at least 1 worker a round")
    if not 0 < drawn.chance <= 1:
        raise ValueError(
            f"participation.chance={drawn.chance}; choose a chance above 0 and at most 1"
        )
    record.schedule.check(workers)
    if not record.schedule.is_synchronous and (
        drawn.chance < 1 or (drawn.anchors >= 0 and anchors and not drawn.fixed)
    ):
        raise ValueError(
            f"schedule.kind={record.schedule.kind!r} sends out whoever is idle, but "
            f"participation.chance={drawn.chance} and participation.anchors={drawn.anchors} say "
            "who takes part in a round; choose chance 1 and anchors -1, or schedule.kind sync"
        )
