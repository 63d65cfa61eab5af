"""Texts: windows, the official test part, and that nothing scales or flattens whole numbers."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from moiety.data.cache import VARIABLE
from moiety.data.dataset import Dataset, divide_rows, fit_scale
from moiety.data.datasets import load_dataset
from moiety.data.partition import partition_contiguous
from moiety.data.texts import cut_windows
from moiety.recipes import RECIPES
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.prepare import prepare_seed_data
from moiety.serve.predictor import InputSpec


def test_windows_lie_side_by_side_and_labels_follow():
    x, y = cut_windows(torch.arange(8), 3)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert y.tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match="context=8"):
        cut_windows(torch.arange(8), 8)


def test_labels_stand_at_rows_or_at_positions():
    x, y = cut_windows(torch.arange(7) % 3, 2)
    data = Dataset("words", x, y, tuple("abc"))
    assert data.table()["y"].shape == (3, 2)
    Dataset("words", x, y.clamp_max(-1), tuple("abc"))
    with pytest.raises(ValueError, match=r"y\[1, 0\] = -2"):
        Dataset("words", x, y - 2, tuple("abc"))
    with pytest.raises(ValueError, match=r"y has shape \[3, 1\]"):
        Dataset("words", x, y[:, :1], tuple("abc"))
    parts = divide_rows(data, fractions={"a": 2 / 3, "b": 1 / 3}, seed=0)
    assert sorted(torch.cat(list(parts.values())).tolist()) == [0, 1, 2]


def test_whole_numbers_are_not_scaled():
    x = torch.arange(6).view(3, 2)
    scale = fit_scale(x)
    assert torch.equal(scale.apply(x), x)
    again = type(scale).from_json(scale.to_json())
    input_spec = InputSpec((2,), again, tuple("abcdef"))
    assert torch.equal(input_spec.rows(x), x)
    with pytest.raises(ValueError, match="takes tokens"):
        input_spec.rows(x.float())


def test_contiguous_shards_keep_the_order():
    assert [part.tolist() for part in partition_contiguous(7, 3)] == [[0, 1, 2], [3, 4], [5, 6]]
    with pytest.raises(ValueError, match="fewer workers"):
        partition_contiguous(2, 3)


def test_without_the_folder_the_error_says_what_to_set(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f"lm_tinyshakespeare.txt.gz .*{VARIABLE}"):
        load_dataset("shakespeare")


@pytest.mark.needs_data
def test_shakespeare_reads_back():
    data: Any = load_dataset("shakespeare")
    assert data.x.shape == data.y.shape == (17428, 64)
    assert "".join(data.classes[c] for c in data.x[0, :13].tolist()) == "First Citizen"
    assert torch.equal(data.x[:, 1:], data.y[:, :-1])
    assert torch.equal(data.x[1:, 0], data.y[:-1, -1])
    assert int(data.test.sum()) == 1743
    assert data.test[-1743:].all()


@pytest.mark.needs_data
def test_workers_hold_stretches_and_the_test_is_the_end():
    base = prepare_seed_data(RECIPES["ist-shakespeare"].record, 0)
    hands = sorted(base.places.train.values(), key=lambda hand: int(hand[0]))
    assert torch.equal(torch.cat(hands), torch.arange(15685))
    assert base.places.groups["test"][-1].tolist() == list(range(15685, 17428))
    assert base.data.x.dtype == torch.int64


@pytest.mark.needs_data
def test_a_network_of_measures_refuses_texts():
    record = RECIPES["ist-shakespeare"].record
    with pytest.raises(ValueError, match="'mlp' reads table or images, but the data are text"):
        build_run(override_fields(record, {"net": "mlp"}), "ist", 0)


def test_a_network_of_texts_refuses_measures():
    record = replace(RECIPES["ist-digits"].record, net="gpt")
    with pytest.raises(ValueError, match="'gpt' reads text, but the data are images"):
        build_run(record, "ist", 0)
