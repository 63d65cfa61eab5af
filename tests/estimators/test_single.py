"""The estimators on one machine: scikit-learn's contract, and what a statistician expects."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from moiety.estimators import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor, select_experts
from moiety.mixtures.model import add_constant, log_density
from tests.estimators.worlds import categorical_mixture, draw, gaussian_mixture


@parametrize_with_checks([MixtureOfExpertsRegressor(), MixtureOfExpertsClassifier()])
@pytest.mark.filterwarnings("ignore")
def test_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def regression():
    return draw(gaussian_mixture(11), 1500, 0)


@pytest.fixture(scope="module")
def fitted(regression):
    return MixtureOfExpertsRegressor(3, random_state=0).fit(*regression)


def test_the_fit_is_at_least_as_likely_as_the_truth(regression, fitted):
    x, y = regression
    truth = log_density(gaussian_mixture(11), add_constant(x), y).sum()
    assert fitted.log_likelihood(x, y) >= truth
    assert fitted.log_likelihoods_[-1] == pytest.approx(fitted.log_likelihood(x, y), rel=1e-9)
    assert fitted.coef_.shape == (3, 2)
    assert (np.diff(fitted.intercept_) > 0).all()


def test_one_expert_is_linear_regression(regression):
    x, y = regression
    ours, theirs = MixtureOfExpertsRegressor(1).fit(x, y), LinearRegression().fit(x, y)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-8, atol=1e-8)
    residual = y - theirs.predict(x)
    found = ours.standard_errors(x, y)
    ready = add_constant(x)
    expected = np.sqrt(np.diag(np.linalg.inv(ready.T @ ready)) * residual.var())
    np.testing.assert_allclose(found["experts"][:, 0], expected, rtol=1e-6)
    assert found["log_variances"][0] == pytest.approx(np.sqrt(2 / len(y)), rel=1e-6)


def test_one_expert_is_logistic_regression():
    x, y = draw(categorical_mixture(3), 800, 1)
    ours = MixtureOfExpertsClassifier(1, ridge=1e-9).fit(x, y)
    theirs = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-4)


@pytest.mark.filterwarnings("ignore:2 standard errors are NaN")  # the ridge's end is no maximum
def test_a_classifier_finds_its_mixture():
    truth = categorical_mixture(5)
    x, y = draw(truth, 3000, 2)
    names = np.array(["left", "middle", "right"])[y]
    model = MixtureOfExpertsClassifier(2, random_state=0).fit(x, names)
    assert model.log_likelihood(x, names) >= log_density(truth, add_constant(x), y).sum() - 1
    np.testing.assert_allclose(model.predict_proba(x).sum(1), 1.0)
    assert set(model.predict(x)) <= set(names)
    assert model.coef_.shape == (2, 3, 2)
    assert "class 1" in model.summary(x[:500], names[:500])


def test_a_weight_of_two_is_the_same_row_twice(regression):
    x, y = (part[:200] for part in regression)
    weights = np.random.default_rng(0).integers(0, 3, 200)
    heavy = MixtureOfExpertsRegressor(2, random_state=0).fit(x, y, sample_weight=weights)
    again = MixtureOfExpertsRegressor(2, random_state=0)
    again.fit(np.repeat(x, weights, 0), np.repeat(y, weights))
    np.testing.assert_allclose(heavy.predict(x), again.predict(x), rtol=1e-6)
    assert heavy.bic(x, y, weights) == pytest.approx(
        again.bic(np.repeat(x, weights, 0), np.repeat(y, weights)), rel=1e-8
    )


def test_the_predictive_distribution(regression, fitted):
    x = regression[0][:5]
    found = fitted.predict_dist(x)
    y = np.linspace(-60, 60, 20_001)
    for at in range(5):
        weights, means = found.weights[at], found.means[at]
        density = norm.pdf(y[:, None], means, found.spreads) @ weights
        assert np.trapezoid(density * y, y) == pytest.approx(found.mean()[at], abs=1e-6)
        spread = np.trapezoid(density * (y - found.mean()[at]) ** 2, y)
        assert spread == pytest.approx(found.var()[at], rel=1e-6)
        assert found.pdf(np.full(5, y[9000]))[at] == pytest.approx(density[9000], rel=1e-9)
    low, high = found.interval(0.8)
    np.testing.assert_allclose(found.cdf(high) - found.cdf(low), 0.8, atol=1e-9)
    np.testing.assert_allclose(found.cdf(found.quantile(0.3)), 0.3, atol=1e-9)
    np.testing.assert_allclose(fitted.predict(x), found.mean())
    with pytest.raises(ValueError, match=r"level=1\.5"):
        found.quantile(1.5)


def test_pipelines_searches_and_clones(regression):
    x, y = (part[:400] for part in regression)
    line = make_pipeline(StandardScaler(), MixtureOfExpertsRegressor(random_state=0, n_init=2))
    search = GridSearchCV(line, {"mixtureofexpertsregressor__n_experts": [1, 3]}, cv=2).fit(x, y)
    assert search.best_params_ == {"mixtureofexpertsregressor__n_experts": 3}
    copy: Any = clone(search.best_estimator_)
    np.testing.assert_allclose(copy.fit(x, y).predict(x), search.predict(x))


def test_frames_in_and_names_out(regression):
    x, y = regression
    frame = pd.DataFrame(x[:300], columns=["age", "height"])
    model = MixtureOfExpertsRegressor(2, random_state=0).fit(frame, pd.Series(y[:300]))
    assert list(model.feature_names_in_) == ["age", "height"]
    text = model.summary(frame, y[:300])
    assert "age" in text
    assert "std. error" in text
    assert "std. error" not in model.summary()
    sizes = model.experts_frame(frame, y[:300])
    np.testing.assert_allclose(sizes.rows, model.responsibilities(frame, y[:300]).sum(0))
    np.testing.assert_allclose(sizes.share, model.gate_proba(frame).mean(0))
    assert sizes.assigned.sum() == 300
    assert f"{sizes.rows[1]:.6g}" in text
    alike = model.summary(frame, y[:300], np.full(300, 1 / 300))
    assert alike == text  # weights count as in a fit: their unit is nothing
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"age": "weight"}))


def test_warm_start_goes_on(regression):
    x, y = regression
    cold = MixtureOfExpertsRegressor(3, random_state=0, warm_start=True).fit(x, y)
    before = cold.n_iter_, cold.log_likelihood(x, y)
    cold.fit(x, y)
    assert cold.n_iter_ <= 2 < before[0]
    assert cold.log_likelihood(x, y) >= before[1] - 1e-6
    with pytest.raises(ValueError, match="goes on from 3 experts, and 2 are asked for"):
        cold.set_params(n_experts=2).fit(x, y)


def test_starts_of_every_kind(regression, fitted):
    x, y = regression
    best = fitted.log_likelihood(x, y)
    labels = fitted.responsibilities(x, y).argmax(1)
    for init in (fitted, fitted.mixture_, labels, "random", "kmeans"):
        model = MixtureOfExpertsRegressor(3, init=init, random_state=1).fit(x, y)
        assert model.log_likelihood(x, y) == pytest.approx(best, abs=1e-3)


def test_threads_change_nothing(regression, fitted):
    x, y = regression
    threaded = MixtureOfExpertsRegressor(3, random_state=0, n_jobs=2).fit(x, y)
    np.testing.assert_array_equal(threaded.coef_, fitted.coef_)


def test_streams_of_one_expert_are_recursive_least_squares(regression):
    x, y = regression
    model = MixtureOfExpertsRegressor(1)
    for at in range(0, 1500, 300):
        model.partial_fit(x[at : at + 300], y[at : at + 300])
    whole = MixtureOfExpertsRegressor(1).fit(x, y)
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-9)
    np.testing.assert_allclose(model.variances_, whole.variances_, rtol=1e-9)


def test_streams_come_near_the_whole(regression):
    x, y = draw(gaussian_mixture(11), 8000, 5)
    model = MixtureOfExpertsRegressor(3, random_state=0)
    model.partial_fit(x[:800], y[:800])
    first = model.log_likelihood(x, y)
    for at in range(800, 8000, 400):
        model.partial_fit(x[at : at + 400], y[at : at + 400])
    best = MixtureOfExpertsRegressor(3, random_state=0).fit(x, y).log_likelihood(x, y)
    assert best - model.log_likelihood(x, y) < 0.4 * (best - first)


def test_a_stream_of_classes_names_them_first():
    x, y = draw(categorical_mixture(3), 900, 1)
    model = MixtureOfExpertsClassifier(2, random_state=0)
    seen = y[:300] != 2
    model.partial_fit(x[:300][seen], y[:300][seen], classes=[0, 1, 2])
    before = model.log_likelihood(x, y)
    model.partial_fit(x[300:], y[300:])
    assert model.log_likelihood(x, y) > before


def test_the_number_of_experts_is_found(regression):
    x, y = regression
    for criterion in ("bic", "icl"):
        found = select_experts(
            MixtureOfExpertsRegressor(random_state=0, n_init=3, tol=1e-6),
            range(1, 4),
            x,
            y,
            criterion=criterion,
            n_jobs=1,
        )
        assert found.n_experts == found.best.n_experts == 3
    with pytest.raises(ValueError, match="criterion"):
        select_experts(MixtureOfExpertsRegressor(), range(1, 3), x, y, criterion="dic")
    with pytest.raises(ValueError, match="numbers"):
        select_experts(MixtureOfExpertsRegressor(), [], x, y)


@pytest.mark.filterwarnings("ignore:EM did not converge")
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"n_experts": 0}, "n_experts=0"),
        ({"init": "magic"}, "magic"),
        ({"n_init": 1.5}, "n_init"),
        ({"init": [0, 1]}, "one label per row"),
        ({"init": np.arange(1500)}, "1500 labels"),
    ],
)
def test_a_wrong_choice_is_refused(regression, options, word):
    with pytest.raises(ValueError, match=word):
        MixtureOfExpertsRegressor(**options).fit(*regression)


def test_a_constant_column_gets_no_coefficient(regression):
    x, y = regression
    model = MixtureOfExpertsRegressor(3, random_state=0).fit(
        np.column_stack([x, np.full(1500, 7.0)]), y
    )
    assert (model.coef_[:, 2] == 0).all()
    plain = MixtureOfExpertsRegressor(3, random_state=0).fit(x, y)
    np.testing.assert_allclose(model.coef_[:, :2], plain.coef_, atol=1e-3)


def test_fewer_rows_than_parameters_fit_fewer_experts(regression):
    x, y = (part[:9] for part in regression)
    with pytest.warns(UserWarning, match="too few for n_experts=3"):
        model = MixtureOfExpertsRegressor(3, random_state=0).fit(x, y)
    assert model.n_experts_ == 1
    assert np.isfinite(model.predict(x)).all()


def test_a_separable_gate_stays_finite():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-2, -1, 200), rng.uniform(1, 2, 200)])[:, None]
    y = np.where(x[:, 0] < 0, 5 * x[:, 0], 3 - x[:, 0]) + 0.1 * rng.normal(size=400)
    model = MixtureOfExpertsRegressor(2, random_state=0).fit(x, y)
    assert np.isfinite(model.gate_coef_).all()
    assert model.score(x, y) > 0.99


def test_separable_classes_stay_finite():
    x = np.linspace(-1, 1, 100)[:, None]
    model = MixtureOfExpertsClassifier(2, random_state=0).fit(x, (x[:, 0] > 0).astype(int))
    assert np.isfinite(model.coef_).all()
    assert model.score(x, (x[:, 0] > 0).astype(int)) == 1.0


def test_too_many_experts_still_fit(regression):
    x, y = (part[:400] for part in regression)
    model = MixtureOfExpertsRegressor(12, random_state=0, tol=1e-5).fit(x, y)
    assert np.isfinite(model.log_likelihood(x, y))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(regression, bad):
    x, y = regression[0].copy(), regression[1].copy()
    x[3, 0] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        MixtureOfExpertsRegressor().fit(x, y)
    y[3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        MixtureOfExpertsRegressor().fit(regression[0], y)


def test_a_strange_class_is_named():
    x, y = draw(categorical_mixture(3), 200, 1)
    model = MixtureOfExpertsClassifier(1).fit(x, y)
    with pytest.raises(ValueError, match="class 9"):
        model.log_likelihood(x[:2], [0, 9])


def test_em_that_does_not_end_warns(regression):
    with pytest.warns(UserWarning, match="max_iter=1"):
        MixtureOfExpertsRegressor(3, max_iter=1, random_state=0, init="kmeans", tol=1e-12).fit(
            *regression
        )
