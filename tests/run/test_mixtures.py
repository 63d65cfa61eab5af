"""Distributed mixtures of experts on the command line: run, predict, load, go on."""

import json

import numpy as np
import torch

import moiety as package
from moiety.core.ledger import read_ledger
from moiety.data.datasets import load_dataset
from moiety.run.loop import LEDGER

WORDS = ("run", "dmoe-breast", "--methods", "dmoe", "--seeds", 1, "--common.epochs", 1)


def test_run_load_and_predict(moiety, tmp_path):
    said = moiety(*WORDS, "--out", "mine", "--json")
    assert said.code == 0
    ledger = read_ledger(tmp_path / "mine" / LEDGER)
    assert ledger.end.status == "finished"
    (entry,) = ledger.rounds
    assert [worker.worker for worker in entry.workers] == [0, 1, 2, 3]
    model = package.load_model(tmp_path / "mine")
    data = load_dataset("breast-cancer")
    told = model.predict_log_proba(data.x)
    torch.testing.assert_close(told.exp().sum(1), torch.ones(data.size))
    right = (told.argmax(1) == data.y).double().mean()
    assert right > 0.9
    names = np.array(data.classes)[data.y.numpy()]
    np.savez(tmp_path / "rows.npz", x=data.x.numpy(), y=names)
    found = json.loads(moiety("predict", "mine", "--data", "rows.npz", "--json").out)
    assert abs(found["accuracy"] - float(right)) < 1e-4


def test_every_engine_writes_the_same_model(moiety, tmp_path):
    for engine in ("serial", "vectorized", "pool"):
        assert moiety(*WORDS, "--engine", engine, "--out", engine).code == 0
    models = [
        (tmp_path / engine / "final" / "model.safetensors").read_bytes()
        for engine in ("serial", "vectorized", "pool")
    ]
    assert models[0] == models[1] == models[2]
