"""Rows where they are."""

import torch

from moiety.core.rows import (
    TableRows,
    TransformedRows,
    chunk_positions,
    split_batch,
    take_all_rows,
    transform_rows,
)


def rows(count: int = 5) -> TableRows:
    x = torch.arange(10.0)
    return TableRows({"x": x, "y": x.long()}, torch.tensor([9, 7, 5, 3, 1])[:count])


def test_rows_are_addressed_within_the_worker():
    assert rows().take(torch.tensor([1, 1, 4]))["x"].tolist() == [7.0, 7.0, 1.0]
    assert take_all_rows(rows())["y"].tolist() == [9, 7, 5, 3, 1]
    assert take_all_rows(rows(), 2)["y"].tolist() == [9, 7]
    assert [len(ids) for ids in chunk_positions(rows(), 2)] == [2, 2, 1]


def test_a_batch_is_cut_along_its_rows_and_shares_its_seed():
    batch = {"x": torch.arange(5.0), "weight": torch.ones(5), "seed": torch.tensor(3)}
    cut = split_batch(batch, 2)
    assert [piece["x"].tolist() for piece in cut] == [[0.0, 1.0, 2.0], [3.0, 4.0]]
    assert all(piece["seed"].item() == 3 for piece in cut)
    assert len(split_batch({"x": torch.arange(2.0)}, 5)) == 2


def test_a_view_is_computed_once_per_worker_and_forgotten_beyond_the_limit():
    calls = []

    def transform(batch):
        calls.append(len(batch["x"]))
        return {**batch, "twice": batch["x"] * 2}

    seen = TransformedRows(lambda worker: rows(worker + 1), transform, most=2)
    for worker in (4, 4, 3):
        assert torch.equal(
            take_all_rows(seen(worker))["twice"], take_all_rows(rows(worker + 1))["x"] * 2
        )
    assert calls == [5, 4]
    seen(2)
    seen(4)
    assert calls == [5, 4, 3, 5]
    assert len(seen.kept) == 2


def test_looking_in_pieces_changes_nothing():
    transform = lambda batch: {**batch, "z": batch["x"] + 1}  # noqa: E731
    assert torch.equal(
        take_all_rows(transform_rows(rows(), transform, 2))["z"],
        take_all_rows(transform_rows(rows(), transform))["z"],
    )
