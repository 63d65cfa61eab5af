"""Fitted estimators as files that cannot run code."""

import json
import pickle
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from moiety.estimators import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from tests.estimators.worlds import categorical_mixture, draw, gaussian_mixture, shards

KINDS = {
    "regressor": MixtureOfExpertsRegressor,
    "classifier": MixtureOfExpertsClassifier,
    "distributed regressor": DistributedMixtureOfExpertsRegressor,
    "distributed classifier": DistributedMixtureOfExpertsClassifier,
}


def rows_for(kind: str) -> tuple[np.ndarray, np.ndarray]:
    if "regressor" in kind:
        return draw(gaussian_mixture(11, experts=2), 600, 0)
    x, y = draw(categorical_mixture(3), 900, 0)
    return x, np.array(["red", "green", "blue"])[y]


def fitted(kind: str, **options: object):
    x, y = rows_for(kind)
    model = KINDS[kind](2, random_state=0, n_init=2, **options)
    return model.fit(shards(x, y, 3)) if "distributed" in kind else model.fit(x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_what_was_saved(kind, tmp_path):
    model, (x, y) = fitted(kind), rows_for(kind)
    model.save(tmp_path / "fit")
    there = type(model).load(tmp_path / "fit")
    assert (there.predict(x) == model.predict(x)).all()
    assert (there.log_density(x, y) == model.log_density(x, y)).all()
    assert there.get_params() == model.get_params()
    shown = {
        name: value
        for name, value in vars(model).items()
        if name.endswith("_") and isinstance(value, (np.ndarray, int, float, bool, np.bool_))
    }
    assert len(shown) > 8
    for name, value in shown.items():
        if name not in ("lift_", "n_rows_"):
            np.testing.assert_array_equal(getattr(there, name), value, err_msg=name)
    names = {path.name for path in (tmp_path / "fit").iterdir()}
    assert names == {"config.json", "model.safetensors", "local.safetensors"}


@pytest.mark.filterwarnings("ignore:the local fits are incompatible")
@pytest.mark.parametrize("kind", ["regressor", "classifier"])
def test_files_merge_as_estimators_do(kind, tmp_path):
    x, y = rows_for(kind)
    fits = [KINDS[kind](2, random_state=0, n_init=2).fit(*part) for part in shards(x, y, 3)]
    paths = [tmp_path / str(at) for at in range(3)]
    for fit, path in zip(fits, paths, strict=True):
        fit.save(path)
    found = [KINDS[f"distributed {kind}"](2, random_state=0).merge(some, support=x)
             for some in (fits, paths, [str(path) for path in paths])]  # fmt: skip
    for one in found[1:]:
        np.testing.assert_allclose(one.coef_, found[0].coef_, rtol=1e-9)
        np.testing.assert_allclose(one.gate_coef_, found[0].gate_coef_, rtol=1e-9)
    assert [fit.rows for fit in found[1].locals_] == [fit.rows for fit in found[0].locals_]


def test_no_row_leaves_with_a_distributed_fit_unless_asked(tmp_path):
    model = fitted("distributed regressor")
    known = model.support_.x[:20].tobytes()
    assert known in pickle.dumps(model.support_.x)
    assert known not in pickle.dumps(model)
    there = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match="keep_support=True"):
        there.reduce_again(cost="w2")
    assert there.assess(shards(*rows_for("distributed regressor"), 3)).rows == 600
    kept = fitted("distributed regressor", keep_support=True)
    assert known in pickle.dumps(kept)
    kept.save(tmp_path / "fit")
    loaded = DistributedMixtureOfExpertsRegressor.load(tmp_path / "fit")
    expected, found = (one.reduce_again(cost="w2") for one in (kept, loaded))
    assert (found.coef_ == expected.coef_).all()


def test_what_cannot_be_read_is_refused(tmp_path):
    model = fitted("regressor")
    model.save(tmp_path / "fit")
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        MixtureOfExpertsRegressor.load(tmp_path)
    with pytest.raises(ValueError, match="holds a MixtureOfExpertsRegressor; give one of"):
        MixtureOfExpertsClassifier.load(tmp_path / "fit")
    (tmp_path / "fit" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="has the format None"):
        MixtureOfExpertsRegressor.load(tmp_path / "fit")
    with pytest.raises(ValueError, match="is one path"):
        DistributedMixtureOfExpertsRegressor(2).merge(str(tmp_path), support=np.eye(3))


