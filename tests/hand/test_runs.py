"""Recipes, runs, reports and benchmarks: values on paper."""

from dataclasses import replace

import pytest
import torch

from benchmarks import trial
from moiety.core.ledger import Evaluation, Group, Ledger, Round, Start, Work
from moiety.core.streams import stream
from moiety.models.mlp import mlp
from moiety.recipes import RECIPES
from moiety.recipes.common import measure_accuracy, train_common, train_epochs
from moiety.recipes.fields import override_fields
from moiety.recipes.record import CommonExpert
from moiety.report.frames import count_total_bytes
from moiety.run.spec import resolve_run


def noisy_rows(purpose: str, count: int = 60):
    rng = stream(1, purpose)
    y = torch.arange(count) % 3
    return torch.randn(count, 5, generator=rng) + y[:, None] * torch.eye(5)[0] * 2, y


def test_the_common_expert_is_that_of_its_best_epoch():
    """A rate far too high: accuracy rises and falls, and the last epoch is not the best."""
    net = mlp((5, 6, 3), torch.Generator().manual_seed(0))
    choice = CommonExpert(target_accuracy=1.0, epochs=12, lr=1.5, batch=10, patience=12)
    public, validation = noisy_rows("public"), noisy_rows("validation")
    scores = [
        measure_accuracy(net, params, validation) for params in train_epochs(net, choice, public, 0)
    ]
    assert scores[-1] < max(scores) < 1.0
    params, reached = train_common(net, choice, public, validation, 0)
    assert reached == max(scores)
    assert measure_accuracy(net, params, validation) == reached


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
    groups = {"seen": Group([0, 1], [0.5, 0.7], [3, 3]), "unseen": Group([2], [0.25], [4])}
    assert trial.worst(Evaluation(3, 0.1, groups)) == 25.0
    groups["seen"] = Group([0, 1], [0.125, 0.7], [3, 3])
    assert trial.worst(Evaluation(3, 0.1, groups)) == 12.5
