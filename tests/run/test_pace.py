"""Runs whose server does not wait: fields, ledger, report."""

import json
from pathlib import Path

import pytest

from moiety.core.ledger import read_ledger
from moiety.report import frames
from moiety.report.series import group_series
from moiety.run.loop import LEDGER

PACE = {"kind": "buffered", "size": 2, "speeds": {"values": [1.0, 2.0, 5.0]}}


def test_the_ledger_tells_virtual_time_and_when_a_piece_was_cut(lab, tiny):
    record = tiny(rounds=9, schedule=PACE, participation={"anchors": -1})
    ledger = read_ledger(lab.play(record) / LEDGER)
    clocks = [entry.clock for entry in ledger.rounds]
    assert clocks == sorted(clocks)
    assert clocks[0] >= 1.0
    assert all(len(entry.workers) == 2 for entry in ledger.rounds)
    late = [r.round - 1 - work.model_version for r in ledger.rounds for work in r.workers]
    assert min(late) == 0
    assert max(late) > 0
    size = ledger.start.num_parameters * 4
    assert {work.down_bytes for r in ledger.rounds for work in r.workers} == {size}
    assert ledger.rounds[0].down_bytes >= 4 * size  # all who were sent out, back or not
    assert ledger.rounds[0].up_bytes == 2 * size


def test_a_synchronous_run_with_speeds_waits_for_the_slowest(lab, tiny, final):
    """Its numbers are those of the run without; six workers of one second, and the slow one."""
    speeds = {"speeds": {"values": [1.0, 1.0, 1.0, 1.0, 1.0, 7.0]}}
    plain, timed = lab.play(tiny(), name="plain"), lab.play(tiny(schedule=speeds), name="timed")
    assert final(plain) == final(timed)
    before = 0.0
    for entry in read_ledger(timed / LEDGER).rounds:
        slow = 5 in [work.worker for work in entry.workers]
        assert entry.clock == before + (7.0 if slow else 1.0)
        before = entry.clock
    assert {entry.clock for entry in read_ledger(plain / LEDGER).rounds} == {0.0}


def test_the_report_draws_by_virtual_time_where_there_is_one(lab, tiny):
    record = tiny(rounds=6, evaluate_every=3, schedule=PACE, participation={"anchors": -1})
    here, plain = lab.play(record, name="late"), lab.play(tiny(), name="plain")
    ledger = read_ledger(here / LEDGER)
    points = frames.tabulate_timed_metric(group_series([ledger]), "seen")
    assert [p.clock for p in points] == [ledger.rounds[2].clock, ledger.rounds[5].clock]
    assert not frames.tabulate_timed_metric(group_series([read_ledger(plain / LEDGER)]), "seen")


def test_flags_and_errors(moiety, small):
    words = [*small, "--methods", "fedavg", "--participation.anchors", "-1", "--json"]
    told = moiety("run", "yours", *words, "--schedule.kind", "buffered", "--schedule.size", 2)
    assert told.code == 0, told.err
    where = json.loads(told.out)["runs"][0]
    assert "--schedule.size 2" in read_ledger(Path(where) / LEDGER).start.command
    wrong = moiety("run", "yours", *words, "--schedule.kind", "buffered", "--schedule.size", 9)
    assert wrong.code != 0
    assert "schedule.size=9" in wrong.err
    assert "1 to 4" in wrong.err


@pytest.mark.parametrize("drawn", [{"chance": 0.5}, {"anchors": 1}])
def test_who_takes_part_is_not_for_a_pace_to_say(drawn, lab, tiny):
    with pytest.raises(ValueError, match=r"schedule\.kind sync"):
        lab.play(tiny(schedule=PACE, participation={"anchors": -1, **drawn}))
