"""Rows that only a node has, beside a sample that all have."""

import csv
import shutil
from dataclasses import replace

import pytest
import torch

from moiety.engine.letters import read_reply
from moiety.federation.desk import Desk
from moiety.federation.node import NodeConfig
from moiety.recipes import RECIPES
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.own_rows import open_own_rows
from moiety.run.federate import FederationPlan, play_federation, resolve_plan
from moiety.run.group import start_run
from moiety.run.spec import resolve_run
from moiety.serve.prior import EstimatedPrior
from tests.federation.test_remote import ALL, LocalPost

SAMPLE = {"scheme": "all", "workers": 2, "unseen": 0, "anchors": 0, "shared_test": True}
WORDS = ("red", "green", "blue")


def write_table(path, rows, *, shift=0):
    """Write a table: a measure, a word, and whether the measure is large."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["size", "colour", "big"])
        for row in rows:
            size = (row * 37 + shift) % 100
            out.writerow([size, WORDS[row % 3], "yes" if size > 50 else "no"])
    return str(path)


@pytest.fixture
def record(tmp_path):
    fields = {
        "data": write_table(tmp_path / "sample.csv", range(60)), "target": "big", "seeds": 1,
        "methods": ["fedavg"], "rounds": 2, "population": SAMPLE, "participation": {"size": 2},
        "local": {"steps": 3}, "mlp": {"hidden": [3]},
    }  # fmt: skip
    return override_fields(RECIPES["quickstart"].record, fields)


def play_before(tmp_path, record):
    """Play a run on other rows, whose model others begin with."""
    other = replace(record, data=write_table(tmp_path / "other.csv", range(7, 40), shift=9))
    start_run(*resolve_run("quickstart", other, "fedavg", 3), tmp_path / "before")
    return str(tmp_path / "before")


@pytest.mark.parametrize("begun", [False, True])
def test_own_rows_are_encoded_and_scaled_as_the_sample_is(tmp_path, record, begun):
    """The sample's own rows, from another file and in another order, are the same to the bit."""
    if begun:
        model = play_before(tmp_path, record)
        record = replace(record, common=replace(record.common, model=model))
    built = build_run(record, "fedavg", 0)
    path = write_table(tmp_path / "mine.csv", reversed(range(60)))
    own = open_own_rows(record, built.method, 0, path)
    train = built.open(0)
    assert own.size == 60
    told = own.take(torch.arange(60))
    known = {tuple(x.tolist()): int(y) for x, y in zip(told["x"], told["y"], strict=True)}
    rows = train.take(torch.arange(train.size))
    assert all(
        known[tuple(x.tolist())] == int(y) for x, y in zip(rows["x"], rows["y"], strict=True)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size,big\n1,no\n", r"has no columns \['colour'\]"),
        ("size,colour,big\n,red,no\n", r"has no columns \['size'\], or no value in them"),
        ("size,colour,big\n1,red,no\n2,red,maybe\n", r"has labels \['maybe'\]"),
        ("size,colour,big\n1,red,no\nhuge,red,no\n", r"mine.csv: column 'size' is .* in row 2"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, record, text, message):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        open_own_rows(record, build_run(record, "fedavg", 0).method, 0, str(path))


def make_nodes(tmp_path, record):
    """Make two nodes, each with a copy of the sample and rows of its own."""
    desks = {}
    for place, name in enumerate(("north", "east")):
        folder = tmp_path / name
        folder.mkdir()
        sample = shutil.copy(record.data, folder / "copy.csv")
        rows = write_table(folder / "mine.csv", range(20 + place), shift=place + 1)
        desks[name] = Desk(NodeConfig(name, str(sample), folder / "kept", rows))
    return LocalPost(desks)


def make_plan(tmp_path, record, *, own=True, **more):
    fields = {
        "data": record.data, "target": "big", "methods": ["fedavg"], "rounds": 2, "seeds": 1,
        "population": SAMPLE, "participation": {"size": 2}, "local": {"steps": 3},
        "mlp": {"hidden": [3]}, **more,
    }  # fmt: skip
    return FederationPlan(tmp_path / "run", "quickstart", fields, ("north", "east"), ALL, own)


def test_nodes_train_on_their_own_rows(tmp_path, record):
    from moiety.core.ledger import read_ledger

    post, plan = make_nodes(tmp_path, record), make_plan(tmp_path, record)
    play_federation(plan, post)
    ledger = read_ledger(plan.folder / "ledger.jsonl")
    assert [[work.rows for work in one.workers] for one in ledger.rounds] == [[20, 21]] * 2
    assert not ledger.start.seen
    assert list(ledger.start.worker_names) == ["north", "east"]
    assert ledger.end is not None
    assert ledger.end.status == "finished"


@pytest.mark.parametrize(
    "text",
    [
        "size,colour,big\n1,Jo Doe,no\n2,Jo Doe\n",
        "size,colour,big\nJo Doe,red,no\n1,red,no\n",
        "Jo Doe,red,no\n",
    ],
    ids=["line", "value", "header"],
)
def test_rows_that_cannot_be_read_are_quoted_in_the_node_s_log_alone(
    tmp_path, record, text, caplog
):
    post = make_nodes(tmp_path, record)
    (tmp_path / "north" / "mine.csv").write_text(text)
    plan = replace(make_plan(tmp_path, record, rounds=1), waiting=replace(ALL, quorum=0.5))
    play_federation(plan, post)
    ledger = (plan.folder / "ledger.jsonl").read_text()
    assert "the rows of 'north' cannot be read; its own log (desk.log) says why" in ledger
    assert "Doe" not in ledger
    assert "mine.csv" in caplog.text
    assert "Jo Doe" in caplog.text


def test_neither_side_takes_other_rows_for_those(tmp_path, record):
    """A run on shared rows is refused by a node that has its own, and the other way round."""
    post, plan = make_nodes(tmp_path, record), make_plan(tmp_path, record, own=False)
    with pytest.raises(Exception, match="'north' has rows of its own, but the run trains on"):
        play_federation(plan, post)
    name, letter = post.letters[0]
    bare = Desk(NodeConfig(name, record.data, tmp_path / "bare"))
    assert not read_reply(bare.answer(letter)).fault
    other = make_plan(tmp_path / "own", record)
    (tmp_path / "own").mkdir()
    post = LocalPost({name: bare, "east": bare})
    with pytest.raises(Exception, match="'north' names none; say in the node's configuration"):
        play_federation(other, post)


@pytest.mark.parametrize(
    ("population", "message"),
    [
        ({**SAMPLE, "scheme": "iid"}, "those of .* are given to nobody"),
        ({**SAMPLE, "anchors": 1}, "anchors are found by rows that workers alone have"),
    ],
)
def test_a_sample_is_given_to_nobody(tmp_path, record, population, message):
    with pytest.raises(ValueError, match=message):
        resolve_plan(make_plan(tmp_path, record, population=population))


def test_a_server_names_no_file_of_a_node(tmp_path, record):
    """A test file, too, is one that the node itself names."""
    test = write_table(tmp_path / "test.csv", range(30), shift=5)
    post, plan = make_nodes(tmp_path, record), make_plan(tmp_path, record, test=test)
    with pytest.raises(Exception, match=r"as test, the node ''; say in the node's configuration"):
        play_federation(plan, post)


def test_a_node_names_its_copy_of_the_common_expert(tmp_path, record):
    model = play_before(tmp_path, record)
    post, plan = make_nodes(tmp_path, record), make_plan(tmp_path, record, common={"model": model})
    with pytest.raises(Exception, match=r"as model, the node ''; say in the node's configuration"):
        play_federation(plan, post)
    copy = str(shutil.copytree(model, tmp_path / "copy"))
    desks = {n: Desk(replace(desk.node, model=copy)) for n, desk in post.desks.items()}
    play_federation(replace(plan, folder=tmp_path / "again"), LocalPost(desks))


def test_who_has_rows_of_its_own_judges_no_correction(tmp_path, record):
    """Nor does the sample, which is one for all."""
    fields = {"serve": {"prior": "em"}, "population": {**SAMPLE, "validation": 0.2}}
    for own in (True, False):
        _, built = resolve_plan(make_plan(tmp_path, record, own=own, **fields))
        serve = built.method.serve
        assert isinstance(serve, EstimatedPrior)
        assert bool(serve.judges) != own
