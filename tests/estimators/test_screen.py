"""Fits that are a little wrong are found, good ones are not, and incompatible ones are named."""

import warnings

import numpy as np
import pytest

from moiety.estimators import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
)
from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.hellinger import class_proba, squared_hellinger
from moiety.mixtures.inputs import LocalFit
from moiety.mixtures.model import Mixture, add_constant, log_density
from moiety.mixtures.reduce import ReductionConfig, reduce_mixtures
from moiety.mixtures.screen import find_excessive_fits
from tests.estimators.worlds import categorical_mixture, draw, gaussian_mixture, shards


@pytest.mark.parametrize("seed", range(3))
def test_the_distance_agrees_with_a_fine_grid(seed):
    first = gaussian_mixture(seed)
    moved = GaussianExperts(first.experts.coef + 0.1, 1.1 * first.experts.variances)
    for second, precise in ((Mixture(0.9 * first.gate, moved), 0.05), (gaussian_mixture(9), 0.25)):
        x, y = (
            add_constant(np.random.default_rng(seed).normal(size=(4, 2))),
            np.linspace(-80, 80, 40_001),
        )
        expected = []
        for row in x:
            rows = np.repeat(row[None], len(y), 0)
            roots = [np.exp(0.5 * log_density(one, rows, y)) for one in (first, second)]
            expected.append(np.trapezoid((roots[0] - roots[1]) ** 2, y))
        found = squared_hellinger(x, np.full(4, 0.25), first, second)
        assert found == pytest.approx(np.mean(expected), rel=precise)
        assert 0 < found < 2


def test_the_distance_by_hand():
    """One normal: 2 - 2 exp(-gap^2 / 8) for unit variances; classes: squared gaps of roots."""
    zero, weights = np.zeros((1, 1)), np.ones(1)
    one, two = (Mixture(zero, GaussianExperts(np.full((1, 1), c), np.ones(1))) for c in (0.0, 0.5))
    x = np.ones((1, 1))
    assert squared_hellinger(x, weights, one, two) == pytest.approx(2 - 2 * np.exp(-1 / 32), 1e-3)
    assert squared_hellinger(x, weights, one, one) == 0
    far = Mixture(zero, GaussianExperts(np.full((1, 1), 1e6), np.ones(1)))
    assert squared_hellinger(x, weights, one, far) == pytest.approx(2)
    even = Mixture(zero, CategoricalExperts(np.zeros((1, 1, 2))))
    odd = Mixture(zero, CategoricalExperts(np.array([[[np.log(3.0), 0.0]]])))
    expected = (np.sqrt(0.75) - np.sqrt(0.5)) ** 2 + (np.sqrt(0.25) - np.sqrt(0.5)) ** 2
    assert squared_hellinger(x, weights, even, odd) == pytest.approx(expected)
    np.testing.assert_allclose(class_proba(odd, x), [[0.75, 0.25]])


def test_twice_the_typical_misfit_is_too_much():
    rows = np.full(5, 1000.0)
    assert find_excessive_fits(np.array([9.0, 9, 9, 9, 19]), rows, 18).tolist() == [False] * 4 + [
        True
    ]
    assert not find_excessive_fits(np.array([9.0, 9, 9, 9, 17]), rows, 18).any()
    assert not find_excessive_fits(
        np.array([5.0, 7, 9, 11, 19]), rows, 18
    ).any()  # they differ anyway
    assert not find_excessive_fits(
        np.array([0.0, 0, 0, 0, 17]), rows, 18
    ).any()  # half the parameters
    assert not find_excessive_fits(np.array([1.0, 9]), rows[:2], 18).any()


def noisy(mixture, *, gate=0.0, coef=0.0, variances=1.0):
    rng = np.random.default_rng(0)
    step = gate * rng.normal(size=mixture.gate.shape)
    step[:, -1] = 0
    coef = mixture.experts.coef + coef * rng.normal(size=mixture.experts.coef.shape)
    return Mixture(
        mixture.gate + step, GaussianExperts(coef, variances * mixture.experts.variances)
    )


@pytest.fixture(scope="module")
def rows():
    return draw(gaussian_mixture(11), 16_000, 0)


