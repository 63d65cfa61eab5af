"""Every command of the command line: what it prints, writes and answers."""

import csv
import json

import numpy as np
import pytest

import moiety as package
from moiety.core.ledger import read_ledger
from moiety.data.datasets import DATASETS
from moiety.engine.names import ENGINES
from moiety.methods import METHODS
from moiety.models.networks import NETWORKS
from moiety.recipes import RECIPES, prepare
from moiety.run.cli import COMMANDS
from moiety.run.commands import run as run_command
from moiety.run.loop import LEDGER


def strict(text: str):
    """Parse JSON as other languages do: NaN and infinity are no JSON."""

    def refuse(word):
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def test_run_writes_a_folder_for_every_method_and_seed(moiety, small, tmp_path):
    said = moiety("run", "yours", *small, "--methods", "fedavg", "ddome", "--seeds", 2,
                  "--seed", 3, "--out", "mine")  # fmt: skip
    assert said.code == 0
    names = {"fedavg-seed3", "ddome-seed3", "fedavg-seed4", "ddome-seed4"}
    group = strict((tmp_path / "mine" / "group.json").read_text())
    assert set(group["runs"]) == names
    for name in names:
        run = tmp_path / "mine" / name
        ledger = read_ledger(run / LEDGER)
        assert f"{ledger.start.method}-seed{ledger.start.seed}" == name
        assert len(ledger.rounds) == 4
        assert {path.name for path in run.iterdir()} >= {
            "config.json", "ledger.jsonl", "checkpoints", "final",
        }  # fmt: skip
        assert package.load_model(run).note["method"] == ledger.start.method
    assert "fedavg" in said.out
    assert "ddome" in said.out
    assert "report: mine/report.html" in said.out
    assert (tmp_path / "mine" / "report.html").stat().st_size > 1000


def test_run_prints_json(moiety, small, tmp_path):
    said = moiety("run", "yours", *small, "--out", "mine", "--json")
    told = strict(said.out)
    assert told["out"] == "mine"
    assert told["report"] == "mine/report.html"
    assert told["runs"] == ["mine/fedavg-seed0", "mine/ddome-seed0"]
    assert isinstance(told["summary"], dict | list)
    assert said.code == 0
    again = moiety("resume", "mine", "--json")
    assert strict(again.out)["summary"] == told["summary"]
    assert "is over; nothing to resume" in again.err
    report = moiety("report", "mine", "--json", "--out", "page.html")
    assert strict(report.out) == {"report": "page.html", "summary": told["summary"]}
    assert (tmp_path / "page.html").exists()


def test_one_line_a_round_where_there_is_no_terminal(moiety, small):
    said = moiety("run", "yours", *small, "--methods", "fedavg", "--out", "mine")
    lines = said.err.splitlines()
    assert [line.split(":")[1].split(",")[0] for line in lines if "loss" in line] == [
        f" round {place}/4" for place in (1, 2, 3, 4)
    ]
    assert sum("after round" in line for line in lines) == 3  # one before the first round


def test_a_run_says_as_much_as_is_asked_for(moiety, small, lines, tmp_path, monkeypatch):
    """The numbers are the same; said is nothing, a line a round, or all that the ledger says."""
    words = ["run", "yours", *small, "--methods", "fedavg", "--rounds", "1", "--local.lr", "0.07"]
    monkeypatch.setattr(run_command, "write_runs_report", lambda runs, out: None)  # slow
    prepare.train_seed_common.cache_clear()
    loud = moiety(*words, "--verbose", "--out", "loud")
    prepare.train_seed_common.cache_clear()
    quiet = moiety(*words, "--quiet", "--out", "quiet")
    assert (loud.code, quiet.code, quiet.err) == (0, 0, "")
    assert "fedavg" in quiet.out
    start, *_ = ledger = lines(tmp_path / "loud")
    said = loud.err.splitlines()
    assert f"repeat with: {start['command']}" in loud.err
    assert [line for line in said if line.startswith("common expert: epoch 1/")]
    (played,) = [line for line in said if "round 1/1" in line]
    assert f"{ledger[2]['down_bytes']:,} bytes down" in played
    assert f"workers {' '.join(str(work['worker']) for work in ledger[2]['workers'])}" in played
    assert {"accuracy/seen", "loss/unseen"} <= {word for line in said for word in line.split()}
    for command in (words, ["resume", "loud"]):
        both = moiety(*command, "--quiet", "--verbose")
        assert (both.code, both.out) == (2, "")
        assert "--quiet and --verbose" in both.err


def test_runs_are_numbered_by_default(moiety, small, tmp_path):
    for _ in range(2):
        assert moiety("run", "yours", *small, "--methods", "fedavg").code == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"yours", "yours-2"}


