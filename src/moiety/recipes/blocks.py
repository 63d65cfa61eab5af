"""What can be played in blocks, of which no process ever has all."""

from __future__ import annotations

from moiety.recipes.record import Federation

DEALT, SHARDED = ("ist", "gist"), ("normed", "gcn", "sage")
"""Methods and networks that are played in blocks: hands are smaller than the whole, and the whole
is scored without being anywhere."""


def check_blocks(record: Federation, method: str) -> None:
    """Refuse what needs the whole somewhere.

    Raises:
        ValueError: with the remedy.
    """
    net, plain = record.net, record.device == "cpu" and record.pace.waits
    if method not in DEALT:
        raise ValueError(
            f"engine {record.engine!r} plays {' and '.join(DEALT)}, but {method} was asked for; "
            "say --methods ist (graphs: gist), or --engine collective, which keeps the whole at "
            "every rank"
        )
    if net.kind not in SHARDED or not plain or record.population.public:
        raise ValueError(
            f"engine {record.engine!r} plays {', '.join(SHARDED)} networks on the CPU, in rounds, "
            f"without public rows: got net.kind={net.kind!r}, device={record.device!r}, "
            f"pace.kind={record.pace.kind!r}, population.public={record.population.public}; change "
            "these (--net.kind normed ...), or say --engine collective, which keeps the whole at "
            "every rank"
        )
    if record.local.by_rows or record.pace.ticks:
        raise ValueError(
            f"engine {record.engine!r} has no clock and takes the plain mean of holders: got "
            f"pace.speeds={record.pace.speeds}, local.by_rows={record.local.by_rows}; leave these "
            "out, or say --engine collective"
        )
