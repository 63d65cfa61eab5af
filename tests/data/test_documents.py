"""Texts as rows of words: the vocabulary by hand, and a run from a table to predictions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from moiety.data.columns import Column
from moiety.data.documents import DocumentEncoding
from moiety.data.files import read_file
from moiety.data.roles import Columns
from moiety.models.bag import make_bag

arrow = pytest.importorskip("pyarrow", reason="the extra 'data' is not installed")

TEXTS = ["Good, good film.", "Bad film!", "a bad one", None, "strange words everywhere"]


def test_a_vocabulary_by_hand():
    """Of the first three texts good, film and bad stand twice; ties are in the alphabet's order."""
    columns = {"t": Column(Path("t.csv"), "t", arrow.chunked_array([TEXTS]))}
    made = DocumentEncoding("t").fit(columns, np.array([0, 1, 2]))
    assert made.words == ("", "?", "bad", "film", "good")
    assert made.length == 5
    assert made.apply(columns).tolist() == [
        [4, 1, 4, 3, 1], [2, 3, 1, 0, 0], [1, 2, 1, 0, 0], [0] * 5, [1, 1, 1, 0, 0]
    ]  # fmt: skip
    assert DocumentEncoding.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_a_text_without_known_words_has_a_finite_answer():
    bag = make_bag(4, 3, 2, torch.Generator().manual_seed(0))
    logits = bag.logits(bag.params, {"x": torch.zeros(1, 6, dtype=torch.int64)}, {})
    assert torch.equal(logits[0], bag.params["head.b"])


def test_texts_beside_other_columns_are_pointed_at(tmp_path):
    lines = [f"{place},this is text {place} of many,{place % 2}" for place in range(40)]
    path = tmp_path / "t.csv"
    path.write_text("a,said,y\n" + "\n".join(lines) + "\n")
    data = read_file(path)
    assert data.columns == ("a",)
    assert "column 'said' holds texts, and is left out (--features said" in data.notes[0]
    alone = read_file(path, Columns(features=("said",)))
    assert alone.x.dtype == torch.int64
    assert isinstance(alone.encoding, DocumentEncoding)
    assert alone.encoding.words[2:] == ("is", "many", "of", "text", "this")
