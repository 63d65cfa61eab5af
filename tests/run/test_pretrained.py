"""A pretrained encoder trained along, from the command line: runs, plans, models, refusals."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from moiety import load_model
from moiety.core.ledger import read_ledger
from moiety.core.state import count_bytes
from moiety.data.roles import Columns
from moiety.federation.desk import place_files
from moiety.federation.node import NodeConfig
from moiety.models.folder import open_encoder
from moiety.recipes import RECIPES, ahead
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.prepare import build_seed_data, prepare_seed_data
from moiety.run import cli
from tests.encoders import WORDS, save_encoder

TINY = [
    "--rounds", "2", "--evaluate-every", "2", "--population.scheme", "iid",
    "--population.workers", "4", "--participation.size", "3", "--common.epochs", "2",
    "--checkpoint.every", "1", "--pretrained.length", "8", "--engine", "serial",
]  # fmt: skip


def write_posts(path, rows=120):
    """Write texts whose last words say what they are."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for place in range(rows):
            good = place % 2
            words = rng.choice(WORDS[:3] if good else WORDS[3:6], 1 + place % 9)
            writer.writerow([f"the film {place} was {' '.join(words)}", ["bad", "good"][good]])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Give a folder with posts, an encoder, and runs of three methods on them."""
    root = tmp_path_factory.mktemp("posts")
    write_posts(root / "posts.csv")
    save_encoder(root / "encoder")
    words = ["--methods", "ddome", "fedavg", "common", "--ddome.experts", "3"]
    words += ["--out", str(root / "runs")]
    assert cli.main(["run", *ask(root), *TINY, *words, "--quiet"]) == 0
    return root


def ask(root):
    """Give the words of a run, or of a plan, on the posts."""
    where = ["--data", str(root / "posts.csv"), "--target", "label"]
    return ["yours", *where, "--net", "pretrained", "--pretrained.folder", str(root / "encoder")]


def test_what_is_frozen_is_in_no_piece_and_in_no_file(place):
    """One block and the head travel; embeddings and two blocks are downloaded once, by name."""
    ledgers = {m: read_ledger(place / f"runs/{m}-seed0/ledger.jsonl") for m in ("fedavg", "ddome")}
    served = {m: load_model(place / f"runs/{m}-seed0") for m in ledgers}
    model = served["fedavg"].model
    size, frozen = count_bytes(model.params), count_bytes(model.constants)
    for work in (one for entry in ledgers["fedavg"].rounds for one in entry.workers):
        assert (work.down_bytes, work.up_bytes) == (size, size)
    assert ledgers["fedavg"].start.constant_bytes == frozen
    features = 2 * 4 * 8
    assert ledgers["ddome"].start.constant_bytes == frozen + size + features
    for method, one in served.items():
        assert one.params
        for file in (place / f"runs/{method}-seed0").rglob("*.safetensors"):
            assert not [n for n in load_file(file) if n.endswith(tuple(model.constants))]


def choose(root, folder="encoder"):
    """Give the record of a run on the posts."""
    fields = {"folder": str(root / folder), "length": 8}
    told = {"data": str(root / "posts.csv"), "target": "label", "net": "pretrained"}
    return override_fields(RECIPES["yours"].record, {**told, "pretrained": fields})


def test_experts_begin_as_they_were_pretrained(place):
    """Before the first round they differ in their heads alone, which are drawn."""
    model = build_run(choose(place), "ddome", 0).method.model
    pretrained = open_encoder(str(place / "encoder")).tensors()
    for name, tensor in model.params.items():
        plain = name.removeprefix("expert.")
        if plain in pretrained:
            assert all(torch.equal(one, pretrained[plain]) for one in tensor)
    heads = model.params["expert.head.weight"]
    assert not torch.equal(heads[0], heads[1])


def test_a_run_resumes_bit_for_bit(place, tmp_path):
    for method in ("ddome", "fedavg"):
        copy = tmp_path / method
        shutil.copytree(place / f"runs/{method}-seed0", copy)
        assert cli.main(["resume", str(copy), "--at", "1"]) == 0
        straight, again = (
            (one / "final/model.safetensors").read_bytes()
            for one in (place / f"runs/{method}-seed0", copy)
        )
        assert straight == again


def test_a_finished_model_reads_texts(place, moiety, tmp_path):
    """Of a file of its own, whole or cut down to a worker's experts; texts it knows alike."""
    run = place / "runs/ddome-seed0"
    (tmp_path / "new.csv").write_text("text\nthe film was good\nThe film was GOOD\nbad\n")
    done = moiety("predict", run, "--data", "new.csv", "--out", "told.csv")
    assert done.code == 0, done.err
    told = (tmp_path / "told.csv").read_text().splitlines()
    assert told[1] == told[2]
    assert moiety("personalize", run, "--data", "new.csv", "--out", "mine").code == 0
    small, whole = load_model(tmp_path / "mine"), load_model(run)
    x = whole.input_spec.read(tmp_path / "new.csv", Columns(labels=False)).x
    assert_close(small.predict_log_proba(x), whole.predict_log_proba(x))
    assert moiety("export", place / "runs/fedavg-seed0", "--out", "told.pt2").code == 0


