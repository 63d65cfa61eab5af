"""Who takes part: properties by hand, and work that does not grow with the population."""

import sys
import tracemalloc
from collections import Counter

import pytest

from moiety.core.ledger import read_ledger
from moiety.core.streams import hash_address
from moiety.rounds.cohort import (
    AvailableCohort,
    FixedCohort,
    StratifiedCohort,
    UniformCohort,
    spread_chances,
)
from moiety.run.cli import main


def check_drawn(cohort, size: int, population: int) -> None:
    drawn = [cohort(place, 7) for place in range(50)]
    for workers in drawn:
        assert list(workers) == sorted(set(workers))
        assert len(workers) == size
        assert set(workers) <= set(range(population))
    assert drawn == [cohort(place, 7) for place in range(50)]
    assert drawn != [cohort(place, 8) for place in range(50)]
    assert len(set(drawn)) > 1


def test_uniform_draws_everyone_alike():
    cohort = UniformCohort(10, 3)
    check_drawn(cohort, 3, 10)
    counts = Counter(worker for place in range(3000) for worker in cohort(place, 0))
    # 900 expected of each; the standard deviation is sqrt(3000 * 0.3 * 0.7) = 25.
    assert set(counts) == set(range(10))
    assert all(abs(count - 900) < 125 for count in counts.values())


def test_all_of_them():
    assert UniformCohort(5, 5)(3, 1) == (0, 1, 2, 3, 4)
    assert FixedCohort((4, 2))(0, 1) == FixedCohort((4, 2))(9, 8) == (4, 2)


@pytest.mark.parametrize("size", [0, 6, -1])
def test_a_size_that_cannot_be(size):
    with pytest.raises(ValueError, match=f"{size} workers a round of 5; choose 1 to 5"):
        UniformCohort(5, size)


def test_strata_draw_so_many_of_each():
    cohort = StratifiedCohort(((0, 1, 2, 3), (10, 11, 12), (20,)), (2, 1, 0))
    for place in range(60):
        drawn = cohort(place, 3)
        assert [sum(w // 10 == group for w in drawn) for group in range(3)] == [2, 1, 0]
        assert list(drawn) == sorted(drawn)
    counts = Counter(worker for place in range(2000) for worker in cohort(place, 0))
    assert all(abs(counts[worker] - 1000) < 115 for worker in range(4))
    assert all(abs(counts[worker] - 667) < 110 for worker in (10, 11, 12))
    with pytest.raises(ValueError, match="cannot draw 3 workers a round of a group of 2"):
        StratifiedCohort(((1, 2),), (3,))
    with pytest.raises(ValueError, match="draws nobody"):
        StratifiedCohort(((1, 2),), (0,))


def test_the_available_are_drawn_alike():
    cohort = AvailableCohort(20, 4, lambda worker: 0.0 if worker % 2 else 0.75)
    counts: Counter = Counter()
    for place in range(2000):
        drawn = cohort(place, 0)
        assert len(drawn) <= 4
        assert all(worker % 2 == 0 for worker in drawn)
        assert all(cohort.is_available(worker, place, 0) for worker in drawn)
        counts.update(drawn)
    # Ten workers share at most 8,000 places; low numbers are not preferred.
    share = sum(counts.values()) / 10
    assert all(abs(counts[worker] - share) < 120 for worker in range(0, 20, 2))


def test_all_available_are_taken_where_they_are_few():
    cohort = AvailableCohort(6, 6, lambda worker: 0.5)
    for place in range(20):
        here = {w for w in range(6) if hash_address(0, place, w, "available") / 2**63 < 0.5}
        if here:
            assert set(cohort(place, 0)) == here
    with pytest.raises(ValueError, match="no worker is available in round 5; raise the chance"):
        AvailableCohort(6, 2, lambda worker: 0.0)(4, 0)


def test_chances_are_spread_evenly():
    chance = spread_chances([3, 5, 9], 0.2, 1.0)
    assert [chance(worker) for worker in (3, 5, 9)] == pytest.approx([0.2, 0.6, 1.0])
    assert spread_chances([8], 0.2, 1.0)(8) == pytest.approx(0.2)


def count_lines(work) -> int:
    """Count the lines of Python that some work runs: what no busy machine changes."""
    count = 0

    def look(frame, event, _):
        nonlocal count
        count += event == "line"
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("make", [
    lambda population: UniformCohort(population, 10),
    lambda population: AvailableCohort(population, 10, lambda worker: 0.5),
    lambda population: StratifiedCohort((range(10), range(10, population)), (5, 5)),
])  # fmt: skip
def test_a_million_workers_cost_no_more_than_a_thousand(make):
    peaks, lines = [], []
    for population in (1000, 10**6):
        cohort = make(population)
        cohort(0, 0)
        lines.append(count_lines(lambda cohort=cohort: [cohort(place, 0) for place in range(20)]))
        tracemalloc.start()
        drawn = [cohort(place, 0) for place in range(20)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert all(len(workers) == 10 for workers in drawn)
    assert max(w for workers in drawn for w in workers) > 500_000
    assert peaks[1] < 2 * peaks[0] + 10_000
    assert lines[1] < 2 * lines[0]


def test_hands_are_those_of_all_places_where_fewer_turn_up(tmp_path):
    """Else a worker would hold more than the share that the whole is calibrated for."""
    words = ["run", "ist-digits", "--methods", "ist", "--seeds", "1", "--rounds", "6"]
    words += [
        "--normed.hidden",
        "32",
        "32",
        "--participation.chance",
        "0.6",
        "--out",
        str(tmp_path / "x"),
    ]
    assert main(words) == 0
    rounds = read_ledger(tmp_path / "x" / "ledger.jsonl").rounds
    assert {len(entry.workers) for entry in rounds} - {4}
    for entry in rounds:
        for worker in entry.workers:
            assert worker.held["h1"] == 8