def test_a_folder_that_holds_something_is_left_alone(moiety, small, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    said = moiety("run", "yours", *small, "--out", "mine")
    assert said.code == 1
    assert said.err.endswith("mine already holds something; choose another --out\n")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_fields_of_a_toml_file(moiety, small, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'methods = ["fedprox"]\nrounds = 3\n[local]\nlr = 1\n[fedprox]\nmu = 0.5\n'
        "[mlp]\nhidden = [3, 3]\n"
    )
    rest = [word for pair in zip(small[::2], small[1::2], strict=True)
            if pair[0] not in ("--rounds", "--mlp.hidden") for word in pair]  # fmt: skip
    said = moiety("run", "yours", *rest, "--config=mine.toml", "--local.lr", 0.25, "--out", "mine")
    assert said.code == 0
    start = read_ledger(tmp_path / "mine" / LEDGER).start
    assert (start.method, start.rounds) == ("fedprox", 3)
    assert start.config["local"]["lr"] == 0.25  # the command line has the last word
    assert start.config["fedprox"]["mu"] == 0.5
    assert start.config["mlp"]["hidden"] == [3, 3]


@pytest.mark.parametrize(("text", "said"), [
    ("rouds = 3", "unknown field 'rouds'; did you mean 'rounds'"),
    ("[local]\nlearning = 1.0", "unknown field 'local.learning'"),
    ("[ddome]\nexpert = 2", "unknown field 'ddome.expert'; did you mean 'experts'"),
    ('rounds = "many"', "field 'rounds' is a int (50), got 'many'"),
    ("rounds = true", "field 'rounds' is a int (50), got True"),
    ('[mlp]\nhidden = ["wide"]', "field 'mlp.hidden' is a int (64), got 'wide'"),
    ("local = 3", "field 'local' holds a record, got 3"),
    ("rounds =", "cannot read fields from mine.toml"),
])  # fmt: skip
def test_a_toml_file_with_mistakes(moiety, tmp_path, text, said):
    (tmp_path / "mine.toml").write_text(text)
    found = moiety("run", "yours", "--config", "mine.toml")
    assert found.code == 2
    assert said in found.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("words", "said"), [
    (["runn"], "unknown command 'runn'; did you mean 'run'"),
    (["run", "quickstrat"], "unknown recipe 'quickstrat'; did you mean 'quickstart'"),
    (["sweep", "quickstrat"], "unknown recipe 'quickstrat'; did you mean 'quickstart'"),
    (["run", "ddome"], "unknown recipe 'ddome'; it is a method: moiety run yours --methods ddome"),
    (["run", "yours", "--methods", "fedavgg"], "unknown method 'fedavgg'; did you mean 'fedavg'"),
    (["run", "yours", "--engine", "vectorised"], "did you mean 'vectorized'"),
    (["run", "yours", "--device", "gpu"], "unknown device 'gpu'; choose 'cpu' or 'cuda'"),
    (["run", "yours", "--rouns", "3"], "--rounds"),
    (["run", "yours", "--local.lrr", "3"], "--local.lr"),
    (["run", "yours", "--ddome.kk", "3"], "--ddome.k"),
    (["run", "yours", "--rounds", "x"], "--rounds"),
    (["run", "yours", "--rounds", "0"], "rounds=0"),
    (["run", "yours", "--seeds", "0"], "seeds=0"),
    (["run", "yours", "--methods", "fedavg", "fedavg"], "each once"),
    (["run", "yours", "--methods"], "at least one"),
    (["run", "yours", "--config"], "--config needs a TOML file"),
    (["run", "yours", "--config", "no.toml"], "no.toml"),
    (["run", "yours", "--data", "digist"], "did you mean 'digits'"),
    (["predict", "somewhere"], "--data"),
    (["personalize", "somewhere", "--data", "x.npz"], "--out"),
    (["sweep", "yours", "--methods", "fedavg"], "--try"),
    (["sweep", "yours", "--try", "local.lr=1,2"], "one method"),
    (["sweep", "yours", "--methods", "fedavg", "--try", "local.lrr=1"], "'lr'"),
    (["sweep", "yours", "--methods", "fedavg", "--try", "local.lr"], "FIELD=V1,V2"),
    (["sweep", "yours", "--methods", "fedavg", "--try", "rounds=1", "--try", "rounds=2"], "again"),
    (["sweep", "yours", "--methods", "fedavg", "--try", "rounds=1,1"], "write each once"),
    (["sweep", "yours", "--methods", "fedavg", "--try", "rounds=1", "--trials", "0"], "--trials 0"),
    (["sweep", "yours", "--methods", "fedavg", "--try", "rounds=1.5"], "'rounds' is a int"),
    (["sweep", "yours", "--methods", "fedavg", "--try", "rounds=1", "--search", "luck"],
     "choose grid, random or tpe"),
    (["list", "everything"], "everything"),
    (["resume"], "RUN"),
])  # fmt: skip
def test_wrong_usage_exits_2_and_writes_nothing(moiety, tmp_path, words, said):
    found = moiety(*words)
    assert found.code == 2
    assert said in found.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "said"), [
    (["resume", "nowhere"], "nowhere does not exist"),
    (["report", "nowhere"], "nowhere does not exist"),
    (["predict", "nowhere", "--data", "x.npz"], "nowhere does not exist"),
    (["report", "."], ". is no run"),
    (["resume", "."], ". is no run"),
    (["run", "yours", "--data", "no.csv"], "no.csv does not exist"),
    (["run", "yours", "--device", "cuda:99"], "cuda:99"),
])  # fmt: skip
def test_what_is_not_there_exits_1_and_writes_nothing(moiety, tmp_path, words, said):
    found = moiety(*words)
    assert found.code == 1
    assert said in found.err
    assert not list(tmp_path.iterdir())


