"""What is asked of data, networks and methods: by what they say of themselves, never by name."""

import math
from dataclasses import replace

import pytest
import torch

from moiety.data import datasets
from moiety.data.dataset import Dataset
from moiety.data.datasets import DatasetEntry
from moiety.data.graph import Graph, mirror_edges
from moiety.models.networks import NETWORKS
from moiety.recipes import prepare
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.kinds import find_kind
from moiety.run import group, spec

SIZE = 48
Y = torch.arange(SIZE) % 3
MASKS = [torch.arange(SIZE) % 4 == place for place in range(3)]
RING = mirror_edges(torch.stack([torch.arange(SIZE), (torch.arange(SIZE) + 1) % SIZE]))
X = torch.linspace(-1, 1, SIZE * 6).reshape(SIZE, 6)

MADE = {
    "table": Dataset("table", X, Y, ("a", "b", "c")),
    "images": Dataset("images", X.repeat(1, 32).reshape(SIZE, 3, 8, 8), Y, ("a", "b", "c")),
    "text": Dataset(
        "text", (torch.arange(SIZE * 6) % 3).reshape(SIZE, 6),
        (torch.arange(SIZE * 6) + 1).remainder(3).reshape(SIZE, 6), ("a", "b", "c"),
    ),
    "documents": Dataset("documents", (torch.arange(SIZE * 4) % 5).reshape(SIZE, 4), Y,
                         ("a", "b", "c")),
    "graph": Dataset(
        "graph", X, Y, ("a", "b", "c"), test=MASKS[2],
        graph=Graph(RING, MASKS[0], MASKS[1], torch.zeros(SIZE, dtype=torch.long)),
    ),
}  # fmt: skip

SMALL = {
    "mlp": {"hidden": [4]}, "normed": {"hidden": [4]}, "cnn": {"channels": [2, 2], "hidden": 4},
    "vgg": {"channels": [2, 2], "blocks": [1, 1], "hidden": [4]},
    "resnet": {"channels": [2, 2], "blocks": [1, 1]}, "gcn": {"hidden": [4]},
    "sage": {"hidden": [4]}, "gpt": {"hidden": 4, "width": 4, "heads": 2, "depth": 2},
    "bag": {"hidden": 4}, "encoder": {"hidden": 4, "width": 4, "heads": 2},
    "vit": {"hidden": 4, "width": 4, "heads": 2, "depth": 2},
}  # fmt: skip


@pytest.fixture(autouse=True)
def named(monkeypatch):
    """Let each kind of data go by its name."""
    known = {name: DatasetEntry(lambda d=data: d, name, "nothing") for name, data in MADE.items()}
    monkeypatch.setattr(datasets, "DATASETS", {**datasets.DATASETS, **known})


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """Give a folder of a tiny encoder, for a network that reads tokens of one."""
    from tests.encoders import save_encoder  # skips where transformers is not installed

    return save_encoder(tmp_path_factory.mktemp("encoder"))


def of_kind(tiny, kind: str, net: str):
    """Give a record on data of a kind with a network."""
    people = {"scheme": "all", "shared_test": True, "unseen": 0, "anchors": 0, "public": 0.0,
              "workers": 2, "validation": 0.0}  # fmt: skip
    fields = {"data": kind, "net": net, "population": people, "participation": {"anchors": -1}}
    record = override_fields(tiny(), fields)
    return override_fields(record, {net: SMALL[net]} if net in SMALL else {})


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("net", NETWORKS)
def test_a_network_is_built_on_the_kinds_it_reads_and_refused_on_others(tiny, kind, net, encoder):
    record = of_kind(tiny, kind, net)
    if NETWORKS[net].reads.tokens:
        record = override_fields(record, {net: {"folder": encoder}})
    if kind not in NETWORKS[net].reads.kinds:
        with pytest.raises(ValueError, match=f"network '{net}' reads .* but the data are {kind}"):
            build_run(record, "fedavg", 0)
        return
    built = build_run(record, "fedavg", 0)
    batch = next(iter(built.groups["test"].values())).take(
        torch.arange(1 if kind == "graph" else 2)
    )
    scores = built.method.model.logits(built.method.model.params, batch, {})
    assert scores.shape == (*batch["y"].shape, 3)
    assert built.objective.name == ("tokens" if kind == "text" else "classes")


