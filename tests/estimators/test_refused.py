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