def test_help_everywhere(moiety):
    said = moiety("--help")
    assert said.code == 0
    assert all(f"\n  {command} " in said.out for command in COMMANDS)
    assert moiety().code == 2
    for command in COMMANDS:
        said = moiety(command, "--help")
        assert said.code == 0
        assert f"moiety {command}" in said.out
    for command in ("run", "sweep"):
        bare, told = moiety(command), moiety(command, "--help")
        assert (bare.code, bare.out) == (2, told.out)
        assert all(f"\n  {name} " in told.out for name in RECIPES)
        full = moiety(command, "quickstart", "--help")
        assert full.code == 0
        assert "examples:" in full.out
        assert "--population.scheme" in full.out


def test_list_names_all_there_is(moiety):
    told = strict(moiety("list", "--json").out)
    wanted = {"methods": [*METHODS, "common"], "recipes": RECIPES, "engines": ["auto", *ENGINES],
              "networks": NETWORKS, "data sets": DATASETS}  # fmt: skip
    assert {kind: set(found) for kind, found in told.items()} == {
        kind: set(names) for kind, names in wanted.items()
    }
    assert all(about for found in told.values() for about in found.values())
    text = moiety("list").out
    for kind, found in told.items():
        assert f"{kind}:" in text
        assert all(f"  {name}" in text for name in found)


