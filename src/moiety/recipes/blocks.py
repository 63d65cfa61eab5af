"""What can be played in blocks, of which no process ever has all."""

from __future__ import annotations

from moiety.recipes.record import Federation
from moiety.rounds.judging import Judging
from moiety.wire.config import WireConfig


def check_blocks(record: Federation) -> None:
    """Refuse what needs the whole somewhere; network and method are asked once they are made.

    Raises:
        ValueError: with the remedy.
    """
    plain = record.device == "cpu" and record.schedule.is_synchronous
    if not plain or record.population.public:
        raise ValueError(
            f"engine {record.engine!r} plays on the CPU, in rounds, without public rows: got "
            f"device={record.device!r}, schedule.kind={record.schedule.kind!r}, "
            f"population.public={record.population.public}; change these, or say --engine "
            "collective, which keeps the whole at every rank"
        )
    if record.judging != Judging() or record.merge.kind:
        raise ValueError(
            f"engine {record.engine!r} judges no replies and merges by the mean of holders, for no "
            f"rank has all of one: got {record.judging}, merge.kind={record.merge.kind!r}; leave "
            "these out, or say --engine collective"
        )
    if record.wire != WireConfig():
        raise ValueError(
            f"engine {record.engine!r} sends blocks as they are: got wire.up="
            f"{list(record.wire.up)}, wire.down={list(record.wire.down)}; leave these out, or say "
            "--engine collective, whose replies are coded"
        )
    if record.secure.threshold:
        raise ValueError(
            f"engine {record.engine!r} exchanges blocks, which show what each rank learnt: got "
            f"secure.threshold={record.secure.threshold}; leave it out, or say --engine serial"
        )
    if record.local.by_rows or record.schedule.has_clock:
        raise ValueError(
            f"engine {record.engine!r} has no clock and takes the plain mean of holders: got "
            f"schedule.speeds={record.schedule.speeds}, local.by_rows={record.local.by_rows}; "
            "leave these out, or say --engine collective"
        )
