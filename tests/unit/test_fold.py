"""The fold, with numbers by hand."""

import pytest
import torch

from moiety.core.axes import Along, Part
from moiety.core.fold import Precision
from moiety.core.store import LocalStore

WHOLE = Part()


def rows(*kept: int) -> Part:
    return Part({"h": torch.tensor(kept)})


def fold(params, axes, *replies):
    store = LocalStore(params, axes)
    for part, piece, know in replies:
        store.add(part, {n: torch.as_tensor(t) for n, t in piece.items()}, know)
    return store.close()


def test_a_scalar_weighs():
    """(1 * 3 + 3 * 7) / 4 = 6."""
    merged, held = fold(
        {"w": torch.zeros(2)}, {},
        (WHOLE, {"w": [3.0, 3.0]}, Precision(1.0)),
        (WHOLE, {"w": [7.0, 7.0]}, Precision(3.0)),
    )  # fmt: skip
    assert merged["w"].tolist() == [6.0, 6.0]
    assert held["w"].all()


def test_holders_alone_are_averaged_and_others_stay():
    """Row 0 has one holder, row 1 both, row 2 none, with old bits kept."""
    old = torch.tensor([[9.0], [9.0], [0.1]]) / 3
    merged, held = fold(
        {"w": old, "never": old}, {"w": ("h", None)},
        (rows(0, 1), {"w": [[1.0], [2.0]]}, Precision()),
        (rows(1), {"w": [[4.0]]}, Precision()),
    )  # fmt: skip
    assert merged["w"][:2].tolist() == [[1.0], [3.0]]
    assert torch.equal(merged["w"][2], old[2])
    assert merged["never"] is old
    assert held["w"].tolist() == [[True], [True], [False]]
    assert "never" not in held


def test_precision_along_an_axis():
    """Index 1: (0.5 * 2 + 1.5 * 6) / 2 = 5; index 0 has precision 0 and stays."""
    merged, held = fold(
        {"w": torch.full((2, 2), 8.0), "b": torch.tensor([8.0])}, {"w": (None, "h")},
        (rows(0, 1), {"w": [[1.0, 2.0]] * 2, "b": [1.0]},
         Precision(axes={"h": torch.tensor([0.0, 0.5])})),
        (rows(1), {"w": [[6.0]] * 2, "b": [2.0]}, Precision(axes={"h": torch.tensor([1.5])})),
    )  # fmt: skip
    assert merged["w"].tolist() == [[8.0, 5.0]] * 2
    assert held["w"].tolist() == [[False, True]]
    assert merged["b"].tolist() == [1.5]


def test_precision_along_blocks():
    """Two heads of two rows, twice over: head 0 has weights 1 and 3, head 1 only the second's."""
    axes = {"qkv": (Along("h", block=2, repeat=2),)}
    merged, _ = fold(
        {"qkv": torch.zeros(8)}, axes,
        (rows(0), {"qkv": [1.0, 2.0, 3.0, 4.0]}, Precision(axes={"h": torch.tensor([1.0])})),
        (rows(0, 1), {"qkv": [5.0, 6.0, 50.0, 60.0, 7.0, 8.0, 70.0, 80.0]},
         Precision(axes={"h": torch.tensor([3.0, 2.0])})),
    )  # fmt: skip
    assert merged["qkv"].tolist() == [4.0, 5.0, 50.0, 60.0, 6.0, 7.0, 70.0, 80.0]


def test_a_diagonal_weighs_each_entry():
    """Fisher merging: (1*2 + 3*6)/4 = 5 and (2*1 + 0*9)/2 = 1."""
    merged, _ = fold(
        {"w": torch.zeros(2)}, {},
        (WHOLE, {"w": [2.0, 1.0]}, Precision(diagonal={"w": torch.tensor([1.0, 2.0])})),
        (WHOLE, {"w": [6.0, 9.0]}, Precision(diagonal={"w": torch.tensor([3.0, 0.0])})),
    )  # fmt: skip
    assert merged["w"].tolist() == [5.0, 1.0]