def test_predict_writes_what_the_model_says(moiety, played, table, tmp_path):
    said = moiety("predict", played, "--data", table, "--out", "classes.csv", "--json")
    told = strict(said.out)
    with np.load(table) as raw:
        x, y = raw["x"], raw["y"]
    served = package.load_model(played)
    import torch

    guess = [served.input_spec.classes[i] for i in served.predict(torch.from_numpy(x)).tolist()]
    assert told["classes"] == guess
    assert told["rows"] == 400 == sum(told["counts"].values())
    assert told["accuracy"] == pytest.approx(float(np.mean(np.array(guess) == y)))
    with (tmp_path / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == guess
    sure = served.predict_log_proba(torch.from_numpy(x)).exp().amax(1)
    assert [float(row["probability"]) for row in rows] == pytest.approx(sure.tolist(), abs=1e-6)
    text = moiety("predict", played, "--data", table).out
    assert f"accuracy on the labels in the file: {told['accuracy']:.4f}" in text


def test_predict_needs_no_labels(moiety, played, table, tmp_path):
    with np.load(table) as raw:
        np.savez(tmp_path / "bare.npz", x=raw["x"])
    bare = strict(moiety("predict", played, "--data", "bare.npz", "--json").out)
    full = strict(moiety("predict", played, "--data", table, "--json").out)
    assert bare["accuracy"] is None
    assert bare["classes"] == full["classes"]


def test_a_grid_is_swept_and_the_best_is_first(moiety, small, tmp_path):
    said = moiety("sweep", "yours", *small, "--methods", "fedavg", "--seeds", 2, "--out", "s",
                  "--try", "local.lr=0.001,0.1", "--try", "local.batch=4,8", "--json")  # fmt: skip
    assert said.code == 0
    told = strict(said.out)
    assert told["trials"] == strict((tmp_path / "s" / "sweep.json").read_text())
    tried = [(t["values"]["local.lr"], t["values"]["local.batch"]) for t in told["trials"]]
    assert sorted(tried) == [(0.001, 4), (0.001, 8), (0.1, 4), (0.1, 8)]
    scores = [trial["validation"] for trial in told["trials"]]
    assert scores == sorted(scores, reverse=True)
    for trial in told["trials"]:
        assert len(trial["runs"]) == 2
        found = []
        for run in trial["runs"]:
            ledger = read_ledger(tmp_path / run / LEDGER)
            assert ledger.start.config["local"]["lr"] == trial["values"]["local.lr"]
            accuracy = ledger.evaluations[-1].groups["validation"].metrics["accuracy"]
            found.append(sum(accuracy) / len(accuracy))
        assert trial["validation"] == pytest.approx(sum(found) / 2)


def test_a_sweep_goes_on_after_a_value_that_diverges(moiety, small, tmp_path):
    said = moiety("sweep", "yours", *small, "--methods", "fedavg", "--out", "s",
                  "--try", "local.lr=1e30,0.1")  # fmt: skip
    assert said.code == 0
    trials = strict((tmp_path / "s" / "sweep.json").read_text())
    assert [trial["values"]["local.lr"] for trial in trials] == [0.1, 1e30]
    assert trials[1]["validation"] is None
    assert "failed" in said.out
    all_bad = moiety("sweep", "yours", *small, "--methods", "fedavg", "--out", "t",
                     "--try", "local.lr=1e30")  # fmt: skip
    assert all_bad.code == 1
    assert "all 1 trials failed" in all_bad.err


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--population.validation", 0, "--try", "local.lr=0.01,0.1"], 1,
     "no validation rows to choose by; set population.validation above 0"),
    (["--try", "ist.assignment=round_robin,foo"], 2,
     "{'ist.assignment': 'foo'}: ist.assignment='foo'; choose"),
    (["--try", "local.lr=0.1,-1"], 2, "{'local.lr': -1}: local.lr=-1.0; choose a finite number"),
    (["--try", "rounds=3,0"], 2, "rounds=0"),
    (["--try", "ist.assignment=quota,bernoulli", "--try", "ist.keep=0.5,1.5"], 2,
     "{'ist.assignment': 'quota', 'ist.keep': 1.5}: Quota(keep=1.5"),
    (["--try", "ist.keep=0.5,1.5", "--search", "random"], 2, "{'ist.keep': 0.5}: ist.keep=0.5"),
])  # fmt: skip
def test_a_sweep_is_refused_before_the_first_trial(moiety, small, tmp_path, words, code, said):
    found = moiety("sweep", "yours", *small, "--methods", "ist", *words, "--out", "s")
    assert found.code == code
    assert said in found.err
    assert "trial" not in found.err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_a_search_stays_in_its_range_and_repeats(moiety, small, tmp_path, search):
    pytest.importorskip("optuna", reason="the extra 'sweep' is not installed")
    words = ["sweep", "yours", *small, "--methods", "ddome", "--search", search, "--trials", 3,
             "--rounds", 1, "--try", "local.lr=0.01,0.5", "--try", "ddome.k=1,3",
             "--try", "ddome.serve=top1,soft"]  # fmt: skip
    told = []
    for out in ("one", "two"):
        assert moiety(*words, "--out", out).code == 0
        told.append(strict((tmp_path / out / "sweep.json").read_text()))
    values = [[trial["values"] for trial in trials] for trials in told]
    assert values[0] == values[1]
    assert len(values[0]) == 3
    for chosen in values[0]:
        assert 0.01 <= chosen["local.lr"] <= 0.5
        assert chosen["ddome.k"] in (1, 2, 3)
        assert chosen["ddome.serve"] in ("top1", "soft")


def test_the_version(moiety):
    from importlib.metadata import version

    assert moiety("--version").out.strip() == version("moiety")


def test_a_group_is_told_apart(moiety, small):
    moiety("run", "yours", *small, "--out", "mine")
    said = moiety("predict", "mine", "--data", "x.npz")
    assert said.code == 1
    assert "several runs; name one: mine/ddome-seed0, mine/fedavg-seed0" in said.err
    said = moiety("resume", "mine", "--at", 2)
    assert said.code == 1
    assert "--at needs one run" in said.err


def test_a_group_that_was_stopped_goes_on(moiety, small, tmp_path, final):
    """Of three runs one is over, one half done, one not begun."""
    import shutil

    words = ["run", "yours", *small, "--methods", "fedavg", "ddome", "fedprox"]
    moiety(*words, "--out", "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "fedprox-seed0")
    half = tmp_path / "cut" / "ddome-seed0"
    shutil.rmtree(half / "final")
    shutil.rmtree(half / "checkpoints" / "00000004")
    said = moiety("resume", "cut")
    assert said.code == 0
    assert "fedavg" not in said.err  # was over
    for name in ("fedavg-seed0", "ddome-seed0", "fedprox-seed0"):
        assert final(tmp_path / "cut" / name) == final(tmp_path / "whole" / name)
