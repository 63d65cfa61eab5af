"""How experts of a gate are used: whether they tell classes apart, and whether anchors find theirs.

Letters: E experts, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from moiety.core.keep import find_final_evaluation
from moiety.core.ledger import Ledger
from moiety.report.numbers import format_percent

ANCHOR = "anchor"
"""The role of a worker that always holds the same expert."""


def measure_information(counts: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Give the mutual information of expert and class, and the most it could be, in bits.

    Args:
        counts: rows of each class that each expert answered, [E, C].

    >>> measure_information([[5, 0], [0, 5]]), measure_information([[5, 5], [0, 0]])
    ((1.0, 1.0), (0.0, 1.0))
    """
    total = sum(map(sum, counts))
    if not total:
        return 0.0, 0.0
    experts = [sum(row) / total for row in counts]
    classes = [sum(column) / total for column in zip(*counts, strict=True)]
    told = sum(
        n / total * math.log2(n / total / (experts[e] * classes[c]))
        for e, row in enumerate(counts)
        for c, n in enumerate(row)
        if n
    )
    return abs(told), -sum(p * math.log2(p) for p in classes if p)  # rounding may fall below 0


def find_anchors_of(ledger: Ledger) -> dict[int, int]:
    """Find the anchors that took part in a run: worker -> its expert."""
    return {
        work.worker: next(iter(work.part.values()))[0]
        for entry in ledger.rounds
        for work in entry.workers
        if work.role == ANCHOR and work.part
    }


def measure_agreement(ledger: Ledger) -> float | None:
    """Give the share of rows that went to the expert whose anchor has most rows of their class.

    None where no anchor took part, where rows per class are not in the ledger, or nothing was
    routed.
    """
    routes, seen = find_final_evaluation(ledger).routes, ledger.start.seen
    anchors = find_anchors_of(ledger)
    if not anchors or not any(map(sum, routes)) or len(seen) <= max(anchors):
        return None
    right = 0
    for place in range(len(routes[0])):
        held = {expert: seen[worker][place] for worker, expert in anchors.items()}
        right += routes[max(held, key=held.__getitem__)][place]
    return right / sum(map(sum, routes))


def describe_use(ledger: Ledger, kind: str = "class") -> str:
    """Say in a sentence how much experts tell of classes, and how far the gate follows anchors.

    Args:
        ledger: of a run.
        kind: the word for a class.
    """
    bits, most = measure_information(find_final_evaluation(ledger).routes)
    told = f"Which expert answers tells {bits:.2f} of {most:.2f} bits of the {kind}"
    agreement = measure_agreement(ledger)
    if agreement is None:
        return f"{told}."
    share = format_percent(agreement)
    return f"{told}; {share} of the rows go to the expert whose anchor holds most of their {kind}."
