"""A personal model: the experts that unlabelled rows choose, and no others."""

import csv
import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from moiety import load_model
from moiety.core.axes import Part, take_piece
from moiety.core.ledger import read_ledger
from moiety.core.rows import TableRows, take_all_rows
from moiety.models.gated import EXPERT
from moiety.recipes.build import build_run
from moiety.run.group import read_spec
from moiety.run.loop import LEDGER
from moiety.serve.config import rebuild_serve


@pytest.fixture
def mine(table, tmp_path):
    """Write the rows of two classes, with their labels."""
    with np.load(table) as raw:
        keep = np.isin(raw["y"], ["red", "blue"])
        x, y = raw["x"][keep], raw["y"][keep]
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    return tmp_path / "mine.npz", x, y


def rows_of(x) -> torch.Tensor:
    return torch.from_numpy(x)


@pytest.mark.parametrize("experts", [1, 2, 3])
@pytest.mark.parametrize("serve", ["top1", "soft"])
def test_it_answers_as_the_whole_restricted_to_its_experts(
    moiety, lab, tiny, mine, tmp_path, experts, serve
):
    path, x, _ = mine
    run = lab.play(tiny(ddome={"serve": serve}), "ddome")
    said = moiety("personalize", run, "--data", path, "--experts", experts, "--out", "own",
                  "--json")  # fmt: skip
    told = json.loads(said.out)
    whole: Any = load_model(run)
    own: Any = load_model(tmp_path / "own")

    # The experts of the highest mean gate score, by hand.
    rows = TableRows({"x": whole.input_spec.rows(rows_of(x))}, torch.arange(len(x)))
    batch = whole.model.common(take_all_rows(rows))
    score = whole.model.log_gate(whole.params, batch).exp().mean(0)
    chosen = sorted(score.argsort(descending=True)[:experts].tolist())
    assert told["experts"] == chosen == own.note["experts"]

    tensors = load_file(tmp_path / "own" / "model.safetensors")
    for name, value in load_file(run / "final" / "model.safetensors").items():
        if name.startswith("expert.") or name.startswith("gate.layer2."):
            assert torch.equal(tensors[name], value[chosen]), name
        else:
            assert torch.equal(tensors[name], value), name
    assert told["bytes"] == (tmp_path / "own" / "model.safetensors").stat().st_size
    if experts < 3:
        assert told["bytes"] < (run / "final" / "model.safetensors").stat().st_size

    part = Part({EXPERT: torch.tensor(chosen)})
    piece = take_piece(whole.params, whole.model.axes, part)
    wanted = whole.serve.scores(piece, batch, part.axes)
    torch.testing.assert_close(own.predict_log_proba(rows_of(x)), wanted, rtol=0, atol=1e-6)
    share = wanted.exp().mean(0).tolist()
    assert list(told["coverage"].values()) == pytest.approx(share, abs=1e-6)
    assert sum(told["coverage"].values()) == pytest.approx(1, abs=1e-5)
    routes = read_ledger(run / LEDGER).evaluations[-1].routes
    for place, name in enumerate(whole.input_spec.classes):
        assert told["routed"][name] == sum(routes[e][place] for e in chosen)


def test_labels_change_nothing(moiety, played, mine, tmp_path):
    """Right labels, permuted labels, nonsense and none at all: the same bytes."""
    _, x, y = mine
    shuffled = np.random.default_rng(0).permutation(y)
    nonsense = np.array([f"n{place}" for place in range(len(y))])
    for name, labels in (("right", y), ("shuffled", shuffled), ("odd", nonsense), ("none", None)):
        arrays = {"x": x} if labels is None else {"x": x, "y": labels}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        said = moiety("personalize", played, "--data", f"{name}.npz", "--out", f"p-{name}")
        assert said.code == 0
    for file in ("model.safetensors", "config.json"):
        written = {(tmp_path / f"p-{name}" / file).read_bytes()
                   for name in ("right", "shuffled", "odd", "none")}  # fmt: skip
        assert len(written) == 1


def test_labels_are_not_even_opened(moiety, played, mine, monkeypatch):
    path, _, _ = mine
    opened = []
    plain = np.lib.npyio.NpzFile.__getitem__

    def seen(self, name):
        opened.append(name)
        return plain(self, name)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", seen)
    assert moiety("personalize", played, "--data", path, "--out", "own").code == 0
    assert set(opened) == {"x"}


def test_the_label_column_of_a_table_is_left_out(moiety, played, mine, tmp_path):
    _, x, y = mine
    for name, column, labels in (
        ("one", "label", y),
        ("two", "label", y[::-1]),
        ("three", "kind", y),
    ):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*"abcdef", column])
            writer.writerows(
                [*map(float, row), label] for row, label in zip(x, labels, strict=True)
            )
    written = set()
    for name, words in (("one", []), ("two", []), ("three", ["--target", "kind"])):
        said = moiety("personalize", played, "--data", f"{name}.csv", "--out", name, *words)
        assert said.code == 0, said.err
        written.add((tmp_path / name / "model.safetensors").read_bytes())
    assert len(written) == 1


