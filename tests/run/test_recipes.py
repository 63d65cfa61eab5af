"""Every recipe builds and plays a round."""

import math
import os
from typing import Any

import pytest

from moiety.core.ledger import read_ledger
from moiety.core.state import Job, Share
from moiety.core.streams import stream
from moiety.data import skills
from moiety.data.cache import VARIABLE
from moiety.data.datasets import DATASETS
from moiety.methods.task import Task
from moiety.models.mlp import mlp
from moiety.recipes import RECIPES
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields, to_plain
from moiety.recipes.options import make_method, with_options
from moiety.recipes.population import MOST
from moiety.recipes.record import Federation
from moiety.run.group import start_run
from moiety.run.loop import LEDGER
from moiety.run.spec import RunSpec, resolve_run, write_flag


def small(name: str) -> Federation:
    record = override_fields(
        RECIPES[name].record, {"rounds": 1, "seeds": 1, "common": {"epochs": 1}}
    )
    if "loft" in record.methods:
        record = override_fields(record, {"loft": {"prune": 0.0, "tune": 0}})
    return record if record.data else override_fields(record, {"data": "digits"})


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_plays_a_round_of_each_of_its_methods(name, tmp_path):
    record = small(name)
    needs = DATASETS[record.data].needs if record.data in DATASETS else ""
    if VARIABLE in needs and not os.environ.get(VARIABLE):
        pytest.skip(f"{name} needs {record.data}, and {VARIABLE} is not set")
    for method in record.methods:
        spec, built = resolve_run(name, record, method, 0)
        start_run(spec, built, tmp_path / method)
        ledger = read_ledger(tmp_path / method / LEDGER)
        assert ledger.end is not None
        assert ledger.end.status == "finished"
        assert len(ledger.rounds) == (method != "common")
        assert ledger.start.num_seen == (record.population.workers or MOST)
        assert ledger.start.num_unseen == record.population.unseen
        for entry in ledger.rounds:
            awaited = (
                record.schedule.size
                if record.schedule.kind == "buffered"
                else record.participation.size
            )
            assert len(entry.workers) == awaited
        groups = ledger.evaluations[-1].groups
        together = record.population.shared_test
        apart = {"seen", "validation", *["unseen"] * (record.population.unseen > 0)}
        assert ({"test"} if together else apart) <= groups.keys()
        least, most = (1, math.inf) if record.net == "lm" else (0, 1)
        scored = "perplexity" if record.net == "lm" else "accuracy"
        scores = [one for group in groups.values() for one in group.metrics[scored]]
        assert all(least <= one <= most for one in scores)


def test_recipes_name_data_sets_that_are_known():
    named = {name: recipe.record.data for name, recipe in RECIPES.items()}
    assert named.pop("yours") == ""
    assert named.pop("mops") == skills.NAME
    assert all(data in DATASETS for data in named.values())
    assert all(recipe.about for recipe in RECIPES.values())


@pytest.mark.parametrize(("name", "size"), [("asyncdrop-fashion", 1), ("fedbuff-fashion", 4)])
def test_the_note_of_a_server_that_does_not_wait_fits_its_commits(name, size):
    record = RECIPES[name].record
    assert record.schedule.size == size
    assert "schedule.size says of how many replies" in record.note
    assert "one reply" not in record.note


@pytest.mark.parametrize("name", ["ist-digits", "ist-fashion"])
def test_the_note_of_dealt_recipes_says_where_steps_and_rates_are_not_equal(name):
    """A round of data parallelism is one step, and DiLoCo's AdamW wants a rate of its own."""
    record = RECIPES[name].record
    steps = {
        method: make_method(method, Task(mlp((4, 3, 2), stream(0)), record.local), record.options)
        .solve.plan(500, Job(0, 0, 0, Share(), {}))
        .rows.shape[0]
        for method in ("local_sgd", "data_parallel", "diloco")
    }
    assert steps == {"local_sgd": 20, "data_parallel": 1, "diloco": 20}
    assert "data_parallel makes one step a round" in record.note
    assert "--local.lr 0.001" in record.note
    assert "fifth" not in record.note  # options decide


@pytest.mark.parametrize("name", RECIPES)
def test_a_specification_survives_its_json(name):
    record = small(name)
    spec = RunSpec(name, record, "ddome", 3)
    again = RunSpec.from_json(spec.to_json(), "here")
    assert again.to_json() == spec.to_json()
    assert to_plain(again.record.local) == to_plain(record.local)
    assert again.fingerprint == spec.fingerprint
    other = RunSpec(name, override_fields(record, {"local": {"lr": 0.123}}), "ddome", 3)
    assert other.fingerprint != spec.fingerprint
    assert "--local.lr 0.123" in other.command
    assert "--local.lr" not in spec.command


def test_what_is_left_to_the_recipe_is_not_in_the_command():
    spec = RunSpec("quickstart", RECIPES["quickstart"].record, "ddome", 0)
    assert spec.command == "moiety run quickstart --methods ddome --seed 0 --engine auto"


def test_fields_as_words():
    assert write_flag("local.lr", 0.5) == ["--local.lr", "0.5"]
    assert write_flag("mlp.hidden", [8, 4]) == ["--mlp.hidden", "8", "4"]
    assert write_flag("local.by_rows", True) == ["--local.by-rows"]
    assert write_flag("local.by_rows", False) == ["--local.no-by-rows"]


def test_options_reach_the_method(tiny):
    record = tiny(ddome={"experts": 4, "k": 3})
    method = build_run(record, "ddome", 0).method
    assert method.model.params["gate.layer2.b"].shape == (4,)
    assert len(build_run(tiny(), "ddome", 0).method.model.params["gate.layer2.b"]) == 3
    chosen = with_options(fedprox={"mu": 7.0})
    options: Any = chosen
    assert options.fedprox.mu == 7.0
    with pytest.raises(TypeError, match="mue"):
        with_options(fedprox={"mue": 7.0})
    assert make_method.__doc__


@pytest.mark.parametrize(("changes", "said"), [
    ({"rounds": 1.5}, "field 'rounds' is a int"),
    ({"rounds": None}, "field 'rounds' is a int"),
    ({"nett": {}}, "unknown field 'nett'; did you mean 'net'"),
    ({"mlp": {"hidden": [1.5]}}, "field 'mlp.hidden' is a int"),
    ({"methods": [1]}, "field 'methods' is a str"),
    ({"local": {"nesterov": 1}}, "field 'local.nesterov' is a bool"),
])  # fmt: skip
def test_values_of_another_type(changes, said):
    with pytest.raises(ValueError, match=said):
        override_fields(Federation(), changes)


def test_whole_numbers_do_for_fractions():
    assert override_fields(Federation(), {"local": {"lr": 1}}).local.lr == 1.0
    options: Any = override_fields(Federation(), {"mlp": {"hidden": []}}).options
    assert options.mlp.hidden == ()