def test_a_loaded_fit_goes_on_warm_and_refuses_to_be_a_stream(tmp_path):
    x, y = rows_for("regressor")
    model = MixtureOfExpertsRegressor(2, random_state=0, warm_start=True).fit(x, y)
    model.save(tmp_path / "fit")
    there = MixtureOfExpertsRegressor.load(tmp_path / "fit")
    with pytest.raises(ValueError, match="cannot go on as a stream"):
        there.partial_fit(x, y)
    assert there.fit(x, y).n_iter_ <= 3


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    x, y = draw(gaussian_mixture(0), 60, seed=0)
    folder = tmp_path_factory.mktemp("saved") / "fit"
    MixtureOfExpertsRegressor(2, n_init=1, tol=1.0).fit(x, y).save(folder)
    return folder


def put(part: str, name: str, value: object):
    """Change a choice, or an attribute, of what is told."""
    return lambda told: {**told, part: {**told[part], name: value}}


def word(value: object, dtype: str = "str") -> dict[str, object]:
    return {"dtype": dtype, "object": False, "value": value}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda told: [], "is not what save writes"),
        (lambda told: {n: v for n, v in told.items() if n != "estimator"}, "is not what save"),
        (lambda told: {**told, "estimator": ["a"]}, "is not what save writes"),
        (put("choices", "pickle", 1), r"says \['pickle'\]"),
        (lambda told: {**told, "told": {"predict": told["told"]["n_iter_"]}}, "says \\['predict'"),
        (lambda told: {**told, "choices": {"n_experts": 2, "family": "poisson"}}, "another family"),
        (put("choices", "n_experts", "two"), "must be a whole number"),
        (put("choices", "ridge", {"a": 1}), "must be a finite number"),
        (put("choices", "missing", "mean"), "does not say .*fill_"),
        (put("told", "n_features_in_", word(9, "<i8")), "of another length than its covariates"),
        (put("told", "n_features_in_", word("x")), "'n_features_in_', which save does not"),
        (put("told", "n_iter_", word(7, "U999999999")), "'n_iter_', which save does not"),
        (put("told", "n_iter_", [1, 2]), "'n_iter_', which save does not"),
        (put("told", "converged_", {"dtype": "|b1"}), "'converged_', which save does not"),
        (put("told", "covariate_sd_", word([[1.0], [2.0, 3.0]], "<f8")), "which save does not"),
        (put("told", "feature_names_in_", word(["a"])), "of another length than its covariates"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused(change, text, saved, tmp_path):
    """A file sets what save writes, and nothing else of the estimator."""
    path = shutil.copytree(saved, tmp_path / "fit") / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=text):
        MixtureOfExpertsRegressor.load(path.parent)


@pytest.mark.parametrize(
    ("name", "junk"),
    [("config.json", b"{"), ("config.json", b"[" * 100_000), ("config.json", b"\xff"),
     ("model.safetensors", b"junk"), ("local.safetensors", b"")],
)  # fmt: skip
def test_a_file_of_junk_is_refused(name, junk, saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / "fit") / name
    path.write_bytes(junk)
    with pytest.raises(ValueError, match="cannot be read"):
        MixtureOfExpertsRegressor.load(path.parent)


ARRAYS = {
    "no gate": ("gate", None, "lacks"),
    "no sizes that count": ("sizes", np.array([2.0]), "no counts"),
    "more experts than the gate": ("sizes", np.array([9]), "for \\[9\\] experts"),
    "two mixtures": ("sizes", np.array([1, 1]), "holds 2 mixtures"),
    "not a number": ("experts", np.full((3, 2), np.nan), "holds nan"),
    "a moved reference": ("gate", np.ones((3, 2)), "last gate"),
    "other columns": ("experts", np.ones((4, 2)), "has the shape"),
    "another type": ("experts", np.ones((3, 2), np.float32), "has the shape"),
    "no axis of experts": ("experts", np.ones(6), "has the shape"),
    "a variance below 0": ("variances", -np.ones(2), "not above 0"),
    "no variances": ("variances", None, "another family"),
    "a stranger": ("pickle", np.ones(2), "has the shape"),
    "noise of more than all": ("noise", np.array([[0.0, 1.0, 5.0, 0.0]]), "noise of 5.0"),
    "rows below 0": ("rows", np.array([-1.0]), "not above 0"),
    "no rows": ("rows", None, "lacks"),
    "information cut short": ("information", np.ones(2), "has the shape"),
    "information of nothing": ("information", np.full(6, np.nan), "not finite"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_no_fit_has_are_refused(case, saved, tmp_path):
    name, values, text = ARRAYS[case]
    local = name in ("rows", "information")
    path = shutil.copytree(saved, tmp_path / "fit") / f"{'local' if local else 'model'}.safetensors"
    arrays = {n: part for n, part in {**load_file(path), name: values}.items() if part is not None}
    save_file(arrays, path)
    with pytest.raises(ValueError, match=text):
        MixtureOfExpertsRegressor.load(path.parent)
