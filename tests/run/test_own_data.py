"""``moiety run yours --data``: a table, a Parquet file, arrays and a folder of images."""

import csv
import json

import numpy as np
import pytest

from moiety import load_model
from moiety.core.ledger import read_ledger
from moiety.run.loop import LEDGER


@pytest.fixture
def rows(table):
    with np.load(table) as raw:
        return raw["x"], raw["y"]


def as_csv(folder, x, y):
    with (folder / "own.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*"abcdef", "colour"])
        writer.writerows([*map(float, row), label] for row, label in zip(x, y, strict=True))
    return "own.csv", ["--target", "colour"]


def as_parquet(folder, x, y):
    arrow = pytest.importorskip("pyarrow", reason="the extra 'data' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {name: x[:, place] for place, name in enumerate("abcdef")}
    parquet.write_table(arrow.table({**columns, "label": list(y)}), folder / "own.parquet")
    return "own.parquet", []


def as_arrays(folder, x, y):
    np.savez(folder / "own.npz", x=x, y=y)
    return "own.npz", []


@pytest.mark.parametrize("write", [as_csv, as_parquet, as_arrays])
def test_the_same_rows_in_any_file_give_the_same_model(
    moiety, small, rows, tmp_path, final, lab, write, table
):
    data, words = write(tmp_path, *rows)
    rest = small[2:]
    assert small[:2] == ["--data", str(table)]
    said = moiety("run", "yours", "--data", data, *rest, *words, "--methods", "ddome",
                  "--out", "own")  # fmt: skip
    assert said.code == 0
    assert moiety("run", "yours", *small, "--methods", "ddome", "--out", "same").code == 0
    assert final(tmp_path / "own") == final(tmp_path / "same")
    told = json.loads(moiety("predict", "own", "--data", data, "--json").out)  # target remembered
    assert told["rows"] == 400
    assert told["accuracy"] > 0.2
    assert load_model("own").input_spec.classes == ("black", "blue", "green", "red", "white")


def test_the_target_of_training_is_left_out_of_unlabelled_use(moiety, small, rows, tmp_path):
    """The column that was the label is neither a feature nor read; a file without it will do."""
    x, y = rows
    data, words = as_csv(tmp_path, x, y)
    assert moiety("run", "yours", "--data", data, *small[2:], *words, "--methods", "ddome",
                  "--out", "own").code == 0  # fmt: skip
    made = {}
    for name, label in (("one", y), ("two", np.roll(y, 1))):
        data, _ = as_csv(tmp_path, x, label)
        assert moiety("personalize", "own", "--data", data, "--out", name).code == 0
        made[name] = (tmp_path / name / "model.safetensors").read_bytes()
    assert made["one"] == made["two"]
    np.savez(tmp_path / "bare.npz", x=x)
    assert moiety("predict", "own", "--data", "bare.npz").code == 0


def test_a_folder_of_images(moiety, small, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the extra 'data' is not installed")
    rng = np.random.default_rng(0)
    for label, level in (("dark", 40), ("grey", 120), ("light", 220)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for place in range(40):
            pixels = rng.normal(level, 20, (8, 8, 3)).clip(0, 255).astype(np.uint8)
            image.fromarray(pixels).save(tmp_path / "photos" / label / f"{place}.png")
    words = ["--methods", "fedavg", "--net", "cnn", "--cnn.channels", 2, 3,
             "--population.scheme", "iid", "--population.anchors", 0, "--out", "own"]  # fmt: skip
    place = small.index("--mlp.hidden")
    rest = [*small[2:place], *small[place + 2 :]]
    said = moiety("run", "yours", "--data", "photos", *rest, *words)
    assert said.code == 0, said.err
    start = read_ledger(tmp_path / "own" / LEDGER).start
    assert list(start.classes) == ["dark", "grey", "light"]
    assert load_model("own").input_spec.shape == (3, 8, 8)
    told = json.loads(moiety("predict", "own", "--data", "photos", "--json").out)
    assert told["rows"] == 120
