"""Formulas: what they make of a frame, what is kept of them, and that they run no other code."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)

pytest.importorskip("formulaic")
from moiety.estimators.formula import FormulaMixture
from moiety.estimators.formula_terms import split_formula


@pytest.fixture(scope="module")
def frame():
    rng, rows = np.random.default_rng(0), 400
    data = pd.DataFrame({
        "x": rng.normal(size=rows), "z": rng.uniform(-2, 2, rows), "w": rng.normal(size=rows),
        "town": rng.choice(["A", "B", "C"], rows), "time": rng.uniform(0.5, 4, rows),
    })  # fmt: skip
    first = rng.random(rows) < 1 / (1 + np.exp(-3 * data.w))
    own = np.where(first, 3 + np.sin(2 * data.z) + (data.town == "B"), -2 + data.x)
    data["y"] = own + 0.3 * rng.normal(size=rows)
    data["count"] = rng.poisson(data.time * np.exp(0.4 * data.x)).astype(float)
    return data


def test_columns_are_those_made_by_hand(frame):
    labels = (frame.y > 0).astype(int).to_numpy()
    ours = FormulaMixture(
        "y ~ x + town + I(z**2) | w + x", MixtureOfExpertsRegressor(2, init=labels)
    )
    ours.fit(frame)
    towns = {"B": frame.town == "B", "C": frame.town == "C"}
    hand = pd.DataFrame({"x": frame.x, **towns, "z2": frame.z**2, "w": frame.w}).astype(float)
    own: dict[str, Any] = {"expert_columns": ["x", "B", "C", "z2"], "gate_columns": ["w", "x"]}
    plain = MixtureOfExpertsRegressor(2, init=labels, **own).fit(hand, frame.y)
    assert ours.model_.log_likelihood(ours.design(frame), frame.y) == pytest.approx(
        plain.log_likelihood(hand, frame.y), abs=1e-9
    )
    np.testing.assert_allclose(ours.predict(frame), plain.predict(hand), atol=1e-9)
    assert ours.bic(frame) == pytest.approx(plain.bic(hand, frame.y))
    told = ours.summary_frame(frame)
    assert list(told[told.block == "gate"].term) == ["intercept", "x", "w"]
    assert list(told[told.expert == 1].term)[:5] == [
        "intercept", "x", "town[T.B]", "town[T.C]", "I(z ** 2)"
    ]  # fmt: skip


FORMULAS = (
    "y ~ x + s(z) + town | w",
    "y ~ bs(z, df=4) + poly(w, 2) + x:town",
    "y ~ cr(z, df=3) + scale(x) + center(w) + C(town) + log(time) | 1",
)


@pytest.mark.parametrize("formula", FORMULAS)
def test_knots_and_categories_are_those_of_the_fit(frame, tmp_path, formula):
    model = FormulaMixture(
        formula, MixtureOfExpertsRegressor(2, random_state=0, n_init=1, tol=1e-4)
    )
    model.fit(frame)
    few = frame.iloc[5:8].drop(columns="y")  # neither all categories nor the range of z
    np.testing.assert_allclose(model.predict(few), model.predict(frame)[5:8], rtol=1e-12)
    model.save(tmp_path)
    again = FormulaMixture.load(tmp_path)
    np.testing.assert_array_equal(again.predict(few), model.predict(few))
    assert again.score(frame) == model.score(frame)
    assert again.formula == formula
    text = (tmp_path / "formula.json").read_text()
    assert str(frame.x[7]) not in text  # no row goes along
    if formula.endswith("| 1"):
        assert (model.model_.gate_coef_ == 0).all()


def test_an_offset_in_a_formula(frame, tmp_path):
    one = MixtureOfExpertsRegressor(1, family="poisson")
    model = FormulaMixture("count ~ x + offset(log(time))", one).fit(frame)
    hand = np.column_stack([frame.x, np.log(frame.time)])
    plain = MixtureOfExpertsRegressor(1, family="poisson", offset=1).fit(hand, frame["count"])
    np.testing.assert_allclose(model.predict(frame), plain.predict(hand), rtol=1e-9)
    model.save(tmp_path)
    again = FormulaMixture.load(tmp_path)
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    fresh: Any = clone(again)
    np.testing.assert_allclose(fresh.fit(frame).predict(frame), model.predict(frame))


def test_classes_and_cross_validation(frame):
    model = FormulaMixture("town ~ x + w | 1", MixtureOfExpertsClassifier(1))
    assert set(model.fit(frame).predict(frame)) <= set("ABC")
    assert model.predict_proba(frame).shape == (400, 3)
    scores = cross_val_score(FormulaMixture("y ~ x | w", MixtureOfExpertsRegressor(1)), frame, cv=2)
    assert np.isfinite(scores).all()


STRANGE = (
    "y ~ x + __import__('os').system('echo')", "y ~ z.mean()", "y ~ np.log(time)", "y ~ x[0]",
    "y ~ (lambda: 1)()", "y ~ bs(z, df=exec('1'))", "y ~ I(x if x else z)", "y ~ hashed(x)",
    "y ~ I(9**9**9)", "y ~ I(x**99)", "y ~ [x for x in z]", "y ~ C(town, contr.sum)", "y ~ _x",
    "y ~ {x.__class__}", "y ~ x | {open('a')}", "y ~ eval('1')",
)  # fmt: skip
WRONG = ("y x", "y ~ x ~ z", "y ~ x | w | z", "log(y) ~ x", "y ~ 0 + x", "y ~ x - 1", "y ~ x +",
         "y ~ .", "y ~ x | offset(time)", "y ~ x:offset(time)", "y ~ offset(x) + offset(z)",
         "y ~ x + log(y)", "y ~ x | y", 5)  # fmt: skip


@pytest.mark.parametrize("formula", STRANGE + WRONG)
def test_formulas_that_are_refused(formula):
    with pytest.raises(ValueError, match="formula"):
        split_formula(formula)


def test_a_file_runs_no_code(frame, tmp_path):
    model = FormulaMixture("y ~ x | w", MixtureOfExpertsRegressor(1)).fit(frame)
    model.save(tmp_path)
    place, mark = tmp_path / "formula.json", tmp_path / "ran"
    good = place.read_text()
    told = json.loads(good)
    told["formula"] = f"y ~ x + I(open({str(mark)!r}, 'w')) | w"
    place.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="not allowed"):
        FormulaMixture.load(tmp_path)
    assert not mark.exists()
    for hurt in ({"formula": "y ~ x | z"}, {"mean": 5}, {"parts": [{}, {}]}, {"gate": ["v"]}):
        place.write_text(json.dumps({**json.loads(good), **hurt}))
        with pytest.raises(ValueError, match=r"formula\.json|feature names"):
            FormulaMixture.load(tmp_path).predict(frame)
    told["format"] = "other"
    place.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="has the format 'other'"):
        FormulaMixture.load(tmp_path)
    with pytest.raises(ValueError, match=r"holds no formula\.json"):
        FormulaMixture.load(tmp_path / "none")


def test_data_that_do_not_fit(frame):
    model = FormulaMixture("y ~ x + town", MixtureOfExpertsRegressor(1)).fit(frame)
    for changed, text in (
        (frame.drop(columns="x"), "no column 'x'"),
        (frame.assign(town="Z"), "Z"),
        (frame.assign(x=np.nan), "column 'x' has 400 missing values"),
    ):
        with pytest.raises(ValueError, match=text):
            model.predict(changed)
    with pytest.raises(ValueError, match="the formula names the response"):
        model.fit(frame, frame.y)
    with pytest.raises(ValueError, match="no response 'price'"):
        FormulaMixture("price ~ x").fit(frame)
    several: Any = DistributedMixtureOfExpertsRegressor(1)
    with pytest.raises(ValueError, match="a mixture on one machine, not of Distributed"):
        FormulaMixture("y ~ x", several).fit(frame)
    for text, remedy in (("log(y) ~ x", "make the column first"), ("y ~ 0 + x", "leave out")):
        with pytest.raises(ValueError, match=remedy):
            FormulaMixture(text).fit(frame)
    with pytest.raises(ValueError, match="leave out offset="):
        FormulaMixture("y ~ x", MixtureOfExpertsRegressor(1, offset=0)).fit(frame)