@pytest.fixture(scope="module")
def clean(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return DistributedMixtureOfExpertsRegressor(3, random_state=0).fit(
            shards(rows[0], rows[1], 8)
        )


def likelihood(mixture, rows):
    return log_density(mixture, add_constant(rows[0]), rows[1]).sum()


SPOILT = [
    {"gate": 0.5},
    {"gate": 2.0},
    {"coef": 0.2},
    {"coef": 1.0},
    {"variances": 0.5},
    {"variances": 2.0},
]


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("informed", [True, False])
def test_a_moderately_wrong_fit_is_left_out(rows, clean, spoilt, informed):
    good = clean.locals_[2]
    bad = LocalFit(noisy(good.mixture, **spoilt), good.rows, good.information if informed else None)
    locals_ = [*clean.locals_[:2], bad, *clean.locals_[3:]]
    rng = np.random.default_rng(0)
    done = reduce_mixtures(locals_, clean.support_, ReductionConfig(3), rng)
    assert np.flatnonzero(~done.kept).tolist() == [2]
    assert likelihood(clean.mixture_, rows) - likelihood(done.mixture, rows) < 10
    left = reduce_mixtures(locals_, clean.support_, ReductionConfig(3, screen=False), rng)
    assert left.kept.all()
    assert likelihood(left.mixture, rows) < likelihood(done.mixture, rows)


def test_a_flat_gate_cannot_draw_the_verdict_to_itself(rows, clean):
    """Where gates saturate a flat one seems to know most, and the informed gate follows it."""
    steep = [
        LocalFit(Mixture(3 * o.mixture.gate, o.mixture.experts), o.rows) for o in clean.locals_
    ]
    steep[5] = LocalFit(clean.locals_[5].mixture, clean.locals_[5].rows)
    done = reduce_mixtures(steep, clean.support_, ReductionConfig(3), np.random.default_rng(0))
    assert np.flatnonzero(~done.kept).tolist() == [5]


def test_misfits_of_good_fits_are_near_half_the_parameters(clean):
    assert clean.kept_.all()
    assert 0.4 * 9 < np.median(clean.misfits_) < 2 * 9
    assert clean.strain_ < 1


def cut(direction):
    """Two logits on either side of a line, sure of the sign along it and of its opposite."""
    gate = np.stack([8 * direction[::-1], np.zeros(2)], 1)
    first_class = np.stack([-4 * direction, 4 * direction], 1)
    coef = np.stack([first_class, np.zeros((2, 2))], 2)
    return Mixture(
        np.concatenate([np.zeros((1, 2)), gate]),
        CategoricalExperts(np.concatenate([np.zeros((1, 2, 2)), coef])),
    )


def test_incompatible_fits_are_named():
    """Classes laid out like XOR have two maxima, and what lies between is neither."""
    x = np.random.default_rng(0).normal(size=(2000, 2))
    y = (np.prod(x, 1) > 0).astype(int)
    fits = [cut(np.array([1.0, 0.0])), cut(np.array([0.0, 1.0]))]
    alone = [likelihood(fit, (x, y)) for fit in fits]
    model = DistributedMixtureOfExpertsClassifier(2, classes=[0, 1], random_state=0)
    with pytest.warns(UserWarning, match="local fits are incompatible"):
        model.merge([*fits, *fits], [500] * 4, support=x)
    assert model.strain_ > 1
    assert model.log_likelihood(x, y) < min(alone)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.merge([fits[0]] * 4, [500] * 4, support=x)
    assert model.log_likelihood(x, y) == pytest.approx(alone[0], rel=1e-3)


def test_categorical_fits_that_are_wrong_are_left_out():
    truth = categorical_mixture(5)
    x, y = draw(truth, 9000, 0)
    parts = shards(x, y, 6)
    model = DistributedMixtureOfExpertsClassifier(2, init=truth, random_state=0).fit(parts)
    bad = model.locals_[1]
    worse = LocalFit(
        Mixture(bad.mixture.gate, CategoricalExperts(2 * bad.mixture.experts.coef)), bad.rows
    )
    locals_ = [model.locals_[0], worse, *model.locals_[2:]]
    done = reduce_mixtures(locals_, model.support_, ReductionConfig(2), np.random.default_rng(0))
    assert model.kept_.all()
    assert np.flatnonzero(~done.kept).tolist() == [1]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e200])
def test_fits_that_hold_anything_are_left_out_in_silence(clean, value):
    """Warnings are errors here, so that nothing but the fit left out is spoken of."""
    good = clean.locals_[0].mixture
    bad = Mixture(good.gate, GaussianExperts(good.experts.coef, np.full(3, value)))
    locals_ = [*clean.locals_[:7], LocalFit(bad, clean.locals_[7].rows)]
    done = reduce_mixtures(locals_, clean.support_, ReductionConfig(3), np.random.default_rng(0))
    assert np.flatnonzero(~done.kept).tolist() == [7]
    assert np.isfinite(done.misfit[:7]).all()
    assert np.isfinite(done.mixture.experts.coef).all()


@pytest.mark.parametrize("refine_rounds", [1, 3])
@pytest.mark.parametrize("spoilt", [[0], [2, 5]])
def test_refining_asks_nobody_whose_fit_was_left_out(spoilt, refine_rounds):
    """Refined are the rows of the machines kept, as if the others had never been there."""
    x, y = draw(gaussian_mixture(11), 4000, 0)
    parts = shards(x, y, 8)
    for at in spoilt:
        parts[at] = (parts[at][0], parts[at][1] + 100)
    start = gaussian_mixture(11)
    options = {"init": start, "random_state": 0, "refine_rounds": refine_rounds}
    with pytest.warns(UserWarning, match="were left out"):
        model = DistributedMixtureOfExpertsRegressor(3, **options).fit(parts)
    assert np.flatnonzero(~model.kept_).tolist() == spoilt
    good = [part for at, part in enumerate(parts) if at not in spoilt]
    alone = DistributedMixtureOfExpertsRegressor(3, **options).fit(good)
    assert model.variances_.max() < 4
    xt, yt = draw(gaussian_mixture(11), 2000, 1)
    assert model.log_likelihood(xt, yt) > alone.log_likelihood(xt, yt) - 4
    sums = 8 * (36 + 15 + 8)  # a machine's sums, by hand in test_distributed.py
    assert model.ledger_.up_bytes == 8 * (8 * 42 + (8 - len(spoilt)) * refine_rounds * sums // 8)
