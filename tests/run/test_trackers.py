"""Runs told to trackers: the real libraries, off line, where they are installed."""

import json
from dataclasses import replace

import pytest

from moiety.core.errors import RunError
from moiety.core.keep import find_final_evaluation
from moiety.core.ledger import read_ledger
from moiety.run import trackers
from moiety.run.group import resume_run
from moiety.run.loop import LEDGER


class Paper:
    """A tracker that writes what it is told."""

    def __init__(self, lines, key):
        self.lines, self.key = lines, key

    def log(self, values, number):
        self.lines.append((self.key, number, *sorted(values)))

    def close(self, status):
        self.lines.append((self.key, status))


def test_a_run_that_goes_on_is_told_once_and_in_one_run(lab, tiny, monkeypatch):
    lines, opened = [], []

    def open_paper(about, key):
        opened.append((about.label, about.config["rounds"], key))
        key = key or f"run {len(opened)}"
        return Paper(lines, key), key

    monkeypatch.setattr(trackers, "TRACKERS", {"paper": ("json", open_paper)})
    record = tiny(log=("paper",), checkpoint={"every": 2, "last": 4})
    folder = lab.play(record)
    whole = list(lines)
    rounds = [line[1] for line in whole if line[-1] == "round/up_bytes"]
    assert rounds == [1, 2, 3, 4, 5, 6]
    assert [line[1] for line in whole if "accuracy/seen" in line] == [0, 3, 6]
    assert whole[-1] == ("run 1", "finished")
    resume_run(folder, at=2)
    assert lines == [*whole, ("run 1", "finished")]
    label = "yours, fedavg, seed 0"
    assert opened == [(label, 6, ""), (label, 6, "run 1")]
    lab.play(replace(record, rounds=2), name="other")
    assert opened[-1] == (label, 2, "")


def play_twice(lab, tiny, name):
    """Play a run, then go back and on; give its folder and its ledger."""
    folder = lab.play(tiny(rounds=3, evaluate_every=1, log=(name,), checkpoint={"every": 1}))
    key = json.loads((folder / trackers.NOTES).read_text())[name]["key"]
    resume_run(folder, at=2)
    assert json.loads((folder / trackers.NOTES).read_text())[name]["key"] == key
    return folder, key


def test_mlflow(lab, tiny, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "ml").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder, key = play_twice(lab, tiny, "mlflow")
    client = mlflow.MlflowClient()
    told = client.get_run(key)
    assert told.info.status == "FINISHED"
    assert told.data.params["local.lr"] == "0.1"
    history = client.get_metric_history(key, "accuracy/seen")
    assert [one.step for one in history] == [0, 1, 2, 3]
    last = find_final_evaluation(read_ledger(folder / LEDGER)).groups["seen"].metrics["accuracy"]
    assert history[-1].value == pytest.approx(sum(last) / len(last), abs=1e-12)


def test_wandb(lab, tiny, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder, key = play_twice(lab, tiny, "wandb")
    kept = list((folder / "wandb").glob(f"offline-run-*-{key}/run-{key}.wandb"))
    assert kept
    data = b"".join(path.read_bytes() for path in kept)
    assert all(word in data for word in (b"accuracy/seen", b"round/up_bytes", b"local.lr"))


def test_a_tracker_that_fails_ends_the_run_by_its_name_and_the_run_goes_on(
    lab, tiny, monkeypatch, tmp_path
):
    class OddError(Exception):
        pass

    class Torn(Paper):
        def log(self, values, number):
            if number == 1:
                raise OddError("no space there")

    monkeypatch.setattr(trackers, "TRACKERS", {"torn": ("json", lambda *_: (Torn([], "k"), "k"))})
    with pytest.raises(RunError, match="log='torn': OddError: no space there"):
        lab.play(tiny(rounds=2, log=("torn",)))
    [folder] = [path.parent for path in tmp_path.rglob(LEDGER)]
    end = read_ledger(folder / LEDGER).end
    assert end is not None
    assert (end.status, end.round) == ("interrupted", 1)
    monkeypatch.setattr(trackers, "TRACKERS", {"torn": ("json", lambda *_: (Paper([], "k"), "k"))})
    resume_run(folder)
    assert (folder / "final").is_dir()


def test_what_is_no_tracker_and_one_that_is_missing(moiety, small, monkeypatch, tmp_path):
    said = moiety("run", "yours", *small, "--log", "mlfow", "--out", "x")
    assert said.code == 2
    assert "choose among ('mlflow', 'wandb')" in said.err
    missing = {"stones": ("no_such_library", trackers.open_wandb)}
    monkeypatch.setattr(trackers, "TRACKERS", missing)
    said = moiety("run", "yours", *small, "--log", "stones", "--out", "x")
    assert said.code == 1
    assert 'pip install ".[stones]" in a checkout' in said.err
    assert not (tmp_path / "x").exists()
