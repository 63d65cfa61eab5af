"""What can be played in blocks, of which no process ever has all."""

from __future__ import annotations

from moiety.recipes.record import Federation

ASSIGNED, SHARDED = ("ist", "gist"), ("normed", "gcn", "sage")
"""Methods and networks that are played in blocks: hands are smaller than the whole, and the whole
is scored without being anywhere."""


def check_blocks(record: Federation, method: str) -> None:
    """Refuse what needs the whole somewhere.

    Raises:
        ValueError: with the remedy.
    """
    plain = record.device == "cpu" and record.schedule.is_synchronous
    if method not in ASSIGNED:
        raise ValueError(
            f"engine {record.engine!r} plays {' and '.join(ASSIGNED)}, but {method} was asked for; "
            "say --methods ist (graphs: gist), or --engine collective, which keeps the whole at "
            "every rank"
        )
    if record.net not in SHARDED or not plain or record.population.public:
        raise ValueError(
            f"engine {record.engine!r} plays {', '.join(SHARDED)} networks on the CPU, in rounds, "
            f"without public rows: got net={record.net!r}, device={record.device!r}, "
            f"schedule.kind={record.schedule.kind!r}, "
            f"population.public={record.population.public}; "
            "change these (--net normed ...), or say --engine collective, which keeps the "
            "whole at every rank"
        )
    if record.local.by_rows or record.schedule.has_clock:
        raise ValueError(
            f"engine {record.engine!r} has no clock and takes the plain mean of holders: got "
            f"schedule.speeds={record.schedule.speeds}, local.by_rows={record.local.by_rows}; "
            "leave these out, or say --engine collective"
        )
