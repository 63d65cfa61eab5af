"""Finished models of graphs and of texts, used on files and from Python."""

import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moiety import METHODS, LocalTraining, Task, TrainConfig, load_model, train
from moiety.core.errors import RunError
from moiety.core.files import add_digest
from moiety.core.ledger import read_ledger
from moiety.core.streams import stream
from moiety.data.cache import VARIABLE
from moiety.data.dataset import Dataset
from moiety.data.datasets import DATASETS, DatasetEntry
from moiety.data.graph import Graph, GraphRows, mask_labels, mirror_edges
from moiety.data.texts import cut_windows
from moiety.models.graph import graphnet
from moiety.recipes import RECIPES
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.record import Federation
from moiety.run.group import start_run
from moiety.run.loop import LEDGER
from moiety.run.spec import resolve_run
from moiety.serve.predictor import CONFIG, MODEL
from moiety.tasks.classes import Classes
from moiety.tasks.objectives import NodeLosses

shelf = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} is not set")

NODES, WIDTH, CONTEXT = 60, 12, 8
KINDS = ("a", "b", "c")
LETTERS = "\n ,abc"


def ring() -> Any:
    """Draw nodes of three classes on a ring with chords, all joined to their like."""
    rng = stream(0, "ring")
    y = torch.arange(NODES) % 3
    x = torch.randn(NODES, WIDTH, generator=rng)
    x[torch.arange(NODES), y] += 1.5
    one = torch.cat([torch.arange(NODES), torch.arange(20)])
    other = torch.cat([(torch.arange(NODES) + 3) % NODES, torch.arange(20) + 31])
    place = torch.arange(NODES) // 20
    graph = Graph(
        mirror_edges(torch.stack([one, other])), place == 0, place == 1, torch.zeros_like(y)
    )
    return Dataset("ring", x, y, KINDS, test=place == 2, graph=graph)


def song() -> str:
    """Draw a text in which letters tend to come in order."""
    rng = stream(0, "song")
    steps = 1 + (torch.rand(2003, generator=rng) < 0.2).long()
    return "".join(LETTERS[place] for place in (steps.cumsum(0) % len(LETTERS)).tolist())


def fable() -> Any:
    text = song()
    x, y = cut_windows(torch.tensor([LETTERS.index(one) for one in text]), CONTEXT)
    test = torch.arange(len(x)) >= round(len(x) * 0.9)
    return Dataset("fable", x.clone(), y.clone(), tuple(LETTERS), test=test)


