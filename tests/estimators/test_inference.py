"""Errors that hold where the law does not, fits to rows drawn again, and tables of parameters."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
    bootstrap_fit,
    compare_numbers,
)
from tests.estimators.worlds import categorical_mixture, draw, gaussian_mixture


def uneven(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One line whose noise grows with x: no law of the family."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 1))
    return x, 1 + 2 * x[:, 0] + np.abs(x[:, 0]) * rng.normal(size=rows)


def test_a_sandwich_is_whites_for_one_line():
    """White's errors of least squares, HC0, with frequency weights as rows given twice."""
    x, y = uneven(200, 0)
    weights = np.random.default_rng(1).integers(1, 3, 200).astype(float)
    model = MixtureOfExpertsRegressor(1).fit(x, y, weights)
    found = model.standard_errors(x, y, weights, kind="sandwich")["experts"][:, 0]
    ready = np.column_stack([np.ones(200), x])
    bread = np.linalg.inv(ready.T @ (weights[:, None] * ready))
    residual = y - ready @ np.array([model.intercept_[0], model.coef_[0, 0]])
    white = bread @ (ready.T @ ((weights * residual**2)[:, None] * ready)) @ bread
    np.testing.assert_allclose(found, np.sqrt(np.diag(white)), rtol=1e-6)
    twice = np.repeat(np.arange(200), weights.astype(int))
    again = model.standard_errors(x[twice], y[twice], kind="sandwich")["experts"][:, 0]
    np.testing.assert_allclose(found, again, rtol=1e-9)
    assert found[1] > 1.3 * model.standard_errors(x, y, weights)["experts"][1, 0]
    with pytest.raises(ValueError, match="kind='robust' is not known"):
        model.standard_errors(x, y, kind="robust")


@pytest.mark.parametrize(
    ("model", "truth"),
    [
        (MixtureOfExpertsRegressor(2, n_init=2, random_state=0), gaussian_mixture(11, 2)),
        (MixtureOfExpertsClassifier(1, ridge=1e-8), categorical_mixture(3, experts=1)),
    ],
    ids=["numbers", "classes"],
)
def test_a_sandwich_is_near_the_information_where_the_law_holds(model, truth):
    x, y = draw(truth, 2000, 0)
    model.fit(x, y)
    plain, robust = (model.standard_errors(x, y, kind=k) for k in ("observed", "sandwich"))
    for name, values in plain.items():
        if values.size:
            assert np.median(np.abs(robust[name] / values - 1)) < 0.1


def test_rows_drawn_again_give_the_errors_of_the_sandwich():
    x, y = uneven(300, 0)
    model = MixtureOfExpertsRegressor(1, n_init=1).fit(x, y)
    found = bootstrap_fit(model, x, y, replications=100, random_state=0)
    robust = model.standard_errors(x, y, kind="sandwich")
    for name, values in found.standard_errors().items():
        np.testing.assert_allclose(values, robust[name], rtol=0.3, err_msg=name)
    low, high = found.interval(0.9)["experts"]
    assert (low < model.mixture_.experts.coef).all()
    assert (high > model.mixture_.experts.coef).all()
    drawn = bootstrap_fit(model, x, y, replications=100, resample="law", random_state=0)
    plain = model.standard_errors(x, y)
    np.testing.assert_allclose(drawn.standard_errors()["experts"], plain["experts"], rtol=0.3)
    again = bootstrap_fit(model, x, y, replications=3, random_state=0, n_jobs=1)
    assert (again.values["experts"] == found.values["experts"][:3]).all()


def test_experts_keep_their_places_when_rows_are_drawn_again():
    x, y = draw(gaussian_mixture(11, 2), 400, 0)
    model = MixtureOfExpertsRegressor(2, n_init=2, random_state=0, tol=1e-6).fit(x, y)
    found = bootstrap_fit(model, x, y, replications=20, random_state=0).standard_errors()
    ratio = found["experts"] / model.standard_errors(x, y)["experts"]
    assert 0.5 < np.median(ratio) < 1.6
    assert ratio.max() < 3


def test_what_is_drawn_again_keeps_its_columns_names():
    pd = pytest.importorskip("pandas")
    x, y = draw(gaussian_mixture(11, 2), 100, 0)
    named = pd.DataFrame(x, columns=["age", "dose"])
    line = MixtureOfExpertsRegressor(1, gate_columns=[], expert_columns=["dose"], tol=1e-3)
    few = bootstrap_fit(line.fit(named, y), named, y, replications=2, random_state=0)
    assert (few.values["experts"][:, 1] == 0).all()
    assert compare_numbers(line, 1, named, y, replications=1, random_state=0).p in (0.5, 1.0)
    with pytest.raises(ValueError, match=r"level=1\.5 is no level"):
        few.interval(1.5)
    with pytest.raises(ValueError, match="replications=0 must be at least 1"):
        compare_numbers(line, 1, named, y, replications=0)
    with pytest.raises(ValueError, match="is no mixture of one machine"):
        bootstrap_fit(DistributedMixtureOfExpertsRegressor(), x, y)  # pyright: ignore
    with pytest.raises(NotFittedError):
        bootstrap_fit(MixtureOfExpertsRegressor(), x, y)


def test_a_ratio_tells_how_many_experts_are_needed():
    x, y = draw(gaussian_mixture(11, 2), 150, 0)
    model = MixtureOfExpertsRegressor(n_init=1, random_state=0, tol=1e-4)
    assert compare_numbers(model, 1, x, y, replications=9, random_state=0).p == 0.1
    found = compare_numbers(model, 2, x, y, replications=9, random_state=0)
    assert found.p > 0.1
    assert found.drawn.shape == (9,)


def test_a_table_has_every_parameter_once():
    pd = pytest.importorskip("pandas")
    x, y = draw(gaussian_mixture(11, 2), 300, 0)
    named = pd.DataFrame(x, columns=["age", "dose"])
    model = MixtureOfExpertsRegressor(2, n_init=2, random_state=0).fit(named, y)
    frame = model.summary_frame(named, y, level=0.9)
    assert len(frame) == model.n_parameters_
    assert frame.term.tolist()[:3] == ["intercept", "age", "dose"]
    errors = model.standard_errors(named, y)
    row = frame[(frame.block == "expert") & (frame.expert == 1) & (frame.term == "dose")].iloc[0]
    assert (row.estimate, row.error) == (model.coef_[1, 1], errors["experts"][2, 1])
    assert row.high - row.low == pytest.approx(2 * 1.6448536 * row.error)
    spread = frame[frame.block == "spread"]
    assert spread.estimate.tolist() == model.variances_.tolist()
    assert (spread.low > 0).all()
    classes = MixtureOfExpertsClassifier(2, n_init=2, random_state=0)
    x, y = draw(categorical_mixture(3), 500, 0)
    frame = classes.fit(x, y).summary_frame(x, y)
    assert len(frame) == classes.n_parameters_
    assert frame["class"].max() == 1


def test_means_come_with_their_spread():
    x, y = draw(gaussian_mixture(11, 2), 300, 0)
    model = MixtureOfExpertsRegressor(2, n_init=2, random_state=0).fit(x, y)
    mean, spread = model.predict(x, return_std=True)
    drawn = model.predict_dist(x[:5]).sample(20_000, random_state=0)
    np.testing.assert_allclose(drawn.mean(1), mean[:5], atol=4.5 * spread[:5].max() / 20_000**0.5)
    np.testing.assert_allclose(drawn.std(1), spread[:5], rtol=0.05)
