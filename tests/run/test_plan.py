"""``moiety plan``: what it says of a recipe, what it chooses and why, and what it refuses."""

import json
from dataclasses import replace

import pytest

from moiety.core.ledger import read_ledger
from moiety.data.datasets import DATASETS, IN_DATA_FOLDER
from moiety.methods.task import LocalTraining
from moiety.plan.choice import choose_method, explain_cost_source
from moiety.plan.costs import Setting, forecast_round
from moiety.plan.count import (
    Link,
    count_perceptron,
    count_perceptron_flops,
    interpolate_statistical_cost,
    narrow_widths,
)
from moiety.plan.outline import abstract_run
from moiety.recipes import RECIPES
from moiety.recipes.options import with_options
from moiety.recipes.record import Participation, Population
from moiety.run.loop import LEDGER

WIDTHS = (6, 16, 12, 5)
FAST = ("--flops", "5e9")


@pytest.fixture
def dealing(tiny):
    """Make a record of a run in which four workers can be dealt two hidden layers."""
    return replace(
        tiny(),
        methods=("ist",),
        net="normed",
        options=with_options(normed={"hidden": (16, 12)}),
        local=LocalTraining(lr=0.1, momentum=0.0, batch=8, epochs=0, steps=5),
        participation=Participation(size=4, fixed=True),
        population=Population(
            scheme="iid", workers=4, unseen=0, anchors=0, public=0.0, shared_test=True
        ),
    )


def words(table, **changes):
    said = {
        "methods": "ist", "net": "normed", "normed.hidden": "16 12", "local.epochs": 0,
        "local.steps": 5, "local.batch": 8, "participation.size": 4, "population.scheme": "iid",
        "population.workers": 4, "population.unseen": 0, "population.public": 0.0, **changes,
    }  # fmt: skip
    flags = [word for name, value in said.items() for word in (f"--{name}", *str(value).split())]
    return ["plan", "yours", "--data", table, *flags, "--population.shared-test"]


def test_what_is_planned_is_what_the_formulas_say(dealing):
    plan = abstract_run(dealing, 0)
    found = {
        name: forecast_round(name, plan, Setting(Link(8.0, 5.0), flops=1e6))
        for name in ("ist", "local_sgd", "data_parallel")
    }
    mine, bytes_of = narrow_widths(WIDTHS, 4), lambda widths: 4 * count_perceptron(widths)
    assert found["ist"].cost.step_flops == count_perceptron_flops(mine, 8)
    assert found["ist"].flops_all == 4 * 5 * count_perceptron_flops(mine, 8)
    assert found["ist"].traffic.total == 2 * 4 * bytes_of(mine)
    assert found["ist"].share == bytes_of(mine) / bytes_of(WIDTHS)
    assert found["local_sgd"].traffic.total == 2 * 4 * bytes_of(WIDTHS)
    assert found["data_parallel"].cost.steps == 1
    one = found["local_sgd"]
    assert one.work_s == pytest.approx(5 * count_perceptron_flops(WIDTHS, 8) / 1e6)
    both = 2 * 4 * bytes_of(WIDTHS)  # pieces go down before they come up
    assert one.link_s == pytest.approx(2 * 0.005 + both / 1e6)
    assert one.round_s == pytest.approx(one.work_s + one.server_s + one.link_s)
    assert one.seconds(10) == pytest.approx(2 * one.round_s)
    assert found["data_parallel"].seconds(5) == pytest.approx(5 * found["data_parallel"].round_s)


@pytest.mark.parametrize("method", ["ist", "local_sgd", "data_parallel", "diloco", "fedavg"])
def test_the_ledger_of_a_run_has_the_bytes_planned(dealing, lab, method):
    plan = abstract_run(dealing, 0)
    told = forecast_round(method, plan, Setting(Link(), flops=1e9))
    ledger = read_ledger(lab.play(replace(dealing, methods=(method,)), method) / LEDGER)
    for entry in ledger.rounds:
        assert entry.down_bytes + entry.up_bytes == told.traffic.total
        assert {work.down_bytes for work in entry.workers} == {told.traffic.into}
        assert {work.up_bytes for work in entry.workers} == {told.traffic.out}
        assert {work.steps for work in entry.workers} == {told.cost.steps}


def test_the_command_prints_every_method_and_a_choice(moiety, table):
    found = moiety(*words(table), *FAST)
    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[0].startswith("4 workers, 100 Mbit/s, 1 ms, layout server")
    assert [line.split()[0] for line in lines[2:6]] == [
        "method", "ist", "local_sgd", "data_parallel"
    ]  # fmt: skip
    assert "statistical cost 2 to a moderate accuracy, 4 near the end (assumed" in found.out
    assert lines[-1].startswith("choose ")