@pytest.mark.parametrize(("net", "kind"), [("vit", "images"), ("gpt", "text")])
@pytest.mark.parametrize("lift", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_factor_with_which_nothing_can_be_trained_is_refused(tiny, net, kind, lift):
    record = override_fields(of_kind(tiny, kind, net), {net: {"lift": lift}})
    with pytest.raises(ValueError, match=f"lift={lift}; choose a finite factor above 0"):
        build_run(record, "fedavg", 0)


@pytest.mark.parametrize("net", ["gcn", "sage"])
@pytest.mark.parametrize("dropout", [1.0, -0.1, float("nan")])
def test_a_chance_that_is_none_is_refused(tiny, net, dropout):
    record = override_fields(of_kind(tiny, "graph", net), {net: {"dropout": dropout}})
    with pytest.raises(ValueError, match=f"dropout={dropout}; choose a chance"):
        build_run(record, "fedavg", 0)


@pytest.mark.parametrize("kind", MADE)
def test_data_are_of_the_kind_they_are(kind):
    assert find_kind(MADE[kind]).name == kind


@pytest.mark.parametrize("kind", [kind for kind in MADE if kind != "graph"])
def test_only_graphs_have_clusters(tiny, kind):
    net = next(net for net, entry in NETWORKS.items() if kind in entry.reads.kinds)
    record = override_fields(of_kind(tiny, kind, net), {"graph": {"clusters": 2}})
    with pytest.raises(ValueError, match="is no graph"):
        build_run(record, "fedavg", 0)


def test_a_reader_of_the_common_expert_is_refused_where_there_is_none(tiny):
    without = {"population": {"public": 0.0}}
    for method in ("ddome", "common"):
        with pytest.raises(ValueError, match=f"{method} needs a common expert"):
            build_run(tiny(**without), method, 0)
    found = {"population": {"public": 0.0, "scheme": "iid"}}
    with pytest.raises(ValueError, match=r"population.anchors=2 of scheme 'iid' needs a common"):
        build_run(tiny(**found), "fedavg", 0)
    assert build_run(tiny(**found, participation={"anchors": -1}), "fedavg", 0).anchors == {}


def test_the_common_expert_is_trained_where_it_is_read_and_only_there(tiny, monkeypatch):
    trained, told = [], []

    def train(*args):
        trained.append(args)
        return before(*args)

    before = prepare.train_common
    monkeypatch.setattr(prepare, "train_common", train)
    prepare.train_seed_common.cache_clear()
    build_run(tiny(seed=77), "dmoe", 77)
    with pytest.raises(ValueError, match=r"local.lr=nan"):
        build_run(tiny(seed=77, local={"lr": math.nan}), "fedavg", 77)
    assert not trained
    for method in ("fedavg", "ddome", "common"):  # the first starts where it ended
        epochs = []  # each has its own watcher, and who watches is not compared
        built = build_run(tiny(seed=77), method, 77, epochs.append)
        assert len(trained) == 1
        told.append((built.common_s, epochs))
    assert len({seconds for seconds, _ in told}) == 1
    assert told[0][0] > 0
    assert [bool(epochs) for _, epochs in told] == [True, False, False]
    first, *_, last = epochs = told[0][1]
    assert [epoch.done for epoch in epochs] == list(range(len(epochs)))
    assert (first.rows, first.last, last.last) == (len(trained[0][2].public[0]), False, True)
    assert [epoch.last for epoch in epochs].count(True) == 1


def test_a_run_is_built_once(tiny, tmp_path, monkeypatch):
    built = []

    def build(record, method, seed, *rest):
        built.append((method, seed))
        return build_run(record, method, seed, *rest)

    monkeypatch.setattr(spec, "build_run", build)
    monkeypatch.setattr(group, "build_run", build)
    record = replace(tiny(), methods=("fedavg", "fedprox"), seeds=2, rounds=1)
    group.start_group("yours", record, tmp_path)
    assert sorted(built) == [(m, s) for m in ("fedavg", "fedprox") for s in (0, 1)]
