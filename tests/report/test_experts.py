"""How experts are used, worked out on paper."""

import math
from dataclasses import replace

import pytest

from moiety.core.objective import MetricEntry
from moiety.report.experts import describe_use, measure_agreement, measure_information
from moiety.report.frames import WorkerScore, average_worst_tenth, summarize_series
from moiety.report.series import group_series
from tests.report.conftest import round_, work


def test_information_of_expert_and_class():
    """Expert 0 answers class 0 alone; expert 1 answers a third of it, and all of class 1."""
    bits, most = measure_information([[4, 0], [2, 6]])
    wanted = 1 / 3 * math.log2(2) + 1 / 6 * math.log2(1 / 2) + 1 / 2 * math.log2(3 / 2)
    assert bits == pytest.approx(wanted)
    assert most == pytest.approx(1.0)
    assert measure_information([[0, 0]]) == (0.0, 0.0)


@pytest.mark.parametrize(("anchors", "share"), [({0: 1, 1: 0}, 0.75), ({}, None)])
def test_the_gate_agrees_with_anchors(make, anchors, share):
    """Worker 0 has class 0, worker 1 class 1: their experts are 1 and 0."""
    entries = make.small("ddome", 0, 0.0)
    jobs = [
        replace(work(worker), role="anchor", part={"expert": [e]}) for worker, e in anchors.items()
    ]
    entries[2] = round_(1, [*jobs, work(1)])
    entries[4] = replace(entries[4], routes=[[1, 5], [4, 2]])
    told = make.ledger(entries)
    assert measure_agreement(told) == share
    assert ("75.0 % of the rows go" in describe_use(told)) == (share is not None)
    assert "bits of the class" in describe_use(told)
    assert "bits of the skill" in describe_use(told, "skill")


def test_the_worst_tenth_is_one_worker_at_least(make):
    scores = [WorkerScore("x", 0, "seen", w, value, 1) for w, value in enumerate(range(20))]
    more, less = (MetricEntry("m", higher_is_better=up) for up in (True, False))
    assert average_worst_tenth(scores, more) == 0.5
    assert average_worst_tenth(scores, less) == 18.5
    assert average_worst_tenth(scores[:3], more) == 0
    [row] = summarize_series(group_series([make.ledger(make.small("ddome", 0, 0.0))]))
    assert row.worst_tenth == row.worst  # of three workers
