"""What counts is what the ledger's first metric says, in its direction and unit."""

from dataclasses import replace

import pytest

from moiety.core.ledger import End, Evaluation, Group, Ledger, Start
from moiety.core.objective import MetricEntry
from moiety.report.findings import describe_others, list_warnings
from moiety.report.frames import summarize_series
from moiety.report.series import describe_settings, group_series
from moiety.report.text import format_table

LOSS = MetricEntry("loss", higher_is_better=False, unit="nats")
RMSE = MetricEntry("rmse", higher_is_better=False)
R2 = MetricEntry("r2", higher_is_better=True)


def ledger(seed: int, value: float, metric: MetricEntry = LOSS, method: str = "ist") -> Ledger:
    start = Start(
        recipe="r", method=method, seed=seed, engine="serial", device="cpu", rounds=1, command="",
        time="", config={}, environment={}, classes=["a", "b"], num_seen=1, num_unseen=0, seen=[],
        unseen=[], num_parameters=1, constant_bytes=0, metrics=[metric],
    )  # fmt: skip
    groups = {
        "test": Group([-1], [10], {metric.name: [value]}),
        "validation": Group([-1], [10], {metric.name: [9]}),
    }
    return Ledger(start, [], [Evaluation(1, 0.0, groups)], End(1, 0.0, "finished"))


def test_the_metric_has_the_column():
    told = [ledger(0, 2.0), ledger(1, 2.5)]
    (row,) = summarize_series(group_series(told))
    assert row.groups["test"].mean == 2.25
    lines = format_table(told).splitlines()
    assert "test rows" in lines[0]
    assert "validation" not in lines[0]
    assert "2.250 ± 0.354 nats" in lines[1]
    assert any("Loss of the final model, lower is better" in line for line in lines)
    assert "Accuracy" not in "".join(lines)


@pytest.mark.parametrize(
    ("metric", "gap"), [(LOSS, "0.500 nats below"), (RMSE, "0.500 below"), (R2, "0.500 above")]
)
def test_series_are_ranked_in_the_metric_s_direction(metric, gap):
    sign = 1 if metric.higher_is_better else -1
    values = {"first": 3 + sign, "second": 3 + 0.5 * sign, "third": 3 + 0.25 * sign}
    told = [ledger(0, value, metric, name) for name, value in values.items()]
    found = format_table(told).replace("\n", " ")
    assert "first leads on the test rows" in found
    assert f"{gap} second" in found
    rows = summarize_series(group_series(told))
    assert describe_others(rows)[0].startswith("third is 0.750")


def test_a_tie_is_no_lead():
    told = [ledger(0, 2.0, method=name) for name in ("a", "b")]
    assert "a and b tie on the test rows with 2.000 nats (1 seed)." in format_table(told)


def test_series_that_are_not_scored_alike_are_told_apart():
    told = [ledger(0, 2.0, LOSS, "a"), ledger(0, 1.0, RMSE, "b")]
    found = format_table(told).replace("\n", " ")
    assert "not scored alike, by loss, rmse" in found
    assert "no other to compare with" in found


def test_a_large_number_is_short():
    told = [ledger(0, 48123.0, RMSE)]
    assert "4.812e+04" in format_table([replace(told[0])])


@pytest.mark.parametrize(("routes", "said"), [
    ([[3, 0], [1, 4]], []),
    ([[0, 0], [1, 4]], ["ddome, seed 0: expert 0 serves nobody: no row of the last evaluation was "
                        "sent there."]),
    ([[0, 0], [1, 4], [0, 0]], ["ddome, seed 0: experts 0, 2 serve nobody: no row of the last "
                                "evaluation was sent there."]),
])  # fmt: skip
def test_experts_that_serve_nobody_are_named(make, routes, said):
    """An earlier evaluation does not count: an expert may begin to serve."""
    entries = make.small("ddome", 0, 0.0)
    entries[1] = replace(entries[1], routes=[[0, 0], [5, 5]])
    entries[4] = replace(entries[4], routes=routes)
    told = [make.ledger(entries)]
    assert [one for one in list_warnings(told, group_series(told)) if "nobody" in one] == said
    assert all("nobody" in format_table(told).replace("\n", " ") for _ in said)


@pytest.mark.parametrize(("bar", "said"), [(None, 0), (0.5, 0), (0.7, 1)])
def test_a_run_that_is_worse_than_its_own_common_expert_is_named(make, bar, said):
    """On all validation rows, not as a mean of workers, and only where the gap is plain."""
    entries = make.small("ddome", 0, 0.0)
    entries[0] = replace(entries[0], common_score=bar)
    group = Group([0, 1], [30, 10], {"accuracy": [0.4, 0.8], "loss": [1.0, 1.0]})
    entries[4] = replace(entries[4], groups={**entries[4].groups, "validation": group})
    told = [make.ledger(entries)]
    found = [one for one in list_warnings(told, group_series(told)) if "common expert" in one]
    assert len(found) == said
    assert all("its accuracy is 50.0 %, worse than the 70.0 %" in one for one in found)


def test_settings_are_those_that_all_series_share(make):
    one, two = make.small("ddome", 0, 0.0), make.small("fedavg", 0, 0.0)
    for entries, lr in ((one, 0.1), (two, 0.2)):
        config = {"data": "digits", "rounds": 2, "local": {"lr": lr, "batch": 20}, "group": "house"}
        entries[0] = replace(
            entries[0], config={**config, "population": {"workers": 9}, "schedule": {"size": 0}}
        )
    found = group_series([make.ledger(one), make.ledger(two)])
    assert describe_settings(found) == (  # rates differ, and a column says who holds what
        "data digits, rounds 2, group house, local.batch 20, engine serial, device cpu"
    )