def test_predict_takes_the_personal_model(moiety, played, mine, tmp_path):
    path, x, y = mine
    moiety("personalize", played, "--data", path, "--experts", 2, "--out", "own")
    said = moiety("predict", "own", "--data", path, "--out", "classes.csv", "--json")
    told, served = json.loads(said.out), load_model(tmp_path / "own")
    guess = [served.input_spec.classes[i] for i in served.predict(rows_of(x)).tolist()]
    assert told["classes"] == guess
    assert told["accuracy"] == pytest.approx(float(np.mean(np.array(guess) == y)))
    with (tmp_path / "classes.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == guess
    said = moiety("personalize", played, "--data", path, "--merged", "--out", "one")
    assert "merged into one model" in said.out, said.err
    assert moiety("predict", "one", "--data", path, "--out", "more.csv").code == 0
    assert not any(name.startswith("gate.") for name in load_model(tmp_path / "one").params)


def test_a_personal_model_can_be_made_smaller_still(moiety, played, mine):
    """Experts keep the numbers that they had in the whole model."""
    path, _, _ = mine
    moiety("personalize", played, "--data", path, "--experts", 2, "--out", "two")
    assert moiety("personalize", "two", "--data", path, "--experts", 1, "--out", "one").code == 0
    [expert] = load_model("one").note["experts"]
    assert expert in load_model("two").note["experts"]
    whole, one = load_model(played).params, load_model("one").params
    for name in whole:
        if name.startswith("expert."):
            assert torch.equal(one[name][0], whole[name][expert])


def test_what_it_prints(moiety, played, mine):
    path, _, _ = mine
    said = moiety("personalize", played, "--data", path, "--experts", 2, "--out", "own")
    experts = load_model("own").note["experts"]
    assert said.out.startswith(f"experts {experts} of 3; ")
    for name in load_model("own").input_spec.classes:
        assert f"\n{name}" in said.out
    again = moiety("personalize", played, "--data", path, "--out", "own")
    assert again.code == 1
    assert "own already holds something; choose another --out" in again.err


@pytest.mark.parametrize(("method", "words"), [("fedavg", ()), ("ddome", ("--experts", "2"))])
def test_the_mix_of_classes_stays_with_the_personal_model(
    moiety, lab, tiny, mine, tmp_path, method, words
):
    """Of any method: shares come from unlabelled rows, and one row alone is answered by them."""
    path, x, _ = mine
    record = tiny(rounds=12, serve={"prior": "em"}, local={"prior": "adjust"})
    run = lab.play(record, method)
    said = moiety("personalize", run, "--data", path, *words, "--out", "own", "--json")
    cover = json.loads(said.out)["coverage"]
    assert cover["red"] + cover["blue"] > 0.9
    whole: Any = load_model(run)
    own: Any = load_model(tmp_path / "own")
    assert own.serve.inner == rebuilt(own.serve.inner, own)
    told, rows = own.predict_log_proba(rows_of(x)), rows_of(x)[:2]
    alone = torch.cat([own.predict_log_proba(rows[:1]), own.predict_log_proba(rows[1:])])
    torch.testing.assert_close(alone, told[:2], atol=1e-5, rtol=0)
    if method == "fedavg":  # the whole model, all rows given at once, is corrected alike
        torch.testing.assert_close(told, whole.predict_log_proba(rows_of(x)))
        assert moiety("personalize", run, "--data", path, "--experts", 2, "--out", "b").code == 1


def rebuilt(serve, model):
    return rebuild_serve(serve.config(), model.model, model.objective)


@pytest.mark.parametrize("method", ["ensemble", "ifca", "ditto", "fedem"])
def test_models_of_several_networks_are_saved_and_answer_alike(lab, tiny, mine, method):
    """A model beside another is built again from the folder, and serves as in the run."""
    _, x, _ = mine
    run = lab.play(tiny(rounds=2, evaluate_every=2, participation={"anchors": -1}), method)
    spec = read_spec(run)
    told: Any = load_model(run)
    serve: Any = build_run(spec.record, method, spec.seed).method.serve
    assert serve.config() == told.serve.config()
    rows = told.open(rows_of(x))
    part = serve.choose(told.params, rows)
    piece = take_piece(told.params, told.model.axes, part)
    wanted = serve.scores(piece, take_all_rows(rows), part.axes)
    torch.testing.assert_close(told.predict_log_proba(rows_of(x)), wanted)