def test_measured_speed_is_the_default_and_json_has_all(moiety, table):
    found = moiety(*words(table), "--json")
    assert found.code == 0
    told = json.loads(found.out)
    assert told["workers"] == 4
    assert told["setting"]["flops"] == 0.0
    assert set(told["methods"]) == {"ist", "local_sgd", "data_parallel"}
    one = told["methods"]["ist"]
    assert one["cost"]["step_flops"] == count_perceptron_flops(narrow_widths(WIDTHS, 4), 8)
    assert one["step_s"] > 0
    assert one["server_s"] > 0
    assert one["round_s"] == pytest.approx(one["work_s"] + one["server_s"] + one["link_s"])


def with_data(recipe):
    """Mark a recipe whose data are files."""
    needs = DATASETS[RECIPES[recipe].record.data].needs
    return pytest.param(recipe, marks=[pytest.mark.needs_data] * (IN_DATA_FOLDER in needs))


PLANNED = [with_data(name) for name in RECIPES if RECIPES[name].record.data in DATASETS]


@pytest.mark.parametrize("recipe", PLANNED)
def test_every_recipe_is_planned_or_told_why_not(moiety, recipe):
    found = moiety("plan", recipe, *FAST)
    assert found.code == 0, found.err
    assert "looks at numbers" not in found.out
    assert "choose " in found.out
    alone = "common: not planned: it never trains" in found.out
    assert alone == ("common" in RECIPES[recipe].record.methods)


def test_a_language_model_is_profiled_instead(moiety):
    assert {one for one in RECIPES if RECIPES[one].record.net == "lm"} == {"mops"}
    found = moiety("plan", "mops", *FAST)
    assert found.code == 1
    assert "measure its first rounds by moiety profile" in found.err


def test_ddome_where_only_a_run_can_tell(moiety, table):
    found = moiety(*words(table, methods="ddome"), *FAST)
    assert "ddome: not planned: ddome needs a common expert, but population.public is 0" in (
        found.out
    )
    some = {"population.public": 0.2, "population.anchors": 2, "ddome.experts": 3}
    found = moiety(*words(table, methods="ddome", **some), *FAST)
    assert "ddome: not planned: k-means finds its anchors" in found.out


@pytest.fixture
def trio(dealing):
    """Forecast three methods on a slow link: there IST's step is about P/P_s times as fast."""
    plan = abstract_run(dealing, 0)
    setting = Setting(Link(1.0, 0.0), flops=1e15, copy_rate=1e15)
    return {
        name: forecast_round(name, plan, setting) for name in ("ist", "local_sgd", "data_parallel")
    }


@pytest.mark.parametrize(
    ("cost", "method", "said"),
    [
        ((1.1, 1.5), "ist", "needs 1.5 times the steps at most"),
        ((1.1, 50.0), "ist", "less than the 50 times near the end, where local_sgd is first"),
        ((20.0, 50.0), "local_sgd", "but needs 20 times the steps or more"),
    ],
)
def test_parts_are_chosen_where_they_gain_more_than_they_cost(trio, cost, method, said):
    choice = choose_method(trio, 5, cost)
    gain = count_perceptron(WIDTHS) / count_perceptron(narrow_widths(WIDTHS, 4))
    assert choice.system_gain == pytest.approx(gain, rel=1e-3)
    assert choice.method == method
    assert said in choice.reason


def test_a_cost_that_was_measured_of_another_method_is_said_to_be_assumed(trio):
    """And with three digits: 10.7 is not 11."""
    mine = choose_method(trio, 5, (1.1, 1.5))
    assert explain_cost_source(mine) == "assumed, see docs/planning.md"
    graphs = {**trio, "gist": replace(trio["ist"], method="gist")}
    del graphs["ist"]
    for cost in ((1.1, 1.5), (1.1, 50.0), (20.0, 50.0)):
        assert explain_cost_source(choose_method(graphs, 5, cost)).startswith(
            "assumed of gist, measured for ist alone"
        )
    quick = {**trio, "ist": replace(trio["ist"], work_s=0.0, server_s=0.0, link_s=1e-9)}
    assert "needs 10.7 times the steps at most" in choose_method(quick, 5, (4.0, 10.7)).reason


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_pace_that_does_not_wait_is_said_not_to_be_planned(moiety, table, flags):
    late = moiety(
        *words(table), *FAST, *flags, "--schedule.kind", "buffered", "--schedule.size", "2"
    )
    assert late.code == 0, late.err
    told = late.err if flags else late.out
    assert (
        "schedule.kind buffered: the run does not wait for all, but the round counted here does"
        in told
    )
    waits = moiety(*words(table), *FAST, *flags)
    assert "does not wait" not in waits.out + waits.err


