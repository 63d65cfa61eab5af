"""A common expert that is the model of an earlier run."""

import shutil
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest
import torch

from moiety.core.errors import RunError
from moiety.core.rows import take_all_rows
from moiety.data.roles import Columns
from moiety.recipes.build import build_run
from moiety.run.group import resume_run
from moiety.run.loop import CHECKPOINTS
from moiety.serve.predictor import load_model, write_model
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


def test_the_same_numbers_that_read_rows_otherwise_are_another(tiny, before, tmp_path):
    """Of one scale and of another: a run that has begun with one does not go on with the other."""
    taken, marks = load_model(before), set()
    spec = taken.input_spec
    for name, scale in (
        ("kept", spec.scale),
        ("other", replace(spec.scale, mean=spec.scale.mean + 1)),
    ):
        write_model(replace(taken, input_spec=replace(spec, scale=scale)), tmp_path / name)
        built = build_run(tiny(common={"model": str(tmp_path / name)}), "fedavg", 0)
        marks.add(built.data_fingerprint)
    assert len(marks) == 2


@pytest.mark.parametrize("net", ["mlp", "bag"])
def test_columns_and_targets_mean_what_they_mean_to_it(net, tiny, lab, tmp_path):
    """A run of another seed, whose own rows would fill gaps, number words and scale otherwise."""
    rng, path = np.random.default_rng(0), tmp_path / "some.csv"
    said = [" ".join(f"w{rng.integers(30)}" for _ in range(5)) for _ in range(120)]
    gaps = [f"{rng.normal():.2f}" if rng.random() < 0.7 else "" for _ in said]
    y = [f"{rng.normal():.3f}" if net == "mlp" else "ab"[rng.integers(2)] for _ in said]
    column = gaps if net == "mlp" else said
    some = [f"{one},{two}" for one, two in zip(column, y, strict=True)]
    path.write_text("\n".join(["told,target", *some]))
    plain: Any = {
        "data": str(path), "net": net, "methods": ("common",), "metrics": (),
        "population": {"scheme": "iid", "anchors": 0}, "participation": {"anchors": -1},
    }  # fmt: skip
    before = lab.play(tiny(rounds=1, seed=7, **plain))
    taken, record = load_model(before), tiny(common={"model": str(before)}, **plain)
    built = build_run(record, "common", 0)
    alone = build_run(tiny(**plain), "common", 0)
    told = taken.predict_answer(taken.input_spec.read(path, Columns(target="target")).x)
    for one in (built, alone):
        answers = answer_training(one)
        near = (answers[:, None] - told).abs().amax(-1).amin(1) < 1e-6
        assert bool(near.all()) == (one is built)


def answer_training(built):
    """Answer the rows of the workers that train as the whole does that a run begins with."""
    rows = [take_all_rows(built.open(worker), 99) for worker in range(built.num_seen)]
    first = built.method.first or built.method.model.params
    with torch.no_grad():
        return torch.cat([built.method.serve.scores(first, batch, {}) for batch in rows])


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
    (["--common.model", "MODEL", "--methods", "ifca"], "of ifca none begins at a common expert"),
    (["--common.model", "BROKEN"], "holds NaN or infinity"),
])  # fmt: skip
def test_what_it_cannot_be(moiety, small, lab, tiny, played, tmp_path, words, said):
    x, y = draw(width=5)
    np.savez(tmp_path / "narrow.npz", x=x, y=np.array(NAMES)[y])
    places = {
        "MODEL": lab.play(tiny(rounds=1)), "MIXED": played, "NARROW": tmp_path / "narrow.npz",
        "BROKEN": tmp_path / "broken",
    }  # fmt: skip
    whole = load_model(places["MODEL"])
    write_model(
        replace(whole, params={n: t * nan for n, t in whole.params.items()}), tmp_path / "broken"
    )
    for option in ("--common.epochs", *(["--data"] if "--data" in words else [])):
        small = drop_option(small, option)
    found = moiety("run", "yours", *small, "--methods", "ddome",
                   *(places.get(word, word) for word in words), "--out", "mine")  # fmt: skip
    assert found.code != 0
    assert said in found.err
    assert "Traceback" not in found.err


def test_a_run_can_be_repeated_by_its_file(moiety, small, lab, tiny, final):
    """It says all there is of training a common expert; a file that says some of it is refused."""
    model = lab.play(tiny(rounds=1))
    words = drop_option(small, "--common.epochs")
    assert moiety("run", "yours", *words, "--methods", "fedavg", "--seeds", 1, "--common.model",
                  model, "--out", "mine").code == 0  # fmt: skip
    mine = lab.root / "mine"
    assert moiety("run", "yours", "--config", mine / "config.json", "--out", "more").code == 0
    assert final(lab.root / "more") == final(mine)
    (lab.root / "some.toml").write_text(f'[common]\nmodel = "{model}"\nlr = 0.1\n')
    found = moiety("run", "yours", *words, "--config", "some.toml", "--out", "other")
    assert found.code == 2
    assert "leave one of them out" in found.err


def drop_option(words, option):
    place = words.index(option)
    return [*words[:place], *words[place + 2 :]]
