"""Every number of the summary, worked out on paper from the ledgers in conftest."""

import json
import math
from dataclasses import replace

import pytest

from moiety.core.ledger import Group
from moiety.report import format_table, summarize_runs
from moiety.report.files import load_ledgers
from moiety.report.findings import list_warnings, write_headline
from moiety.report.frames import (
    summarize_series,
    summarize_values,
    tabulate_loss,
    tabulate_metric,
    tabulate_workers,
)
from moiety.report.matrices import (
    list_partitions,
    tabulate_loads,
    tabulate_routes,
    tabulate_traffic,
)
from moiety.report.series import group_series


def test_summary_equals_ledger(small_ledgers):
    ddome, fedavg, common = summarize_runs(small_ledgers)
    assert [row["label"] for row in (ddome, fedavg, common)] == ["ddome", "fedavg", "common"]
    # seeds 0 and 1 of ddome end at seen (0.7, 0.9) and (0.9, 1.1), unseen 0.6 and 0.8
    assert ddome["groups"]["seen"] == pytest.approx(
        {"mean": 0.9, "std": 0.2 / math.sqrt(2), "low": 0.8, "high": 1.0, "n": 2}
    )
    assert ddome["groups"]["unseen"] == pytest.approx(
        {"mean": 0.7, "std": 0.2 / math.sqrt(2), "low": 0.6, "high": 0.8, "n": 2}
    )
    assert ddome["worst"]["mean"] == pytest.approx(0.7)
    assert [(w["seed"], w["group"], w["worker"]) for w in ddome["worst_workers"]] == [
        (0, "unseen", 2),
        (1, "unseen", 2),
    ]
    # three jobs: 100 + 300 + 200 down, 50 up each; two distinct workers are sent 1000 once
    assert ddome["down_bytes"]["mean"] == 200
    assert ddome["up_bytes"]["mean"] == 50
    assert ddome["total_bytes"]["mean"] == 100 + 300 + 200 + 150 + 2 * 1000
    assert (ddome["seconds"]["mean"], ddome["seconds"]["n"]) == (7.5, 2)
    assert ddome["rounds"] == [2, 2]
    assert ddome["status"] == ["finished", "finished"]
    assert fedavg["groups"]["unseen"]["mean"] == pytest.approx(0.5)


def test_reference_costs_nothing(small_ledgers):
    common = summarize_runs(small_ledgers)[2]
    assert common["reference"] is True
    assert common["down_bytes"] is None
    assert common["up_bytes"] is None
    assert common["total_bytes"]["mean"] == 0
    assert common["groups"]["seen"]["mean"] == pytest.approx(0.4)
    assert common["worst"] == {"mean": 0.3, "std": None, "low": 0.3, "high": 0.3, "n": 1}
    assert common["worst_workers"][0]["group"] == "seen"


def test_summary_is_plain_json(small_ledgers):
    told = json.dumps(summarize_runs(small_ledgers), allow_nan=False)
    assert json.loads(told)[0]["seeds"] == [
        0,
        1,
    ]


def test_curves(small_ledgers):
    found = group_series(small_ledgers)
    points = [point for point in tabulate_metric(found, "unseen") if point.label == "ddome"]
    assert [point.round for point in points] == [0, 2]
    assert (points[0].value.mean, points[0].value.std) == (pytest.approx(0.1), pytest.approx(0.0))
    assert (points[1].value.low, points[1].value.high) == pytest.approx((0.6, 0.8))
    losses = [(p.round, p.value.mean) for p in tabulate_loss(found) if p.label == "fedavg"]
    assert losses == [(1, 2.0), (2, 1.5)]
    assert len(tabulate_workers(found)) == 5 * 3


def test_maps(small_ledgers):
    found = group_series(small_ledgers)
    first, second = tabulate_routes(found[0])
    assert (first.seed, second.seed) == (0, 1)
    assert first.share == [[0.75, 0.0], [0.25, 1.0]]
    assert tabulate_loads(found[0])[0].share == [[1.0, 0.5], [0.0, 1.0]]
    assert tabulate_routes(found[2]) == []
    both = tabulate_traffic(found)
    assert [row.label for row in both] == ["ddome", "fedavg"]
    assert (both[0].down.mean, both[0].down.low, both[0].down.high) == (300, 200, 400)
    assert (both[0].up.mean, both[0].up.low, both[0].up.high) == (75, 50, 100)
    (only,) = list_partitions(found)
    assert only.seen == [[3, 0], [0, 4]]
    assert only.unseen == [[2, 2]]


