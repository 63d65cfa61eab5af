"""What private runs promise, in words."""

from __future__ import annotations

from collections.abc import Sequence

from moiety.core.ledger import Ledger


def read_epsilon(ledger: Ledger) -> float | None:
    """Read what all rounds of a run told of one worker; None where nothing is promised."""
    found = [entry.epsilon for entry in ledger.rounds]
    return found[-1] if found else None


def describe_privacy(ledgers: Sequence[Ledger]) -> list[str]:
    """Say of every private run what it promises."""
    said = []
    for ledger in ledgers:
        epsilon, config = read_epsilon(ledger), ledger.start.config.get("privacy", {})
        if epsilon is not None:
            who = f"{ledger.start.method}, seed {ledger.start.seed}"
            said.append(
                f"{who}: epsilon {epsilon:.4g} for a worker at delta {config['delta']:g}, after "
                f"{ledger.rounds[-1].round} rounds (clip {config['clip']:g}, noise "
                f"{config['noise']:g}, cohort {config['cohort']})."
            )
    return said
