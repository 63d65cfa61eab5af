"""Who holds which rows: every scheme on real digits, and nothing in two places."""

from dataclasses import replace

import pytest
import torch

from moiety.data import datasets
from moiety.data.dataset import Dataset
from moiety.data.files import read_file
from moiety.models.gated import Common
from moiety.recipes.build import build_run
from moiety.recipes.common import find_anchors
from moiety.recipes.population import make_partition
from moiety.recipes.record import SCHEMES, Federation, Population
from moiety.recipes.source import read_data

SHAPES = {
    "labels": Population(scheme="labels", workers=12, unseen=4, anchors=5, rows=40),
    "labels, every row once": Population(scheme="labels", workers=12, unseen=4, anchors=5),
    "classes": Population(scheme="classes", workers=8, unseen=2),
    "dirichlet": Population(scheme="dirichlet", workers=8, unseen=2, alpha=0.3),
    "iid": Population(scheme="iid", workers=8, unseen=2),
    "shards": Population(scheme="shards", workers=8, unseen=2),
    "contiguous": Population(scheme="contiguous", workers=8, unseen=2),
    "natural": Population(scheme="natural", unseen=3),
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """Load the digits; rows are told apart by place, and written by ten hands."""
    pytest.importorskip("sklearn", reason="the extra 'data' is not installed")
    data = datasets.load_dataset("digits")
    return replace(data, groups=torch.arange(data.size) % 10)


@pytest.fixture(params=SHAPES)
def dealt(request, digits):
    population = SHAPES[request.param]
    return population, make_partition(digits, population, 3)


def test_every_scheme_is_tried():
    assert {population.scheme for population in SHAPES.values()} | {"all"} == set(SCHEMES)


@pytest.mark.parametrize("scheme", ["iid", "dirichlet", "all"])
def test_one_test_for_all(scheme, digits):
    """Tested together: a share of the rows that no worker has; the rest is all dealt."""
    population = Population(
        scheme=scheme,
        workers=4,
        unseen=0,
        shared_test=True,
        public=0.0,
        validation=0.0,
        first_rows=1000,
    )
    found = make_partition(digits, population, 3)
    test = set(found.groups["test"][-1].tolist())
    hands = [set(rows.tolist()) for rows in found.train.values()]
    assert list(found.groups) == ["test"]
    assert len(hands) == 4
    assert len(test) == 250
    assert test | set().union(*hands) == set(range(1000))
    assert test.isdisjoint(set().union(*hands))
    assert (len(set().union(*hands)) == len(hands[0])) == (scheme == "all")


def test_an_official_test_part_is_kept_apart(digits):
    """It is the test of all; the first rows are those of the training part."""
    official = replace(digits, test=torch.arange(digits.size) % 3 == 0)
    population = Population(
        scheme="iid",
        workers=2,
        unseen=0,
        shared_test=True,
        public=0.0,
        validation=0.0,
        first_rows=90,
    )
    found = make_partition(official, population, 3)
    assert torch.equal(found.groups["test"][-1], official.test.nonzero()[:, 0])
    train = torch.cat(list(found.train.values())).sort().values
    assert torch.equal(train, (~official.test).nonzero()[:90, 0])


def test_all_rows_for_everyone_leave_none_to_test(digits):
    with pytest.raises(ValueError, match="unseen=0, shared_test=True"):
        make_partition(digits, Population(scheme="all", unseen=0), 3)


def test_no_row_is_in_two_places(dealt, digits):
    _, found = dealt
    train = set(torch.cat(list(found.train.values())).tolist())
    own = {name: set(torch.cat(list(group.values())).tolist())
           for name, group in found.groups.items()}  # fmt: skip
    public, validation = set(found.public.tolist()), set(found.validation.tolist())
    assert train
    assert public
    assert validation
    for name in ("seen", "unseen"):
        assert own[name]
        assert own[name].isdisjoint(train | public | validation)
    assert own["validation"] <= validation
    assert public.isdisjoint(train | validation)
    assert validation.isdisjoint(train)
    assert train | public | validation | own["seen"] | own["unseen"] <= set(range(digits.size))


def test_nobody_is_empty_and_numbers_follow(dealt):
    population, found = dealt
    count = 10 - 3 if population.scheme == "natural" else population.workers
    assert list(found.train) == list(range(count))
    assert list(found.groups["unseen"]) == list(range(count, count + population.unseen))
    assert set(found.groups["seen"]) <= set(found.train)
    for group in (found.train, *found.groups.values()):
        assert all(len(rows) for rows in group.values())


def test_schemes_other_than_labels_share_no_row(dealt):
    population, found = dealt
    rows = torch.cat(list(found.train.values()))
    if population.rows:
        assert all(len(hand) == population.rows for hand in found.train.values())
    else:
        assert len(rows) == len(rows.unique())


@pytest.mark.parametrize("name", ["labels", "labels, every row once"])
@pytest.mark.parametrize("seed", range(4))
def test_unseen_workers_have_label_sets_that_nobody_trains_on(digits, name, seed):
    found = make_partition(digits, SHAPES[name], seed)
    assert digits.y is not None
    known = {tuple(digits.y[rows].unique().tolist()) for rows in found.train.values()}
    unseen = [tuple(digits.y[rows].unique().tolist()) for rows in found.groups["unseen"].values()]
    assert len(unseen) == 4
    assert all(len(labels) == 2 for labels in unseen)
    assert known.isdisjoint(unseen)
    for worker, rows in found.groups["seen"].items():
        own = digits.y[found.train[worker]].unique()
        assert torch.equal(digits.y[rows].unique(), own)
    anchors = [set(digits.y[found.train[worker]].tolist()) for worker in found.anchors]
    assert set.union(*anchors) == set(range(10))
    assert sum(map(len, anchors)) == 10  # disjoint blocks


def test_natural_workers_are_those_of_the_data(digits):
    found = make_partition(digits, SHAPES["natural"], 0)
    assert digits.groups is not None
    for rows in [*found.train.values(), *found.groups["unseen"].values()]:
        assert len(digits.groups[rows].unique()) == 1
    for worker, rows in found.groups["seen"].items():
        assert digits.groups[rows[0]] == digits.groups[found.train[worker][0]]


def test_natural_workers_of_a_table(tmp_path, tiny):
    lines = [f"{row % 7},{row % 3}.5,{'ab'[row % 2]},w{row % 4}" for row in range(80)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["one,two,label,worker", *lines]))
    record = tiny(data=str(path), population={"scheme": "natural", "unseen": 1, "anchors": 0})
    built = build_run(record, "fedavg", 0)
    assert (built.num_seen, built.num_unseen) == (3, 1)
    assert built.shape == (2,)  # neither the label nor the worker is a feature
    groups = read_file(path).groups
    assert groups is not None
    assert len(groups.unique()) == 4