def test_spread():
    assert summarize_values([]) is None
    assert summarize_values([math.nan]) is None
    one, three = summarize_values([2.0, math.inf]), summarize_values([1, 2, 4])
    assert one is not None
    assert three is not None
    assert (one.mean, one.std, one.n) == (2.0, None, 1)
    assert three.std == pytest.approx(math.sqrt(7 / 3))


def test_workers_without_rows_do_not_count(make):
    entries = make.small("ddome", 0, 0.0)
    group = make.replace(
        entries[4].groups["seen"], metrics={"accuracy": [0.5, math.nan]}, rows=[3, 0]
    )
    entries[4] = make.replace(entries[4], groups={"seen": group})
    (row,) = summarize_runs([make.ledger(entries)])
    assert row["groups"]["seen"]["mean"] == 0.5
    assert row["worst_workers"][0]["worker"] == 0


def test_validation_is_not_judged_for_the_worst_worker(make):
    entries = make.small("ddome", 0, 0.0)
    groups = entries[4].groups
    low = make.replace(groups["seen"], metrics={"accuracy": [0.0, 0.0]})
    entries[4] = make.replace(entries[4], groups={"validation": low, **groups})
    (row,) = summarize_runs([make.ledger(entries)])
    assert row["worst"]["mean"] == 0.4
    assert list(row["groups"]) == ["seen", "unseen", "validation"]


def test_seconds_of_a_resumed_run_include_its_rounds(make):
    entries = make.small("ddome", 0, 0.0)
    entries[-1] = make.replace(entries[-1], seconds=0.1)
    assert summarize_runs([make.ledger(entries)])[0]["seconds"]["mean"] == pytest.approx(1.2)


def headline_of(make, one, other, seeds=(0, 1)):
    """``one`` and ``other``: accuracy on the unseen worker by seed."""
    ledgers = []
    for method, values in (("a", one), ("b", other)):
        for seed, value in zip(seeds, values, strict=True):
            entries = [make.start(method, seed), make.round(1, [make.work(0)])]
            ledgers.append(make.ledger([*entries, make.evaluation(1, [0.9], [value])]))
    return write_headline(summarize_series(group_series(ledgers)))


def test_headline_holds_margin_against_spread(make):
    # std of (0.7, 0.8) is 0.0707; margins are 0.25 and 0.05
    assert headline_of(make, (0.7, 0.8), (0.5, 0.5)) == (
        "a leads on the unseen workers with 75.0 ± 7.1 % (2 seeds), 25.0 points above b "
        "(50.0 ± 0.0 %): more than the spread over seeds (7.1 points)."
    )
    assert "not more than the spread over seeds (7.1 points), so they cannot" in headline_of(
        make, (0.7, 0.8), (0.7, 0.7)
    )
    assert headline_of(make, (0.5, 0.5), (0.9, 0.9)).startswith("b leads")
    assert "a and b tie" in headline_of(make, (0.5, 0.5), (0.5, 0.5))
    assert "with one seed each there is no spread" in headline_of(make, (0.7,), (0.5,), (0,))


def test_headline_says_when_training_lost(make, small_ledgers):
    common = [one for one in small_ledgers if one.start.method == "common"]
    bad = make.ledger(
        [make.start("fedavg"), make.round(1, [make.work(0)]), make.evaluation(1, [0.1], [0.2])]
    )
    text = format_table([*common, bad])
    assert "No trained method leads: common leads" in text.replace("\n", " ")


