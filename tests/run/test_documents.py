"""Texts of one's own: classified from a table, by the command line alone."""

import csv
import json

import numpy as np
import pytest

from moiety import load_model
from moiety.serve.adapters import TableAdapter

GOOD, BAD = (
    ["fine", "lovely", "great", "warm", "bright"],
    ["dull", "poor", "cold", "bleak", "empty"],
)


@pytest.fixture
def reviews(tmp_path):
    """Write reviews whose words say what they are."""
    rng = np.random.default_rng(0)
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review", "verdict"])
        for place in range(300):
            words = rng.choice(GOOD if place % 2 else BAD, 3)
            said = " ".join(["the film,\nwhich I saw, was", *words, f"in cinema{place}"])
            writer.writerow([place, said, "good" if place % 2 else "bad"])
    return ["--data", "reviews.csv", "--target", "verdict", "--features", "review"]


def test_texts_are_classified_from_the_command_line(moiety, reviews, tmp_path):
    words = ["--methods", "fedavg", "ddome", "--rounds", "20", "--local.lr", "1", "--out", "own"]
    said = moiety("run", "yours", *reviews, *words, "--net", "bag", "--population.scheme", "iid")
    assert said.code == 0, said.err
    assert "features review (13 words); target verdict (2 classes, scored by accuracy)" in said.err
    for method in ("fedavg", "ddome"):
        told = json.loads(
            moiety("predict", f"own/{method}-seed0", "--data", "reviews.csv", "--json").out
        )
        assert told["accuracy"] > 0.95
    (tmp_path / "new.csv").write_text('review\n"Lovely, warm; great"\nnothing known\n')
    done = moiety("predict", "own/fedavg-seed0", "--data", "new.csv", "--out", "told.csv")
    assert done.code == 0, done.err
    assert (tmp_path / "told.csv").read_text().splitlines()[1].startswith("good,0.")
    adapter = load_model("own/fedavg-seed0").input_spec.adapter
    assert isinstance(adapter, TableAdapter)
    assert adapter.encoding is not None
    assert list(adapter.encoding.needed) == ["review"]


def test_a_network_of_numbers_reads_no_texts(moiety, reviews):
    said = moiety("run", "yours", *reviews, "--out", "no")
    assert said.code == 1
    assert "network 'mlp' reads table or images, but the data are documents" in said.err
    assert "choose --net bag" in said.err
