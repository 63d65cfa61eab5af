"""Cutting along named axes, with positions by hand."""

import pytest
import torch

from moiety.core.axes import Along, Part, add_piece, find_positions, read_axis_lengths, take_piece

AXES = {
    "w": ("out", "in"),
    "b": ("out",),
    "qkv": (Along("head", block=2, repeat=3), None),
    "deep": (None, "in", "out"),
}


def whole() -> dict[str, torch.Tensor]:
    return {
        "w": torch.arange(12.0).reshape(3, 4),
        "b": torch.arange(3.0),
        "qkv": torch.arange(24.0).reshape(12, 2),
        "deep": torch.arange(24.0).reshape(2, 4, 3),
        "free": torch.arange(5.0),
    }


@pytest.mark.parametrize(
    ("entry", "kept", "length", "wanted"),
    [
        (Along("a"), [0, 2], 4, [0, 2]),
        (Along("a", block=3), [1], 9, [3, 4, 5]),
        (Along("a", repeat=2), [0, 2], 6, [0, 2, 3, 5]),
        (Along("a", block=2, repeat=3), [0, 1], 12, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (Along("a", block=2, repeat=3), [1], 12, [2, 3, 6, 7, 10, 11]),
    ],
)
def test_positions(entry, kept, length, wanted):
    assert find_positions(entry, torch.tensor(kept), length).tolist() == wanted


def test_take_cuts_every_dim_on_an_axis():
    part = Part({"out": torch.tensor([0, 2]), "in": torch.tensor([1, 3])})
    piece = take_piece(whole(), AXES, part)
    assert piece["w"].tolist() == [[1.0, 3.0], [9.0, 11.0]]
    assert piece["b"].tolist() == [0.0, 2.0]
    assert piece["deep"][1].tolist() == [[15.0, 17.0], [21.0, 23.0]]
    assert torch.equal(piece["free"], whole()["free"])
    assert torch.equal(piece["qkv"], whole()["qkv"])


def test_take_of_a_head_cuts_queries_keys_and_values():
    piece = take_piece(whole(), AXES, Part({"head": torch.tensor([1])}))
    assert piece["qkv"][:, 0].tolist() == [4.0, 6.0, 12.0, 14.0, 20.0, 22.0]


def test_names_choose_parameters():
    part = Part({"out": torch.tensor([1])}, names=("w", "fr*"))
    piece = take_piece(whole(), AXES, part)
    assert set(piece) == {"w", "free"}
    assert piece["w"].tolist() == [[4.0, 5.0, 6.0, 7.0]]
    assert set(take_piece(whole(), AXES, Part(names=()))) == set()


def test_add_at_accumulates_where_take_cuts():
    part = Part(
        {"out": torch.tensor([0, 2]), "in": torch.tensor([1, 3]), "head": torch.tensor([0])}
    )
    total = whole()
    piece = {name: torch.ones_like(t) for name, t in take_piece(total, AXES, part).items()}
    for _ in range(2):
        add_piece(total, AXES, part, piece)
    assert (total["w"] - whole()["w"]).tolist() == [[0, 2, 0, 2], [0, 0, 0, 0], [0, 2, 0, 2]]
    assert (total["b"] - whole()["b"]).tolist() == [2, 0, 2]
    assert (total["qkv"] - whole()["qkv"])[:, 1].tolist() == [2, 2, 0, 0] * 3
    assert (total["deep"] - whole()["deep"]).sum() == 2 * 2 * 2 * 2
    assert (total["free"] - whole()["free"]).tolist() == [2] * 5


def test_lengths_are_read_and_checked():
    assert read_axis_lengths(whole(), AXES) == {"out": 3, "in": 4, "head": 2}
    with pytest.raises(ValueError, match="axis 'out' has length 3, but a dim of 'w'"):
        read_axis_lengths(whole(), {"b": ("out",), "w": (None, "out")})
    with pytest.raises(ValueError, match="axes of 'w'"):
        read_axis_lengths(whole(), {"w": ("out",)})
    with pytest.raises(ValueError, match="no such parameter"):
        read_axis_lengths(whole(), {"gone": ("out",)})
    with pytest.raises(ValueError, match="has 5 entries"):
        read_axis_lengths(whole(), {"free": (Along("head", block=2),)})