def test_a_test_for_all_has_the_only_column(small_ledgers):
    """Runs that are judged on one set of rows have no workers of their own to show."""
    ledger = small_ledgers[0]
    one = replace(
        ledger.evaluations[-1],
        groups={
            "test": Group([-1], [8], {"accuracy": [0.25]}),
            "validation": Group([-1], [8], {"accuracy": [1]}),
        },
    )
    head = format_table([replace(ledger, evaluations=[one])]).splitlines()[0].split("  ")
    assert [name.strip() for name in head if name][:3] == ["method", "test rows", "bytes down"]
    assert "25.0 %" in format_table([replace(ledger, evaluations=[one])])


def test_table_is_aligned(small_ledgers):
    text = format_table(small_ledgers)
    lines = text.split("\n")[:4]
    assert lines[0].split()[:4] == ["method", "seen", "unseen", "worst"]
    assert "90.0 ± 14.1 %" in lines[1]
    assert "70.0 ± 14.1 %" in lines[1]
    assert "2.75 kB" in lines[1]
    assert lines[3].endswith("finished, not trained")
    assert len({line.index("finished") for line in lines[1:]} | {lines[0].index("status")}) == 1


def test_other_configurations_are_other_series(make):
    def run(rate, seed):
        config = {"seed": seed, "local": {"lr": rate, "batch": 20}}
        first = make.start("fedavg", seed, config=config)
        return make.ledger([first, make.evaluation(1, [0.5], [0.5])])

    found = group_series([run(0.1, 0), run(0.2, 0), run(0.1, 1)])
    assert [one.label for one in found] == ["fedavg (local.lr=0.1)", "fedavg (local.lr=0.2)"]
    assert [len(one.ledgers) for one in found] == [2, 1]


def test_a_seed_given_twice_does_not_narrow_the_spread(make):
    one = make.ledger(make.small("ddome", 0, 0.0))
    found = group_series([one, one])
    assert [(item.label, len(item.ledgers)) for item in found] == [("ddome", 1), ("ddome #2", 1)]


def test_runs_that_did_not_finish_are_named(make):
    entries = make.small("ddome", 0, 0.0)
    failed = make.replace(entries[-1], status="failed", reason="worker 3, round 2: loss is nan")
    cut = make.small("fedavg", 0, 0.0)[:-1]
    empty = [make.start("fedprox", 0)]
    ledgers = [make.ledger(one) for one in ([*entries[:-1], failed], cut, empty)]
    said = list_warnings(ledgers, group_series(ledgers))
    assert said[0] == "ddome, seed 0: failed after 2 of 2 rounds: worker 3, round 2: loss is nan."
    assert said[1] == "fedavg, seed 0: unfinished after 2 of 2 rounds: its ledger has no end."
    assert said[3] == "fedprox, seed 0: left out of the comparison, for it holds no evaluation."
    assert summarize_runs(ledgers)[1]["seconds"]["mean"] == pytest.approx(
        1.2
    )  # 2 rounds, 2 evaluations


def test_unlike_partitions_and_rounds_are_named(make):
    one = make.small("ddome", 0, 0.0)
    other = make.small("fedavg", 0, 0.0)
    other[0] = make.replace(other[0], seen=[[1, 1], [1, 1]])
    other[4] = make.replace(other[4], round=1)
    ledgers = [make.ledger(one), make.ledger(other)]
    said = list_warnings(ledgers, group_series(ledgers))
    assert said == [
        "The series were not run on the same partition for seed 0.",
        "The models compared are not of the same round: ddome after 2; fedavg after 1.",
    ]


def test_no_ledgers_and_no_evaluations_are_refused(make):
    with pytest.raises(ValueError, match="no ledgers to report on"):
        summarize_runs([])
    with pytest.raises(ValueError, match=r"no evaluation in somewhere/run/ledger\.jsonl"):
        format_table([make.ledger([make.start()])])


def test_load_finds_runs_and_groups_of_runs_once(small, tmp_path):
    assert len(load_ledgers([small])) == 5
    assert len(load_ledgers([small / "a-ddome-0", small])) == 5
    assert len(load_ledgers([small / "a-ddome-0" / "ledger.jsonl"])) == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"has no ledger\.jsonl in or below it"):
        load_ledgers([empty])
    with pytest.raises(ValueError, match="no runs to report on"):
        load_ledgers([])
