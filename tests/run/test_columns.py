"""Tables with columns in other units, in another order, or changed under a run."""

import csv
import json

import numpy as np
import pytest

UNITS = ["--methods", "fedavg", "--rounds", "15", "--common.epochs", "3", "--out"]


def write(path, names, columns, labels):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "label"])
        writer.writerows(
            [*row, label] for row, label in zip(zip(*columns, strict=True), labels, strict=True)
        )


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    age, score = rng.normal(0, 1, 600), rng.normal(0, 1, 600)
    return age, score, rng.normal(0, 5e4, 600), np.where(age + score > 0, "yes", "no")


def accuracy(moiety, run, data):
    return json.loads(moiety("predict", run, "--data", data, "--json").out)["accuracy"]


def test_a_column_in_large_units_drowns_no_other(moiety, people, tmp_path):
    age, score, income, label = people
    write(tmp_path / "rich.csv", ["age", "score", "income"], [age, score, income], label)
    assert moiety("run", "yours", "--data", "rich.csv", *UNITS, "rich").code == 0
    assert accuracy(moiety, "rich", "rich.csv") > 0.9


def test_columns_are_found_by_name(moiety, people, tmp_path):
    age, score, income, label = people
    write(tmp_path / "one.csv", ["age", "score"], [age, 2 * score], label)
    write(tmp_path / "two.csv", ["score", "extra", "age"], [2 * score, income, age], label)
    write(tmp_path / "bad.csv", ["score", "extra"], [score, income], label)
    assert moiety("run", "yours", "--data", "one.csv", *UNITS, "mine").code == 0
    assert accuracy(moiety, "mine", "one.csv") == accuracy(moiety, "mine", "two.csv")
    found = moiety("predict", "mine", "--data", "bad.csv")
    assert found.code == 1
    assert "columns ['age'] are missing" in found.err


def test_a_run_does_not_go_on_with_other_data(moiety, people, tmp_path):
    age, score, _, label = people
    write(tmp_path / "one.csv", ["age", "score"], [age, score], label)
    assert moiety("run", "yours", "--data", "one.csv", *UNITS, "mine").code == 0
    write(tmp_path / "one.csv", ["age", "score"], [age[:300], score[:300]], label[:300])
    found = moiety("resume", "mine", "--at", "10")
    assert found.code == 1
    assert "are not those it began with" in found.err
