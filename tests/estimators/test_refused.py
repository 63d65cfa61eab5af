"""Fits that the round refuses, and fits that it must not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
    select_experts,
)
from moiety.solve.em import LocalEM
from tests.estimators.worlds import draw, gaussian_mixture, shards


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_response_does_not_matter(unit):
    """Nothing was sent from which a fit could be too far; variances have the unit squared."""
    x, y = draw(gaussian_mixture(11, 2), 400, 0)
    plain, other = (
        DistributedMixtureOfExpertsRegressor(2, random_state=0, n_init=1, n_support=100).fit(
            shards(x, factor * y, 4)
        )
        for factor in (1.0, unit)
    )
    assert (plain.kept_ == other.kept_).all()
    np.testing.assert_allclose(other.predict(x), unit * plain.predict(x), rtol=1e-4)


def test_a_fit_that_is_refused_is_one_left_out(monkeypatch):
    """A worker that answers what is not finite keeps its place among those of the others."""
    whole = LocalEM.fit

    def spoil(self, job, rows):
        found, update = whole(self, job, rows)
        if job.worker == 1:
            piece = {name: tensor * float("nan") for name, tensor in update.piece.items()}
            update = replace(update, piece=piece)
        return found, update

    monkeypatch.setattr(LocalEM, "fit", spoil)
    x, y = draw(gaussian_mixture(11, 2), 400, 0)
    model = DistributedMixtureOfExpertsRegressor(2, random_state=0, n_init=1, n_support=100)
    with pytest.warns(UserWarning, match=r"machines \[1\] stand far"):
        model.fit(shards(x, y, 4))
    assert model.kept_.tolist() == [True, False, True, True]
    assert np.isnan(model.misfits_[1])
    assert np.isfinite(model.predict(x)).all()


def test_a_start_of_another_kind_is_refused():
    """Its experts would be those of the result, whatever was asked for."""
    x, y = draw(gaussian_mixture(0), 60, seed=0)
    options = {"n_init": 1, "tol": 1.0}
    counts, classes = np.round(np.abs(y)), (y > 0).astype(int)
    known: Any = MixtureOfExpertsRegressor(2, **options)

    def fresh(**told: Any) -> Any:
        copy: Any = clone(known)
        return copy.set_params(**told)

    for start, text in (
        (fresh(family="poisson").fit(x, counts), "another family"),
        (MixtureOfExpertsClassifier(2, **options).fit(x, classes), "another family"),
        (fresh().fit(x[:, :1], y), "has 1 covariates, (and|but)"),
        (fresh(n_experts=1).fit(x, y), "init has 1 experts"),
    ):
        with pytest.raises(ValueError, match=text):
            MixtureOfExpertsRegressor(2, init=start).fit(x, y)
        with pytest.raises(ValueError, match=text):
            DistributedMixtureOfExpertsRegressor(2, init=start).fit([(x, y)])
    wrong: tuple[Any, ...] = ("rows.csv", None)
    for given in wrong:
        with pytest.raises(ValueError, match="give a list"):
            DistributedMixtureOfExpertsRegressor(2).fit(given)
    public = np.column_stack([np.ones(9), np.arange(9)])
    with (pytest.warns(UserWarning, match=r"covariates \[0\] do not vary in the support"),
          pytest.raises(ValueError, match="the same for all rows of the support")):  # fmt: skip
        DistributedMixtureOfExpertsRegressor(2, offset=0, support=public).fit([(x, y)])
    with pytest.raises(ValueError, match="support has 2 rows, but the experts depend on 2"):
        DistributedMixtureOfExpertsRegressor(2, support=public[:2]).fit([(x, y)])
    with pytest.raises(NotFittedError):
        known.summary()


def test_shards_that_are_no_list_of_shards_are_refused():
    x, y = draw(gaussian_mixture(0), 60, seed=0)
    model: Any = DistributedMixtureOfExpertsRegressor(2)
    for given, text in (
        ((x, y), r"fit\(\[\(X, y\)\]\)"),
        ({"a": (x, y)}, r"list\(shards\.values\(\)\)"),
        ([(x, y, y, y)], r"\(X, y, weights\), a path"),
    ):
        with pytest.raises(ValueError, match=text):
            model.fit(given)
    third = np.arange(60) == 3
    words = np.array([None if one else "a" for one in third], dtype=object)
    for labels in (words, np.where(third, np.nan, 1.0)):
        with pytest.raises(ValueError, match="no machine for row 3"):
            model.fit(x, y, shards=labels)


def test_rows_to_judge_have_the_columns_of_the_fit():
    """Swapped columns gave criteria and errors of other rows."""
    pd = pytest.importorskip("pandas")
    x, y = draw(gaussian_mixture(11, 2), 60, seed=0)
    frame = pd.DataFrame(x, columns=["age", "dose"])
    model = DistributedMixtureOfExpertsRegressor(1, n_init=1, tol=1e-3).fit([(frame, y)])
    assert model.assess([(frame, y)]).rows == 60
    for other in (frame[["dose", "age"]], frame.rename(columns={"age": "years"})):
        with pytest.raises(ValueError, match="and the fit \\('age', 'dose'\\); give the same"):
            model.assess([(other, y)])


def test_errors_that_are_not_known_are_named_as_the_columns_are():
    pd = pytest.importorskip("pandas")
    x, y = draw(gaussian_mixture(11, 2), 60, seed=0)
    frame = pd.DataFrame({"age": x[:, 0], "ward": 1.0})
    known = MixtureOfExpertsRegressor(1, n_init=1).fit(frame, y)
    with pytest.warns(UserWarning, match=r"NaN \(ward\)"):
        known.summary(frame, y)
    apart = DistributedMixtureOfExpertsRegressor(1, n_init=1).fit([(frame, y)])
    with pytest.warns(UserWarning, match=r"NaN \(ward\)"):
        apart.assess([(frame, y)])


@pytest.mark.parametrize("options", [{}, {"family": "student"}, {"noise": "range"}])
def test_densities_are_of_one_response_per_row(options):
    """A column of responses was compared with all rows, and gave numbers of a wrong shape."""
    x, y = draw(gaussian_mixture(11, 2), 60, seed=0)
    found = MixtureOfExpertsRegressor(1, n_init=1, tol=1e-3, **options).fit(x, y).predict_dist(x)
    for given in (y[:, None], y[:3], y[0]):
        for judge in (found.logpdf, found.pdf, found.cdf):
            with pytest.raises(ValueError, match="one response per row"):
                judge(given)
    with pytest.raises(ValueError, match="size=-1 draws"):
        found.sample(-1)


def test_a_missing_label_and_one_number_of_experts_are_refused():
    x, y = draw(gaussian_mixture(11, 2), 60, seed=0)
    labels = np.where(y > 0, "up", "down").astype(object)
    labels[3] = None
    with pytest.raises(ValueError, match="missing labels in y; drop"):
        MixtureOfExpertsClassifier(2).fit(x, labels)
    one: Any = 3
    with pytest.raises(ValueError, match=r"give several, such as range\(1, 6\)"):
        select_experts(MixtureOfExpertsRegressor(2), one, x, y)