def test_dealing_repeats_and_depends_on_the_seed(dealt, digits):
    population, found = dealt
    again, other = make_partition(digits, population, 3), make_partition(digits, population, 4)
    for worker, rows in found.train.items():
        assert torch.equal(rows, again.train[worker])
    assert any(not torch.equal(rows, other.train[worker]) for worker, rows in found.train.items())


def test_anchors_by_k_means_read_no_labels(tiny):
    """With other labels the same workers are anchors: only inputs are looked at."""
    pytest.importorskip("sklearn", reason="the extra 'data' is not installed")
    record = tiny(population={"scheme": "iid", "anchors": 3})
    built = build_run(record, "ddome", 0)
    assert sorted(built.anchors.values()) == [0, 1, 2]
    assert set(built.anchors) <= set(range(6))
    model = built.method.model
    common = getattr(model, "common")  # noqa: B009
    assert isinstance(common, Common)
    rows = {w: built.open(w).take(torch.arange(built.open(w).size)) for w in range(6)}
    assert all("x" in batch for batch in rows.values())
    x = torch.cat([batch["x"] for batch in rows.values()])
    ends = torch.tensor([len(batch["x"]) for batch in rows.values()]).cumsum(0).tolist()
    hands = {w: torch.arange(end - len(rows[w]["x"]), end) for w, end in enumerate(ends)}
    assert find_anchors(common, x, hands, 3, 0) == built.anchors


def test_an_unknown_data_set(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        read_data(Federation(data="digts"))
    with pytest.raises(ValueError, match="does not exist"):
        read_data(Federation(data=str(tmp_path / "digits.csv")))
