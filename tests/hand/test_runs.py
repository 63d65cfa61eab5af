"""Recipes, runs, reports and benchmarks: values on paper."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import trial
from moiety.core.ledger import Evaluation, Group, Ledger, Round, Start, Work
from moiety.core.rows import TableRows
from moiety.core.state import State
from moiety.core.streams import stream
from moiety.data.dataset import Dataset
from moiety.data.graph import Graph
from moiety.data.labels import draw_quotas
from moiety.data.partition import fill_short_workers
from moiety.methods.ddome import ddome
from moiety.methods.demo import make_two_class_workers
from moiety.models.mlp import mlp
from moiety.plan.choice import choose_method
from moiety.plan.costs import Forecast, Setting, forecast_round
from moiety.plan.count import Link, count_server_traffic
from moiety.plan.outline import abstract_run
from moiety.plan.profile import JobCost
from moiety.recipes import RECIPES
from moiety.recipes.common import CommonRows, measure_metric, train_common, train_epochs
from moiety.recipes.fields import override_fields
from moiety.recipes.population import make_partition
from moiety.recipes.record import CommonExpert, Population
from moiety.recipes.scaling import scale_pixels
from moiety.recipes.source import fingerprint_data
from moiety.report.findings import find_noise
from moiety.report.frames import Spread, count_total_bytes
from moiety.rounds.cohort import AvailableCohort
from moiety.run.evaluate import evaluate_groups
from moiety.run.spec import resolve_run
from moiety.serve.choose import average_gate_scores
from moiety.serve.predictions import measure_file_accuracy
from moiety.tasks.classes import Classes
from moiety.tasks.losses import UNSCORED


def noisy_rows(purpose: str, count: int = 60):
    rng = stream(1, purpose)
    y = torch.arange(count) % 3
    return torch.randn(count, 5, generator=rng) + y[:, None] * torch.eye(5)[0] * 2, y


def test_the_common_expert_is_that_of_its_best_epoch():
    """A rate far too high: accuracy rises and falls, and the last epoch is not the best."""
    net = mlp((5, 6, 3), torch.Generator().manual_seed(0))
    choice = CommonExpert(target_accuracy=1.0, epochs=12, lr=1.5, batch=10, patience=12)
    public, validation = noisy_rows("public"), noisy_rows("validation")
    kinds = Classes(("a", "b", "c"))
    scores = [
        measure_metric(net, params, validation, kinds)
        for params in train_epochs(net, choice, public, 0, kinds)
    ]
    assert scores[-1] < max(scores) < 1.0
    params, reached = train_common(net, choice, CommonRows(public, validation), 0, kinds)
    assert reached == max(scores)
    assert measure_metric(net, params, validation, kinds) == reached


@pytest.mark.parametrize("value", [True, False])
def test_truth_is_no_number(value):
    record = RECIPES["quickstart"].record
    with pytest.raises(ValueError, match=r"'local\.lr' is a float"):
        override_fields(record, {"local": {"lr": value}})
    with pytest.raises(ValueError, match="'rounds' is a int"):
        override_fields(record, {"rounds": value})
    assert override_fields(record, {"local": {"lr": 1}}).local.lr == 1.0


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ({}, "vectorized"),
        ({"kind": "buffered", "size": 1}, "pool"),
        ({"kind": "buffered", "size": 8}, "vectorized"),
    ],
)
def test_auto_looks_at_how_many_are_merged_at_a_time(schedule, wanted):
    """Ten work, but a commit of one reply trains one worker at a time: nothing to stack."""
    record = override_fields(
        RECIPES["quickstart"].record,
        {
            "engine": "auto",
            "methods": ("fedavg",),
            "common": {"epochs": 1},
            "participation": {"size": 10, "anchors": -1},
            "schedule": schedule,
        },
    )
    assert resolve_run("quickstart", record, "fedavg", 0)[0].record.engine == wanted


def start(**fields) -> Start:
    usual = {
        "recipe": "r", "method": "m", "seed": 0, "engine": "serial", "device": "cpu", "rounds": 2,
        "command": "", "time": "", "config": {}, "environment": {}, "classes": ["0"],
        "num_seen": 5, "num_unseen": 0, "seen": [], "unseen": [], "num_parameters": 1,
        "constant_bytes": 1000, "note": "",
    }  # fmt: skip
    return Start(**{**usual, **fields})


def round_of(number: int, workers: list[int]) -> Round:
    works = [Work(w, "", {}, 100, 50, 1, 3, 1.0, 1.0, 1.0, 0) for w in workers]
    down, up = 100 * len(works), 50 * len(works)
    return Round(number, 0, 0.5, down, up, 1.0, works, [])


def test_constants_are_sent_once_to_each_who_took_part():
    """Of five workers 0, 1 and 3 took part: four times 150 bytes, and 3 constants."""
    entries = [round_of(1, [0, 3]), round_of(2, [1, 0])]
    told = Ledger(start(), entries, [], None)
    assert count_total_bytes(told) == 4 * 150 + 3 * 1000
    assert count_total_bytes(Ledger(start(constant_bytes=0), entries, [], None)) == 600
    assert count_total_bytes(replace(told, rounds=[])) == 0


def test_the_worst_worker_of_a_trial_may_be_an_unseen_one():
    groups = {
        "seen": Group([0, 1], [3, 3], {"accuracy": [0.5, 0.7]}),
        "unseen": Group([2], [4], {"accuracy": [0.25]}),
    }
    assert trial.worst(Evaluation(3, 0.1, groups)) == 25.0
    groups["seen"] = Group([0, 1], [3, 3], {"accuracy": [0.125, 0.7]})
    assert trial.worst(Evaluation(3, 0.1, groups)) == 12.5


def test_a_file_s_accuracy_is_of_the_rows_that_have_a_label():
    """Three of five rows have one, two of them as found."""
    x, y = torch.zeros(5, 1), torch.tensor([0, 1, UNSCORED, 1, UNSCORED])
    graph = Graph(torch.zeros(2, 0).long(), torch.ones(5).bool(), torch.ones(5).bool(), y)
    data = Dataset("some", x, y, ("a", "b"), graph=graph)
    assert measure_file_accuracy(["a", "b", "a", "a", "b"], data, ("a", "b")) == 2 / 3


def test_a_gate_is_asked_about_all_rows():
    """5,000 rows in two chunks: the mean over all, which the second chunk alone has not."""
    task, _ = make_two_class_workers(stream(3, "demo"))
    method = ddome(task, experts=3)
    x = torch.cat([torch.zeros(4500, 8), torch.full((500, 8), 3.0)])
    rows = TableRows({"x": x, "y": torch.zeros(5000).long()}, torch.arange(5000))
    model: Any = method.model
    params = model.params
    each = model.log_gate(params, model.common({"x": x[[0, -1]]})).exp()
    wanted = 0.9 * each[0] + 0.1 * each[1]
    torch.testing.assert_close(average_gate_scores(model, params, rows), wanted)


def test_the_noise_of_two_is_the_larger():
    one, other = Spread(0.5, 0.1, 0.4, 0.6, 3), Spread(0.7, 0.03, 0.6, 0.8, 3)
    alone = Spread(0.7, None, 0.7, 0.7, 1)
    assert find_noise(one, other) == find_noise(other, one) == 0.1
    assert find_noise(alone, one) == 0.1
    assert find_noise(alone, alone) is None


def test_data_are_told_apart_by_rows_and_by_labels():
    x, y = torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 0])
    data = Dataset("some", x, y, ("a", "b"))
    marks = {
        fingerprint_data(one)
        for one in (
            data, replace(data, x=x + 1), replace(data, y=1 - y), replace(data, y=None),
            replace(data, classes=("a", "c")), replace(data, columns=("age", "size")),
        )
    }  # fmt: skip
    assert len(marks) == 6
    assert fingerprint_data(replace(data, name="other", x=x.clone())) in marks


def test_pixels_that_hardly_vary_are_held_to_a_tenth_of_the_largest_spread():
    x = torch.tensor([[-2.0, -0.01, -0.3], [2.0, 0.01, 0.3]])
    pixels = Dataset("pixels", x, torch.tensor([0, 1]), ("no", "yes"))
    scaled, scale = scale_pixels(pixels, torch.arange(2))
    assert scale.std.tolist() == pytest.approx([2.0, 0.2, 0.3])
    assert scaled.x[1].tolist() == pytest.approx([1.0, 0.05, 1.0])


def test_routes_of_validation_rows_are_not_counted():
    """Two workers of one row each in a group, and validation rows that must not show."""
    task, data = make_two_class_workers(stream(3, "demo"))
    method = ddome(task, experts=3)
    assert method.transform is not None
    held: Any = data
    rows = {w: TableRows(dict(method.transform(held[w].table)), held[w].index) for w in (3, 4)}
    state = State(method.model.params)
    groups = {"seen": {3: rows[3]}, "validation": {4: rows[4]}}
    alone = evaluate_groups(method, state, {}, {"seen": groups["seen"]})
    both = evaluate_groups(method, state, {}, groups)
    assert both.routes == alone.routes
    assert sum(map(sum, both.routes)) == rows[3].size
    assert both.groups["validation"].rows == [rows[4].size]


def test_as_many_as_are_asked_for_come_where_enough_are_there():
    cohort = AvailableCohort(100, 10, lambda _: 0.5)
    assert all(len(cohort(place, 0)) == 10 for place in range(30))


def forecast(method: str, share: float, memory: int, seconds: float) -> Forecast:
    cost = JobCost(5, 0, 0, 0, 0, 0, memory, 0)
    traffic = count_server_traffic([1])
    return Forecast(method, share, cost, memory, 0, traffic, 0, 0, seconds, 0, 0, 0)


def test_parts_that_fit_are_chosen_before_faster_ones_that_do_not():
    found = {
        one.method: one
        for one in (
            forecast("local_sgd", 1.0, 10, 100.0), forecast("data_parallel", 1.0, 10, 500.0),
            forecast("large", 0.5, 100, 1.0), forecast("small", 0.5, 5, 10.0),
        )
    }  # fmt: skip
    assert choose_method(found, 5, (2.0, 4.0), memory=50.0).method == "small"
    assert choose_method(found, 5, (2.0, 4.0)).method == "large"


def test_chance_decides_which_label_has_a_row_more():
    """Five rows of three labels are 2, 2 and 1: over 30 draws each label is the short one."""
    quotas = [draw_quotas(5, (2, 4, 7), stream(seed, "quota")) for seed in range(30)]
    assert all(sorted(quota.values()) == [1, 2, 2] for quota in quotas)
    assert {min(quota, key=lambda label: quota[label]) for quota in quotas} == {2, 4, 7}


def test_short_workers_are_filled_from_the_largest():
    """Of 5, 3 and 0 rows, two each at least: both come from the largest, and of its large class."""
    counts = torch.tensor([[1, 3, 0], [4, 0, 0]])
    assert fill_short_workers(counts, 2).tolist() == [[1, 3, 0], [2, 0, 2]]


def test_a_plan_tells_of_the_worker_with_the_most_to_do():
    """Workers of 20, 60 and 40 rows in steps of ten make 2, 6 and 4 steps."""
    record = override_fields(
        RECIPES["ist-digits"].record,
        {
            "population": {"workers": 3},
            "participation": {"size": 3},
            "local": {"epochs": 1, "steps": 0, "batch": 10},
        },
    )
    plan = abstract_run(record, 0)
    sizes = dict(zip(plan.rows, (20, 60, 40), strict=True))
    held: Any = plan.rows
    rows = {worker: replace(mine, index=mine.index[: sizes[worker]])
            for worker, mine in held.items()}  # fmt: skip
    told = forecast_round("local_sgd", replace(plan, rows=rows), Setting(Link(), flops=1e9))
    assert told.cost.steps == 6


def test_unseen_workers_are_numbered_behind_the_seen():
    """Five workers are 0 to 4, in training as in testing; three that are unseen are 5 to 7."""
    y = torch.arange(600) % 6
    data = Dataset("some", torch.zeros(600, 2), y, tuple("abcdef"))
    population = Population(workers=5, unseen=3, classes=2, anchors=2)
    found = make_partition(data, population, 0)
    assert sorted(found.train) == sorted(found.groups["seen"]) == [0, 1, 2, 3, 4]
    assert sorted(found.groups["unseen"]) == [5, 6, 7]