def test_all_factors_multiply():
    """Weights 2 * 3 * 0.5 = 3 and 1: (3 * 4 + 1 * 8) / 4 = 5."""
    know = Precision(2.0, {"h": torch.tensor([3.0])}, {"w": torch.tensor([0.5])})
    merged, _ = fold(
        {"w": torch.zeros(2)}, {"w": ("h",)},
        (rows(1), {"w": [4.0]}, know),
        (rows(0, 1), {"w": [7.0, 8.0]}, Precision()),
    )  # fmt: skip
    assert merged["w"].tolist() == [7.0, 5.0]


def test_constant_fisher_is_the_mean():
    """Identity: Fisher merging with a constant F is the plain mean."""
    pieces = [torch.tensor([1.0, 4.0]), torch.tensor([3.0, 8.0])]
    same = Precision(diagonal={"w": torch.full((2,), 0.3)})
    fisher, _ = fold({"w": torch.zeros(2)}, {}, *[(WHOLE, {"w": p}, same) for p in pieces])
    mean, _ = fold({"w": torch.zeros(2)}, {}, *[(WHOLE, {"w": p}, Precision()) for p in pieces])
    torch.testing.assert_close(fisher["w"], mean["w"])
    assert mean["w"].tolist() == [2.0, 6.0]


def test_integers_are_averaged_and_rounded():
    """(2 + 3 + 3) / 3 = 2.67 -> 3; large counts lose nothing to single precision."""
    big = 2**25 + 1
    pieces = [{"n": torch.tensor(n), "m": torch.tensor(big)} for n in (2, 3, 3)]
    old = {"n": torch.tensor(0), "m": torch.tensor(0)}
    merged, _ = fold(old, {}, *[(WHOLE, piece, Precision()) for piece in pieces])
    assert merged["n"].item() == 3
    assert merged["m"].item() == big
    assert merged["n"].dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_stay_and_sums_do_not_lose(dtype):
    """In bfloat16, 256 + 1 is 256: the sum of 300 ones must be made in a wider type."""
    ones = [(WHOLE, {"w": torch.ones(3, dtype=dtype)}, Precision())] * 300
    merged, _ = fold({"w": torch.zeros(3, dtype=dtype)}, {}, *ones)
    assert merged["w"].dtype == dtype
    assert merged["w"].tolist() == [1.0] * 3


def test_whole_and_cut_pieces_mix_in_any_order():
    """The mass starts as one number and must grow when a cut piece comes."""
    replies = [
        (WHOLE, {"w": [[1.0, 1.0], [1.0, 1.0]]}, Precision(1.0)),
        (rows(1), {"w": [[5.0, 5.0]]}, Precision(3.0)),
    ]
    for order in (replies, replies[::-1]):
        merged, held = fold({"w": torch.zeros(2, 2)}, {"w": ("h", None)}, *order)
        assert merged["w"].tolist() == [[1.0, 1.0], [4.0, 4.0]]
        assert held["w"].all()


def test_two_axes_of_one_tensor():
    """Entry (0, 0) has both, (1, 1) the second, (0, 1) none."""
    first = Part({"h": torch.tensor([0]), "k": torch.tensor([0])})
    second = Part({"h": torch.tensor([0, 1]), "k": torch.tensor([0])})
    third = Part({"h": torch.tensor([1]), "k": torch.tensor([1])})
    merged, held = fold(
        {"w": torch.full((2, 2), 9.0)}, {"w": ("h", "k")},
        (first, {"w": [[1.0]]}, Precision()),
        (second, {"w": [[3.0], [4.0]]}, Precision()),
        (third, {"w": [[6.0]]}, Precision()),
    )  # fmt: skip
    assert merged["w"].tolist() == [[2.0, 9.0], [4.0, 6.0]]
    assert held["w"].tolist() == [[True, False], [True, True]]


def test_the_store_cuts_what_it_folds():
    store = LocalStore({"w": torch.arange(3.0)}, {"w": ("h",)})
    piece = store.take(rows(0, 2))
    assert piece["w"].tolist() == [0.0, 2.0]
    store.add(rows(0, 2), {"w": piece["w"] + 10}, Precision())
    merged, held = store.close()
    assert merged["w"].tolist() == [10.0, 1.0, 12.0]
    assert held["w"].tolist() == [True, False, True]
    assert store.params["w"].tolist() == [0.0, 1.0, 2.0]
