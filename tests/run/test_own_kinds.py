"""A graph and a text of one's own, and rows that count by a column, from the command line."""

import json

import numpy as np
import pytest

from moiety.core.ledger import read_ledger
from moiety.data.nodes import read_training_graph
from moiety.data.roles import Columns
from moiety.run.loop import LEDGER


def write_graph(path, **more):
    """Write two rings of nodes, whose features are noise, but for what their neighbours have."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = rng.normal(size=(120, 4)) + 3 * y[:, None]
    edges = np.stack([np.arange(118), np.arange(118) + 2])
    np.savez(path, x=x.astype(np.float32), edges=edges, y=np.array(["u", "v"])[y], **more)


GRAPH = ["run", "gist-cora", "--data", "own.npz", "--methods", "gist", "--rounds", "5",
         "--gcn.hidden", "8", "8", "--participation.size", "2", "--population.workers", "2",
         "--seeds", "1"]  # fmt: skip


def test_a_graph_of_ones_own(moiety, tmp_path):
    write_graph(tmp_path / "own.npz")
    said = moiety(*GRAPH, "--out", "run")
    assert said.code == 0, said.err
    assert "own.npz has no train_mask: of its labelled nodes 6 in 10 train" in said.err
    groups = read_ledger(tmp_path / "run" / LEDGER).evaluations[-1].groups
    assert (sum(groups["test"].rows), sum(groups["validation"].rows)) == (36, 12)
    told = json.loads(moiety("predict", "run", "--data", "own.npz", "--json").out)
    assert told["rows"] == 120
    assert told["accuracy"] > 0.9


def test_masks_of_a_graph_are_those_of_the_file(moiety, tmp_path):
    train = np.arange(120) < 60
    write_graph(tmp_path / "own.npz", train_mask=train, test_mask=~train)
    said = moiety(*GRAPH, "--out", "run")
    assert said.code == 0, said.err
    assert "has no train_mask" not in said.err
    assert sum(read_ledger(tmp_path / "run" / LEDGER).evaluations[-1].groups["test"].rows) == 60
    write_graph(tmp_path / "own.npz", train_mask=train)
    said = moiety(*GRAPH, "--out", "no")
    assert said.code == 1
    assert "give all of ['train_mask', 'val_mask', 'test_mask'], or none" in said.err


@pytest.mark.parametrize("other", ["val_mask", "test_mask"])
def test_a_node_that_trains_and_judges_is_refused(tmp_path, other):
    """The score would be of nodes whose class was learnt."""
    masks = {name: np.zeros(120, dtype=bool) for name in ("train_mask", "val_mask", "test_mask")}
    masks["train_mask"][:60] = masks[other][59:] = True
    write_graph(tmp_path / "own.npz", **masks)
    with pytest.raises(ValueError, match=rf"node 59 is in \['train_mask', '{other}'\]"):
        read_training_graph(tmp_path / "own.npz", Columns())


TEXT = ["run", "ist-shakespeare", "--data", "own.txt", "--methods", "local_sgd", "--rounds", "1",
        "--gpt.width", "8", "--gpt.hidden", "8", "--gpt.heads", "2", "--gpt.depth", "2",
        "--local.steps", "2", "--seeds", "1"]  # fmt: skip


def test_a_text_of_ones_own(moiety, tmp_path):
    (tmp_path / "own.txt").write_text("So sing the song of the sea, and sail. " * 200)
    said = moiety(*TEXT, "--out", "run")
    assert said.code == 0, said.err
    assert "rows of own.txt" in said.err
    told = moiety("predict", "run", "--data", "own.txt")
    assert told.code == 0, told.err
    (tmp_path / "own.txt").write_text("too short")
    assert "more than 1280 characters" in moiety(*TEXT, "--out", "no").err
    (tmp_path / "own.txt").write_bytes(b"caf\xe9" * 1000)
    assert "is not UTF-8" in moiety(*TEXT, "--out", "no").err


def test_rows_that_count_nothing_teach_nothing(moiety, tmp_path):
    """Half of the rows have wrong labels, and weight 0."""
    rng = np.random.default_rng(1)
    lines, right = ["a,b,count,y"], ["a,b,y"]
    for _ in range(400):
        a, b, wrong = rng.normal(), rng.normal(), rng.random() < 0.5
        lines.append(f"{a:.3f},{b:.3f},{0 if wrong else 2},{'uv'[(a > 0) ^ wrong]}")
        right.append(f"{a:.3f},{b:.3f},{'uv'[a > 0]}")
    (tmp_path / "noisy.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "right.csv").write_text("\n".join(right) + "\n")
    found = {}
    for name, words in (("with", ["--weight", "count"]), ("without", ["--drop", "count"])):
        said = moiety("run", "yours", "--data", "noisy.csv", *words, "--methods", "fedavg",
                      "--rounds", "10", "--local.lr", "0.2", "--population.scheme", "iid",
                      "--out", name)  # fmt: skip
        assert said.code == 0, said.err
        told = moiety("predict", name, "--data", "right.csv", "--json")
        found[name] = json.loads(told.out)["accuracy"]
    assert found["with"] > 0.95
    assert found["without"] < 0.9
