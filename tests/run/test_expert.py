"""Experts traded by the command line."""

import json

import pytest

from moiety.serve.predictor import write_model
from tests.unit.test_experts import NAMES, PUBLIC, draw_rows, make_base


def write_table(path, data):
    lines = [
        f"{x},{y},{NAMES[label]}"
        for (x, y), label in zip(data.x.tolist(), data.y.tolist(), strict=True)
    ]
    path.write_text("\n".join(["left,right,label", *lines]))


@pytest.fixture
def market(tmp_path, monkeypatch):
    """Make a folder with a finished model, public rows, and those of two owners."""
    monkeypatch.chdir(tmp_path)
    write_model(make_base(), tmp_path / "base")
    write_table(tmp_path / "public.csv", PUBLIC)
    for seed, (name, own) in enumerate({"ann": (0, 1), "bob": (2,)}.items()):
        write_table(tmp_path / f"{name}.csv", draw_rows(own, seed))
    return tmp_path


def test_a_mixture_is_opened_filled_used_and_left(moiety, market):
    assert moiety("expert", "open", "base", "--public", "public.csv", "--out", "mix").code == 0
    for name, words in {
        "ann": ["--licence", "CC-BY-4.0", "--date", "2026-11-30"],
        "bob": [],
    }.items():
        said = moiety(
            "expert", "train", "mix", "--data", f"{name}.csv", "--public", "public.csv",
            "--owner", name, "--out", name, "--local.epochs", 1, *words,
        )  # fmt: skip
        assert said.code == 0
    assert moiety("expert", "add", "mix", "--experts", "ann", "bob", "--out", "all").code == 0
    assert moiety("predict", "all", "--data", "public.csv", "--out", "told.csv").code == 0
    cards = json.loads(moiety("expert", "list", "all", "--json").out)
    assert [card["owner"] for card in cards] == ["public", "ann", "bob"]
    assert (cards[1]["licence"], cards[1]["date"], cards[1]["rows"]) == (
        "CC-BY-4.0",
        "2026-11-30",
        24,
    )
    assert json.loads(moiety("expert", "list", "bob", "--json").out) == [cards[2]]
    said = moiety("expert", "add", "bob", "--experts", "ann", "--out", "no")
    assert said.code == 1
    assert "moiety expert add MIXTURE --experts bob" in said.err
    assert moiety("expert", "drop", "all", "--owners", "ann", "--out", "some").code == 0
    said = moiety(
        "expert", "replace", "some", "--owner", "bob", "--expert", "ann", "--out", "other"
    )
    assert "ann" in said.out and "bob" not in said.out  # noqa: PT018
    said = moiety("expert", "tune", "all", "--public", "public.csv", "--out", "tuned")
    assert said.code == 0
    assert moiety("personalize", "all", "--data", "bob.csv", "--out", "mine").code == 0
    shown = moiety("expert", "list", "mine")
    assert shown.out.count("\n") == 3


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["trade"], 2, "unknown command 'expert trade'"),
        (["list", "nowhere"], 1, "does not exist"),
        (["list", "base"], 1, "moiety expert open makes a mixture of it"),
        (["add", "base", "--experts", "base", "--out", "x"], 1, "holds no expert"),
        (["open", "base", "--public", "public.csv", "--out", "base"], 1, "already holds something"),
        (["train", "base", "--data", "ann.csv", "--owner", "A", "--out", "x"], 1, "no experts"),
        (
            ["train", "base", "--data", "ann.csv", "--owner", "", "--out", "x"], 1, "give a name"
        ),
        (
            ["train", "base", "--data", "ann.csv", "--owner", "Ann", "--out", "x", "--ridge", "2"],
            2, "read with --public alone",
        ),
        (
            ["train", "base", "--data", "ann.csv", "--owner", "A", "--out", "x", "--local.by-rows"],
            1, "trains alone",
        ),
        (["drop", "base", "--out", "x"], 2, "--owners"),
    ],
)  # fmt: skip
def test_what_cannot_be_traded_is_told_in_a_sentence(moiety, market, words, code, why):
    said = moiety("expert", *words)
    assert said.code == code
    assert why in said.err
    assert not (market / "x").exists()
