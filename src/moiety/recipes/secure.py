"""Whether secure sums fit what else a recipe says."""

from moiety.recipes.record import Federation
from moiety.rounds.judging import Judging


def check_secure(record: Federation) -> None:
    """Refuse what secure sums cannot do, or what would look at individuals.

    Raises:
        ValueError: with the value and the remedy.
    """
    record.secure.check()
    if not record.secure.threshold:
        return
    said = f"secure.threshold={record.secure.threshold} gives the server sums alone, but"
    if not record.schedule.is_synchronous:
        raise ValueError(
            f"{said} schedule.kind={record.schedule.kind!r} uses late replies, whose masks were "
            "made with others than those who are there; take schedule.kind sync"
        )
    if record.wire.up:
        raise ValueError(
            f"{said} wire.up={list(record.wire.up)} codes each reply by itself: scales and places "
            "are its worker's own, so codes do not add up. Leave wire.up out; wire.down may stay"
        )
    if record.judging != Judging():
        raise ValueError(
            f"{said} judging.change={record.judging.change} looks at every reply by itself; leave "
            "it out: a worker refuses changes beyond secure.range itself"
        )
