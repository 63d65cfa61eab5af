"""A common expert that is the model of an earlier run."""

import shutil
from typing import Any

import numpy as np
import pytest
import torch

from moiety.core.errors import RunError
from moiety.recipes.build import build_run
from moiety.run.group import resume_run
from moiety.run.loop import CHECKPOINTS
from moiety.serve.predictor import load_model
from tests.run.conftest import NAMES, Lab, draw


@pytest.fixture(scope="module")
def before(tiny, tmp_path_factory):
    """Play a run whose model others begin with, on other rows set apart."""
    return Lab(tmp_path_factory.mktemp("before")).play(tiny(rounds=2, seed=7))


def test_it_is_taken_as_it_is(tiny, before):
    """Every method begins there, the gate reads it, and rows are scaled as it reads them."""
    taken, record = load_model(before), tiny(common={"model": str(before)})
    built = build_run(record, "ddome", 0)
    model: Any = built.method.model
    found = model.common.params
    assert all(torch.equal(found[name], t) for name, t in taken.params.items())
    assert torch.equal(built.scale.mean, taken.input_spec.scale.mean)
    first = build_run(record, "fedavg", 0).method.first or {}
    assert all(torch.equal(first[name], t) for name, t in taken.params.items())
    assert built.data_fingerprint != build_run(tiny(), "ddome", 0).data_fingerprint


def test_a_start_needs_no_rows_set_apart(tiny, before):
    record = tiny(
        common={"model": str(before)},
        population={"public": 0.0, "anchors": 0}, participation={"anchors": -1},
    )  # fmt: skip
    first = build_run(record, "fedavg", 0).method.first or {}
    assert all(torch.equal(first[name], t) for name, t in load_model(before).params.items())
    with pytest.raises(ValueError, match=r"population\.public is 0"):
        build_run(record, "ddome", 0)


def test_a_run_goes_on_with_the_same_one_alone(tiny, before, lab, final):
    whole = lab.play(tiny(common={"model": str(before)}), "ddome", "whole")
    expected = final(whole)
    for late in (whole / CHECKPOINTS).glob("*"):
        if "6" in late.name:
            shutil.rmtree(late) if late.is_dir() else late.unlink()
    shutil.rmtree(whole / "final")
    resume_run(whole)
    assert final(whole) == expected
    other = lab.play(tiny(rounds=2, seed=8), name="other")
    shutil.rmtree(before / "final")
    shutil.copytree(other / "final", before / "final")
    with pytest.raises(RunError, match=r"common\.model"):
        resume_run(whole)


@pytest.mark.parametrize(("words", "said"), [
    (["--common.model", "nowhere"], "nowhere/config.json does not exist"),
    (["--common.model", "MODEL", "--mlp.hidden", "5"], "choose that one by --net"),
    (["--common.model", "MIXED"], "'kind': 'gated'"),
    (["--common.model", "MODEL", "--common.lr", "0.1"], "leave one of them out"),
    (["--common.model", "MODEL", "--data", "NARROW"], "but the data have [5]"),
])  # fmt: skip
def test_what_it_cannot_be(moiety, small, lab, tiny, played, tmp_path, words, said):
    x, y = draw(width=5)
    np.savez(tmp_path / "narrow.npz", x=x, y=np.array(NAMES)[y])
    places = {
        "MODEL": lab.play(tiny(rounds=1)), "MIXED": played, "NARROW": tmp_path / "narrow.npz"
    }  # fmt: skip
    for option in ("--common.epochs", *(["--data"] if "--data" in words else [])):
        small = drop_option(small, option)
    found = moiety("run", "yours", *small, "--methods", "ddome",
                   *(places.get(word, word) for word in words), "--out", "mine")  # fmt: skip
    assert found.code != 0
    assert said in found.err
    assert "Traceback" not in found.err


def drop_option(words, option):
    place = words.index(option)
    return [*words[:place], *words[place + 2 :]]