def test_a_plan_has_the_bytes_of_the_run(place, moiety):
    words = ["--pretrained.length", "8", "--methods", "ddome", "fedavg", "--ddome.experts", "3"]
    words += ["--flops", "1e9"]
    said = moiety("plan", *ask(place), *words, "--json")
    assert said.code == 0, said.err
    planned = json.loads(said.out)["methods"]
    for method in ("ddome", "fedavg"):
        ledger = read_ledger(place / f"runs/{method}-seed0/ledger.jsonl")
        assert planned[method]["constant_bytes"] == ledger.start.constant_bytes
        most = max(one.down_bytes for one in ledger.rounds[0].workers)
        assert planned[method]["cost"]["down_bytes"] == most


def test_what_is_kept_ahead_changes_rounding_alone(place, monkeypatch, tmp_path):
    """Where it is too large to keep, every step reads tokens from the first block on."""
    monkeypatch.setattr(ahead, "MOST_BYTES", 0)
    build_seed_data.cache_clear()
    words = ["--methods", "fedavg", "--out", str(tmp_path / "run"), "--quiet"]
    assert cli.main(["run", *ask(place), *TINY, *words]) == 0
    build_seed_data.cache_clear()
    kept, anew = (load_model(one).params for one in (place / "runs/fedavg-seed0", tmp_path / "run"))
    for name, tensor in kept.items():
        assert_close(anew[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_node_has_the_encoder_elsewhere(place):
    """Where the folder is says nothing of the data; what is in it does."""
    shutil.copytree(place / "encoder", place / "copy")
    save_encoder(place / "other", seed=1)
    mine, copy, other = (
        prepare_seed_data(choose(place, name), 0).data_fingerprint
        for name in ("encoder", "copy", "other")
    )
    assert copy == mine != other
    record = choose(place, "not-on-this-machine")
    node = NodeConfig("north", str(place / "posts.csv"), place, model=str(place / "copy"))
    assert prepare_seed_data(place_files(record, node), 0).data_fingerprint == mine
    with pytest.raises(ValueError, match="machine' as model, the node ''"):
        place_files(record, replace(node, model=""))


REFUSED = [
    (["--pretrained.folder", "nowhere"], "'nowhere' is no folder; say --pretrained.folder FOLDER"),
    (["--pretrained.folder", ""], "there is no encoder; say --pretrained.folder FOLDER"),
    (["--pretrained.blocks", "4"], "pretrained.blocks=4, but the encoder has 3"),
    (["--pretrained.length", "2"], "pretrained.length=2, but the encoder reads 3 to 24 tokens"),
    (["--pretrained.length", "25"], "pretrained.length=25, but the encoder reads 3 to 24 tokens"),
    (["--methods", "ddome", "--ddome.gate-input", "rows"], "rows here are words or codes"),
    (["--methods", "ist", "--population.public", "0"], "nothing to assign"),
]


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_choices_that_do_not_fit_are_refused(place, words, told, moiety):
    said = moiety("run", *ask(place), *TINY, "--out", "no", *words)
    assert said.code == 1
    assert told in said.err


def test_a_common_expert_that_reads_other_tokens_is_refused(place, moiety):
    choice = ["--common.model", str(place / "runs/common-seed0"), "--pretrained.length", "9"]
    said = moiety("run", *ask(place), *choice, "--methods", "fedavg", "--out", "no")
    assert said.code == 1
    assert "reads 8 tokens of a text, but pretrained.length=9; say --pretrain" in said.err


def test_numbers_are_no_texts(place, moiety, tmp_path):
    """And texts beside other columns are pointed at."""
    (tmp_path / "n.csv").write_text("a,label\n" + "\n".join(f"{i},{i % 2}" for i in range(40)))
    said = moiety("run", *ask(place), *TINY, "--data", "n.csv", "--out", "no")
    assert "network 'pretrained' reads documents, but the data are table" in said.err
    lines = (place / "posts.csv").read_text().splitlines()
    more = [f"id,{lines[0]}", *(f"{i},{line}" for i, line in enumerate(lines[1:]))]
    (tmp_path / "more.csv").write_text("\n".join(more))
    said = moiety("run", *ask(place), *TINY, "--data", "more.csv", "--out", "no")
    assert "column 'text' holds texts, and is left out (--features text reads it alone" in said.err


def test_what_is_cut_is_said(place, moiety):
    words = ["--rounds", "1", "--methods", "fedavg", "--out", "cut"]
    said = moiety("run", *ask(place), *TINY, *words)
    assert "features text (8 tokens)" in said.err
    assert "8 tokens each at most: 92 of 120 are longer and cut" in said.err


def test_another_encoder_than_that_of_training_is_refused(place, moiety, tmp_path):
    """Whoever goes on with a run, or uses its model, needs the encoder that it began with."""
    for name in ("runs", "encoder", "posts.csv"):
        copy = shutil.copytree if (place / name).is_dir() else shutil.copy
        copy(place / name, tmp_path / name)
    words = ["--methods", "fedavg", "--out", "here", "--quiet"]
    assert moiety("run", *ask(tmp_path), *TINY, *words).code == 0
    save_encoder(tmp_path / "encoder", seed=1)
    said = moiety("predict", "here", "--data", "posts.csv")
    assert said.code == 1
    assert "is not the one that this was trained with; bring that one back" in said.err
    said = moiety("resume", "here", "--at", "1")
    assert said.code == 1
    assert f"or pretrained.folder {tmp_path / 'encoder'}) are not those it began with" in said.err