def test_parts_are_chosen_where_nothing_else_fits(trio):
    room = (trio["ist"].memory_bytes + trio["local_sgd"].memory_bytes) / 2
    choice = choose_method(trio, 5, (20.0, 50.0), room)
    assert choice.method == "ist"
    assert choice.reason == "the whole does not fit into a worker's memory"
    quicker = replace(trio["ist"], method="quick", work_s=0.0, memory_bytes=int(2 * room))
    choice = choose_method({**trio, "quick": quicker}, 5, (20.0, 50.0), room)
    assert choice.method == "ist"


def test_it_is_said_where_nothing_fits(trio):
    choice = choose_method(trio, 5, (1.1, 1.5), 100.0)
    assert choice.method == "ist"
    assert choice.reason.startswith("no method fits into a worker's memory, and it needs the least")
    large = {**trio, "ist": replace(trio["ist"], memory_bytes=10**15)}
    choice = choose_method(large, 5, (1.1, 1.5), 10.0**12)
    assert choice.method == "local_sgd"
    assert "ist does not fit" in choice.reason


def test_data_parallelism_is_chosen_where_the_link_is_free(dealing):
    plan = abstract_run(dealing, 0)
    setting = Setting(Link(1e9, 0.0), flops=1e5, copy_rate=1e15)
    found = {n: forecast_round(n, plan, setting) for n in ("ist", "local_sgd", "data_parallel")}
    choice = choose_method(found, 5, (20.0, 50.0))
    assert choice.method == "data_parallel"
    assert "costs next to nothing on this link" in choice.reason


def test_a_slow_link_favours_parts_and_a_fast_one_does_not(moiety, table):
    """A gain under the cost one names: whole models; over it: parts."""
    slow = moiety(*words(table), *FAST, "--link-mbit", "0.1", "--statistical-cost", "2")
    fast = moiety(
        *words(table), *FAST, "--link-mbit", "1e6", "--latency-ms", "50", "--statistical-cost", "2"
    )
    assert "choose ist:" in slow.out
    assert "(as you said)" in slow.out
    assert "choose local_sgd:" in fast.out


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--flops", "quick"], 2, "--flops 'quick'; give a number above 0, e.g. 5e9"),
        (["--flops", "0"], 2, "--flops '0'"),
        (["--flops", "nan"], 2, "--flops 'nan'"),
        (["--flops", "inf"], 2, "--flops 'inf'"),
        (["--link-mbit", "0"], 2, "a rate above 0"),
        (["--latency-ms", "-1"], 2, "a latency of at least 0"),
        (["--launch-ms", "-1"], 2, "must be at least 0"),
        (["--layout", "star"], 2, "layout 'star'; choose one of"),
        (["--statistical-cost", "-2"], 2, "must not be below 0"),
        (["--memory-gb", "-2"], 2, "must not be below 0"),
        (["--memory-gb", "nan"], 2, "--memory-gb nan must be finite"),
        (["--memory-gb", "inf"], 2, "--memory-gb inf must be finite"),
        (["--statistical-cost", "nan"], 2, "--statistical-cost nan and"),
        (["--latency-ms", "nan"], 2, "a latency of at least 0"),
        (["--launch-ms", "nan"], 2, "must be at least 0"),
        (["--schedule.window", "nan"], 1, "window=nan"),
        (["--participation.chance", "nan"], 1, "participation.chance=nan; choose a chance above 0"),
        (["--methods", "isst"], 2, "did you mean 'ist'"),
        (["--local.steps", "0"], 2, "cannot be planned: local_sgd: batch=8, epochs=0"),
        (["--net", "nromed"], 2, "did you mean 'normed'"),
        (["--data", "nothing.csv"], 1, "nothing.csv"),
    ],
)
def test_bad_input(moiety, table, flags, code, said):
    found = moiety(*words(table), *FAST, *flags)
    assert found.code == code
    assert said in found.err
    assert not found.out


def test_unknown_recipes_and_no_recipe(moiety):
    assert "did you mean 'quickstart'" in moiety("plan", "quikstart").err
    assert moiety("plan").code == 2
    found = moiety("plan", "yours")
    assert found.code == 1
    assert "say --data FILE" in found.err


def test_too_narrow_for_its_workers(moiety, table):
    found = moiety(*words(table, **{"normed.hidden": "3 3"}), *FAST)
    assert "ist: not planned: axis 'h1': an axis of 3 cannot be assigned to 4 workers" in found.out
    assert "choose local_sgd: no method here assigns the model's axes" in found.out


def test_statistical_cost_of_the_command_is_of_its_workers(moiety, table):
    told = json.loads(moiety(*words(table), *FAST, "--json").out)
    assert tuple(told["choice"]["statistical_cost"]) == interpolate_statistical_cost(4, 5)
