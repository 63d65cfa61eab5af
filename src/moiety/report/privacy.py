"""What private runs promise, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moiety.core.ledger import Ledger


def describe_privacy(ledgers: Sequence[Ledger]) -> list[str]:
    """Say of every private run what it promises."""
    return [text for ledger in ledgers for text in describe_run_privacy(ledger)]


def describe_run_privacy(ledger: Ledger) -> Iterator[str]:
    """Say what a run promises to workers and to rows."""
    config, rounds = ledger.start.config.get("privacy", {}), ledger.rounds
    who = f"{ledger.start.method}, seed {ledger.start.seed}, after {len(rounds)} rounds"
    if rounds and rounds[-1].epsilon is not None:
        yield (
            f"{who}: epsilon {rounds[-1].epsilon:.4g} for a worker at delta {config['delta']:g} "
            f"(clip {config['clip']:g}, noise {config['noise']:g}, cohort {config['cohort']})."
        )
    told = [one for entry in rounds for one in (entry.row_epsilon or {}).values()]
    if told:
        yield (
            f"{who}: epsilon {max(told):.4g} at most for a row at delta {config['delta']:g} "
            f"(clip {config['row_clip']:g}, noise {config['row_noise']:g})."
        )
