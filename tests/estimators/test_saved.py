"""Fitted estimators as files that cannot run code."""

import json
import pickle

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda told: [], "is not what save writes"),
        (lambda told: {**told, "choices": {**told["choices"], "pickle": 1}}, "says \\['pickle'\\]"),
        (lambda told: {**told, "told": {"predict": told["told"]["n_iter_"]}}, "says \\['predict'"),
        (lambda told: {**told, "choices": {"n_experts": 2, "family": "poisson"}}, "another family"),
        (lambda told: {**told, "told": {"n_features_in_": {**told["told"]["n_iter_"], "value": 9}}},
         "and there are 9"),
    ],
)  # fmt: skip
def test_a_file_that_was_tampered_with_is_refused(change, text, tmp_path):
    """A file sets what save writes, and nothing else of the estimator."""
    x, y = draw(gaussian_mixture(0), 60, seed=0)
    MixtureOfExpertsRegressor(2, n_init=1, tol=1.0).fit(x, y).save(tmp_path)
    path = tmp_path / "config.json"
    good = path.read_text()
    path.write_text(json.dumps(change(json.loads(good))))
    with pytest.raises(ValueError, match=text):
        MixtureOfExpertsRegressor.load(tmp_path)
    path.write_text(good[:-9])
    with pytest.raises(ValueError, match="cannot be read"):
        MixtureOfExpertsRegressor.load(tmp_path)
    path.write_text(good)
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ValueError, match="cannot be read"):
        MixtureOfExpertsRegressor.load(tmp_path)