@pytest.fixture(scope="module", autouse=True)
def named():
    """Have a small graph and a small text among the data sets that go by a name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "ring", DatasetEntry(ring, "a ring", "nothing"))
        patch.setitem(DATASETS, "fable", DatasetEntry(fable, "a fable", "nothing"))
        yield


def play(folder: Path, record: Federation, method: str) -> Path:
    spec, built = resolve_run("yours", record, method, 0)
    start_run(spec, built, folder)
    return folder


@pytest.fixture(scope="module")
def graph_run(named, tmp_path_factory) -> Path:
    del named
    record = RECIPES["gist-cora"].record
    small = {
        "data": "ring", "rounds": 2, "engine": "serial", "graph": {"project": 7, "clusters": 3},
        "gcn": {"hidden": (8, 8)}, "local": {"steps": 3}, "participation": {"size": 2},
        "population": {"workers": 2},
    }  # fmt: skip
    return play(tmp_path_factory.mktemp("played") / "graph", override_fields(record, small), "gist")


TEXT = {
    "rounds": 2, "evaluate_every": 2, "engine": "serial", "local": {"steps": 3, "batch": 4},
    "gpt": {"hidden": 8, "width": 8, "depth": 3, "heads": 4},
}  # fmt: skip


@pytest.fixture(scope="module")
def text_run(named, tmp_path_factory) -> Path:
    del named
    record = override_fields(RECIPES["ist-shakespeare"].record, {**TEXT, "data": "fable"})
    return play(tmp_path_factory.mktemp("played") / "text", record, "ist")


def write_graph(path: Path, data: Any, **changes: object) -> None:
    """Write a graph as its owner has it: each edge once, labels of test nodes alone."""
    edges = data.graph.edges[:, : data.graph.edges.shape[1] // 2]
    y = torch.where(data.test, data.y, -1).numpy()
    arrays = {"x": data.x.numpy(), "edges": edges.numpy(), "y": y, **changes}
    np.savez(path, **{name: one for name, one in arrays.items() if one is not None})


def test_predicted_nodes_are_those_of_the_last_evaluation(moiety, graph_run, tmp_path):
    names = np.array([*KINDS, "-1"])[np.where(ring().test, ring().y, 3)]
    write_graph(tmp_path / "graph.npz", ring(), y=names)
    told = json.loads(moiety("predict", graph_run, "--data", "graph.npz", "--json").out)
    wanted = read_ledger(graph_run / LEDGER).evaluations[-1].groups["test"]
    assert wanted.rows == [20]
    assert told["accuracy"] == wanted.metrics["accuracy"][0]
    assert told["rows"] == NODES == sum(told["counts"].values())


def test_nodes_are_scored_as_in_training(graph_run):
    """The rows of the run itself, through the saved model, against raw features."""
    spec = json.loads((graph_run / "config.json").read_text())
    record = override_fields(RECIPES["gist-cora"].record, spec["fields"])
    built, served = build_run(record, "gist", 0), load_model(graph_run)
    [rows] = built.groups["test"].values()
    batch = rows.take(torch.arange(1))
    assert batch["x"].shape == (NODES, 7)
    wanted = served.model.logits(served.params, batch, {}).log_softmax(-1)
    data = ring()
    found = served.predict_log_proba(data.x, data.graph.edges)
    torch.testing.assert_close(found, wanted)
    here = batch["y"] >= 0
    loss = -wanted[here].gather(1, batch["y"][here][:, None]).mean().item()
    last = read_ledger(graph_run / LEDGER).evaluations[-1].groups["test"]
    assert loss == pytest.approx(last.metrics["loss"][0], rel=1e-6)


def test_edges_may_lie_either_way_twice_or_in_a_loop(graph_run):
    served, data = load_model(graph_run), ring()
    once = data.graph.edges[:, : data.graph.edges.shape[1] // 2]
    wanted = served.predict_log_proba(data.x, once)
    loops = torch.arange(NODES).expand(2, NODES)
    for edges in (
        once.flip(0),
        mirror_edges(once),
        torch.cat([once, once.flip(0)[:, :9], loops], 1),
    ):
        assert torch.equal(served.predict_log_proba(data.x, edges.int()), wanted)
    apart = served.predict_log_proba(data.x, torch.zeros(2, 0, dtype=torch.long))
    assert not torch.allclose(apart, wanted)
    assert torch.equal(served.predict(data.x, once), wanted.argmax(1))


def test_a_graph_needs_no_labels_and_writes_classes(moiety, graph_run, tmp_path):
    write_graph(tmp_path / "bare.npz", ring(), y=None)
    said = moiety("predict", graph_run, "--data", "bare.npz", "--out", "classes.csv")
    assert said.code == 0
    assert "accuracy" not in said.out
    data, served = ring(), load_model(graph_run)
    told = served.predict_log_proba(data.x, data.graph.edges)
    with (tmp_path / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [KINDS[i] for i in told.argmax(1).tolist()]
    sure = [float(row["probability"]) for row in rows]
    assert sure == pytest.approx(told.exp().amax(1).tolist(), abs=1e-6)


def bad(edges: torch.Tensor, node: int) -> np.ndarray:
    changed = edges.numpy().copy()
    changed[1, 3] = node
    return changed


EDGES = ring().graph.edges
GRAPHS = [
    ({"x": ring().x.numpy()[:, :7]}, r"trained on nodes with 12 features; give x [N, 12]"),
    ({"edges": None}, "no 'edges'; this model reads a graph"),
    ({"x": None}, "no 'x'; this model reads a graph"),
    ({"edges": bad(EDGES, NODES)}, f"edge 3 joins nodes [3, {NODES}], but x has {NODES} nodes"),
    ({"edges": bad(EDGES, -1)}, "edge 3 joins nodes [3, -1]"),
    ({"edges": EDGES.T.numpy()}, "give whole numbers [2, E]"),
    ({"edges": EDGES.numpy() * 1.0}, "dtype float64; give whole numbers"),
    ({"edges": EDGES.numpy().astype(object)}, "never unpickled"),
    ({"y": np.zeros(3, int)}, "'y' has 3 rows, but 'x' has 60"),
    ({"y": np.full(NODES, 9)}, "labels ['9'] are not among the model's classes"),
    ({"x": np.full((NODES, WIDTH), np.nan)}, "'x' is nan in row 1"),
    ({"x": np.zeros((NODES, 2, 6))}, "'x' has shape [60, 1, 2, 6]; give a row for each node"),
]


@pytest.mark.parametrize(("changes", "wanted"), GRAPHS)
def test_graphs_that_do_not_fit(moiety, graph_run, tmp_path, changes, wanted):
    write_graph(tmp_path / "bad.npz", ring(), **changes)
    said = moiety("predict", graph_run, "--data", "bad.npz")
    assert said.code == 1
    assert wanted in said.err
    assert said.out == ""


def test_no_model_takes_what_another_reads(moiety, graph_run, text_run, played, tmp_path):
    write_graph(tmp_path / "graph.npz", ring())
    (tmp_path / "rows.csv").write_text("one,two\n1,2\n")
    (tmp_path / "text.txt").write_text(song())
    (tmp_path / "empty.npz").touch()
    refused = [
        (played, "graph.npz", "holds a graph"),
        (played, "text.txt", "ends in '.txt'"),
        (graph_run, "rows.csv", "is no graph"),
        (graph_run, "empty.npz", "is empty; give an npz file"),
        (graph_run, "none.npz", "does not exist; give an npz file"),
        (graph_run, ".", "is a folder; give an npz file"),
        (text_run, "graph.npz", "is no text"),
        (text_run, "rows.csv", "is no text"),
    ]
    for run, file, wanted in refused:
        said = moiety("predict", run, "--data", file)
        assert said.code == 1
        assert wanted in said.err
    table, data = load_model(played), ring()
    with pytest.raises(ValueError, match="reads no graph; leave them out"):
        table.predict(torch.zeros(1, 6), data.graph.edges)
    with pytest.raises(ValueError, match=r"give its edges, \[2, E\]"):
        load_model(graph_run).predict(data.x)
    said = moiety("personalize", graph_run, "--data", "graph.npz", "--out", "mine")
    assert said.code == 1
    assert "no gated experts" in said.err


def tail() -> str:
    """Give the test part, with the character that follows its last window."""
    rows = int(fable().test.sum())
    end = len(fable().x) * CONTEXT + 1
    return song()[end - rows * CONTEXT - 1 : end]


def test_the_loss_of_a_text_is_that_of_the_last_evaluation(moiety, text_run, tmp_path):
    (tmp_path / "text.txt").write_text(tail())
    told = json.loads(moiety("predict", text_run, "--data", "text.txt", "--json").out)
    wanted = read_ledger(text_run / LEDGER).evaluations[-1].groups["test"]
    assert told["characters"] == wanted.rows[0] == len(tail()) - 1
    assert told["nats"] == pytest.approx(wanted.metrics["loss"][0], rel=1e-9)
    assert told["bits"] == pytest.approx(told["nats"] / math.log(2))
    assert told["accuracy"] == wanted.metrics["accuracy"][0]
    text = moiety("predict", text_run, "--data", "text.txt").out
    assert f"{told['nats']:.4f}" in text
    assert f"{told['bits']:.4f}" in text


def test_every_character_but_the_first_is_scored_once(moiety, text_run, tmp_path):
    """Also those that windows side by side leave over: the last window ends with the text."""
    text = tail()[: 3 * CONTEXT - 2]
    (tmp_path / "text.txt").write_text(text)
    said = moiety("predict", text_run, "--data", "text.txt", "--out", "out.csv")
    assert f"{len(text) - 1} characters" in said.out
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "".join(row["character"] for row in rows) == text[1:]
    served = load_model(text_run)
    tokens = torch.tensor([served.input_spec.classes.index(one) for one in text])
    starts = [0, CONTEXT, len(text) - 1 - CONTEXT]
    told = served.predict_log_proba(torch.stack([tokens[s : s + CONTEXT] for s in starts]))
    assert told.shape == (3, CONTEXT, len(LETTERS))
    flat = torch.cat([told[0], told[1], told[2, -(len(text) - 1 - 2 * CONTEXT) :]]).exp()
    assert [row["predicted"] for row in rows] == [LETTERS[i] for i in flat.argmax(1).tolist()]
    sure = [float(row["probability"]) for row in rows]
    assert sure == pytest.approx(flat.amax(1).tolist(), abs=1e-6)
    came = flat.gather(1, tokens[1:, None])[:, 0].tolist()
    assert [float(row["character_probability"]) for row in rows] == pytest.approx(came, abs=1e-6)


TEXTS = [
    ("", "is empty; give a text in UTF-8 of at least 9 characters"),
    ("abc", "has 3 characters, but the model reads 8"),
    ("abcabcab", "has 8 characters, but the model reads 8"),
    (f"abc\n{'abc' * 9}éZ", "does not know: 'Z' (line 2), 'é' (line 2); replace or drop them"),
    (b"\xff\xfe" + bytes(40), "is not UTF-8"),
]


@pytest.mark.parametrize(
    ("text", "wanted"), TEXTS, ids=["empty", "short", "just short", "unknown", "bytes"]
)
def test_texts_that_do_not_fit(moiety, text_run, tmp_path, text, wanted):
    raw = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "text.txt").write_bytes(raw)
    said = moiety("predict", text_run, "--data", "text.txt")
    assert said.code == 1
    assert wanted in said.err


def test_a_text_as_other_systems_write_it(moiety, text_run, tmp_path):
    (tmp_path / "here.txt").write_bytes(b"abc,\nabc, abc, abc\n")
    (tmp_path / "there.txt").write_bytes(b"\xef\xbb\xbfabc,\r\nabc, abc, abc\r\n")
    told = [
        moiety("predict", text_run, "--data", name, "--json").out
        for name in ("here.txt", "there.txt")
    ]
    assert told[0] == told[1]
    said = moiety("predict", text_run, "--data", "here.txt", "--target", "line")
    assert said.code == 1
    assert "leave out --target" in said.err


def test_tokens_that_are_none(text_run):
    served = load_model(text_run)
    for x in (torch.full((1, CONTEXT), 6), torch.full((1, CONTEXT), -1)):
        with pytest.raises(ValueError, match="reads 6 characters by their numbers"):
            served.predict(x)
    with pytest.raises(ValueError, match="takes tokens"):
        served.predict(torch.zeros(1, CONTEXT))
    with pytest.raises(ValueError, match="rows have shape"):
        served.predict(torch.zeros(1, 3, dtype=torch.long))


def test_a_model_says_itself_what_it_takes(graph_run, text_run, tmp_path):
    """The folder ``final`` alone is enough, and a medium that is not known is refused."""
    for run in (graph_run, text_run):
        config = json.loads((run / "final" / CONFIG).read_text())
        alone = tmp_path / f"alone-{run.name}"
        alone.mkdir()
        (alone / MODEL).write_bytes((run / "final" / MODEL).read_bytes())
        (alone / CONFIG).write_text(json.dumps(config))
        assert load_model(alone).input_spec.adapter == load_model(run).input_spec.adapter
        config["adapter"] = {"kind": "sound"}
        (alone / CONFIG).write_text(json.dumps(add_digest(config)))
        with pytest.raises(RunError, match="does not describe"):
            load_model(alone)


def test_a_run_of_your_own_on_a_graph_is_used_so_too(tmp_path):
    data, model = ring(), graphnet("gcn", (WIDTH, 6, len(KINDS)), stream(0, "net"))
    rows = {
        place: GraphRows(
            {"x": data.x, "y": mask_labels(data.y, data.graph.train)},
            data.graph.edges,
            torch.arange(NODES) // 20,
            torch.arange(3),
        )
        for place in range(2)
    }
    local = LocalTraining(lr=0.05, batch=3, epochs=1)
    method = METHODS["fedavg"].make(
        Task(model, local, objective=Classes(unscored=True), losses=NodeLosses)
    )
    state = train(method, rows, tmp_path / "mine", TrainConfig(rounds=2), classes=KINDS)
    served = load_model(tmp_path / "mine")
    batch = {"x": data.x, "edges": data.graph.edges}
    wanted = model.logits(state.params, batch, {}).log_softmax(-1)
    torch.testing.assert_close(served.predict_log_proba(data.x, data.graph.edges), wanted)


@shelf
def test_papers_of_cora_are_predicted_as_in_the_ledger(moiety, lab, tmp_path):
    record = override_fields(
        RECIPES["gist-cora"].record,
        {"rounds": 1, "engine": "serial", "gcn": {"hidden": (16, 16)}, "local": {"steps": 2}},
    )
    run, data = lab.play(record, "gist"), DATASETS["cora"].load()
    write_graph(tmp_path / "graph.npz", data)
    told = json.loads(moiety("predict", run, "--data", "graph.npz", "--json").out)
    wanted = read_ledger(run / LEDGER).evaluations[-1].groups["test"]
    assert told["accuracy"] == wanted.metrics["accuracy"][0]
    assert wanted.rows == [1000]
    assert load_model(run).input_spec.adapter.config() == {
        "kind": "graph",
        "inputs": 1433,
        "project": 512,
    }


@shelf
def test_shakespeare_is_foreseen_as_in_the_ledger(moiety, lab, tmp_path):
    record = override_fields(RECIPES["ist-shakespeare"].record, {**TEXT, "rounds": 1})
    run = lab.play(replace(record, evaluate_every=1), "ist")
    data: Any = DATASETS["shakespeare"].load()
    tokens = torch.cat([data.x[data.test].flatten(), data.y[data.test][-1, -1:]])
    text = "".join(data.classes[place] for place in tokens.tolist())
    (tmp_path / "text.txt").write_text(text)
    told = json.loads(moiety("predict", run, "--data", "text.txt", "--json").out)
    wanted = read_ledger(run / LEDGER).evaluations[-1].groups["test"]
    assert told["nats"] == pytest.approx(wanted.metrics["loss"][0], rel=1e-6)
    assert told["characters"] == wanted.rows[0]
