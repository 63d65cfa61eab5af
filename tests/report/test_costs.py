"""What reports draw by cost, what they warn of, and how pictures stay readable."""

from types import SimpleNamespace
from typing import Any

import pytest

from moiety.report.costs import sum_bytes, sum_seconds
from moiety.report.covers import count_covers
from moiety.report.frames import Point, Spread
from moiety.report.plots import PercentTicks


def play(number, workers, seconds):
    """Make a round of which each worker is sent 10 bytes and sends 5."""
    return SimpleNamespace(
        round=number, seconds=seconds, down_bytes=10 * len(workers), up_bytes=5 * len(workers),
        workers=[SimpleNamespace(worker=worker) for worker in workers],
    )  # fmt: skip


def test_costs_add_up_and_what_is_sent_once_counts_once():
    rounds = [play(1, [0, 1], 0.5), play(2, [1, 2], 0.25)]
    ledger: Any = SimpleNamespace(start=SimpleNamespace(constant_bytes=100), rounds=rounds)
    assert sum_bytes(ledger) == {0: 0, 1: 30 + 200, 2: 60 + 300}
    assert sum_seconds(ledger) == {0: 0, 1: 0.5, 2: 0.75}


@pytest.mark.parametrize(("shares", "written"), [
    ([0.0, 0.5, 1.0], ["0", "50", "100"]),
    ([0.97, 0.975, 0.98], ["97.0", "97.5", "98.0"]),
    ([0.9975, 0.998], ["99.75", "99.80"]),
])  # fmt: skip
def test_ticks_differ(shares, written):
    ticks = PercentTicks()
    ticks.set_locs(shares)
    assert [ticks(share) for share in shares] == written


def curve(label, *means):
    """Make a curve over rounds."""
    return [Point(label, at, Spread(mean, None, mean, mean, 1)) for at, mean in enumerate(means)]


def test_lines_that_lie_on_each_other_are_counted_from_beneath():
    one, same, apart = curve("a", 0.1, 0.9), curve("b", 0.1, 0.901), curve("c", 0.1, 0.8)
    assert count_covers([one, same, apart]) == [1, 0, 0]
    assert count_covers([one, [], one[:1]]) == [0, 0, 0]
    assert count_covers([]) == []
