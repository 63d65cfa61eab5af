"""Rows that stay in Parquet files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moiety import (
    METHODS,
    LocalTraining,
    TableRows,
    Task,
    TrainConfig,
    fit_streamed_scale,
    mlp,
    parquet_rows,
)
from moiety.core.streams import stream
from moiety.data.dataset import fit_scale
from moiety.run.train import train
from moiety.solve.plan import shuffle_windows

pa = pytest.importorskip("pyarrow", reason="the extra 'data' is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="the extra 'data' is not installed")


def write(path, rows: int, seed: int, group: int = 16, **columns):
    """Write three features and a label, ``group`` rows a row group."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 3)).astype(np.float32)
    y = (x.sum(1) > 0).astype(np.int64)
    table = {"a": x[:, 0], "b": x[:, 1] * 5 + 2, "c": x[:, 2], "label": y, **columns}
    pq.write_table(pa.table(table), path, row_group_size=group)
    return np.stack([table[name] for name in "abc"], 1), table["label"]


def test_rows_are_those_of_the_file_in_any_order(tmp_path):
    x, y = write(tmp_path / "one.parquet", 50, 0)
    rows = parquet_rows(tmp_path / "one.parquet", most=2)
    ids = torch.randperm(50, generator=stream(0, "ids"))[:37]
    found = rows.take(ids)
    assert rows.size == 50
    assert torch.equal(found["x"], torch.from_numpy(x)[ids])
    assert torch.equal(found["y"], torch.from_numpy(y)[ids])
    assert len(rows.held) <= 2


def test_few_row_groups_are_read_when_rows_are_shuffled_in_windows(tmp_path, monkeypatch):
    """Two epochs of 6 groups in windows of a group: each is read once an epoch, not per step."""
    write(tmp_path / "one.parquet", 96, 0)
    rows, read = parquet_rows(tmp_path / "one.parquet", most=2), []
    kept = type(rows).read
    monkeypatch.setattr(type(rows), "read", lambda self, n: read.append(n) or kept(self, n))
    order, weights = shuffle_windows(96, 4, 48, 16, stream(0, "window"))
    for ids in order:
        rows.take(ids)
        assert len(rows.held) <= 2
    assert len(read) <= 12
    assert sorted(order[:24].flatten().tolist()) == list(range(96))
    assert torch.equal(weights, torch.full((48, 4), 0.25))


def test_a_run_from_files_is_the_run_from_memory(tmp_path):
    """Training, calibrating sample and evaluation: the same parameters, bit for bit."""
    model = mlp((3, 8, 2), stream(0, "net"))
    task = Task(
        model, LocalTraining(lr=0.1, batch=8, epochs=0, steps=5, window=16), rounds=3, workers=2
    )
    method = METHODS["ist"].make(task)
    files, memory = {}, {}
    for worker in range(2):
        x, y = write(tmp_path / f"{worker}.parquet", 60 + worker, worker)
        files[worker] = parquet_rows(tmp_path / f"{worker}.parquet")
        table = {"x": torch.from_numpy(x), "y": torch.from_numpy(y)}
        memory[worker] = TableRows(table, torch.arange(len(y)))
    ends = [
        train(method, rows, tmp_path / name, TrainConfig(3, engine="serial"))
        for name, rows in (("files", files), ("memory", memory))
    ]
    for name, tensor in ends[1].params.items():
        assert torch.equal(ends[0].params[name], tensor)


def test_a_streamed_scale_is_that_of_all_rows(tmp_path):
    parts = [write(tmp_path / f"{seed}.parquet", 40, seed)[0] for seed in range(3)]
    crew = [parquet_rows(tmp_path / f"{seed}.parquet") for seed in range(3)]
    found, wanted = fit_streamed_scale(crew), fit_scale(torch.from_numpy(np.concatenate(parts)))
    torch.testing.assert_close(found.mean, wanted.mean)
    torch.testing.assert_close(found.std, wanted.std)
    scaled = replace(crew[0], scale=found).take(torch.arange(40))["x"]
    torch.testing.assert_close(scaled, wanted.apply(torch.from_numpy(parts[0])))


def test_names_of_classes(tmp_path):
    write(tmp_path / "one.parquet", 4, 0, label=np.array(["no", "yes", "no", "maybe"]))
    path, ids = tmp_path / "one.parquet", torch.arange(4)
    named = parquet_rows(path, classes=("no", "yes", "maybe"))
    assert named.take(ids)["y"].tolist() == [0, 1, 0, 2]
    with pytest.raises(ValueError, match="give classes="):
        parquet_rows(path).take(ids)
    with pytest.raises(ValueError, match=r"\['maybe'\], which are not among"):
        parquet_rows(path, classes=("no", "yes")).take(ids)


def test_what_cannot_be_read_is_named(tmp_path):
    write(tmp_path / "one.parquet", 4, 0, b=np.array([1.0, np.nan, 2.0, 3.0]))
    with pytest.raises(ValueError, match="column 'b' is nan or missing in row 2"):
        parquet_rows(tmp_path / "one.parquet").take(torch.arange(4))
    with pytest.raises(ValueError, match="no column target='z'"):
        parquet_rows(tmp_path / "one.parquet", target="z")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        parquet_rows(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        parquet_rows(tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match="most=0"):
        parquet_rows(tmp_path / "one.parquet", most=0)
