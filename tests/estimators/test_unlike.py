"""Machines that see unlike rows, and supports that are of no use."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from moiety.estimators import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
    draw_covariates,
)
from moiety.estimators.machines import ShardEngine
from moiety.estimators.opening import open_shard
from moiety.estimators.refining import Refining, play_refining
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.reduce import ReductionConfig, reduce_fits
from tests.estimators.worlds import gaussian_mixture, shards


def bent(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw two regressions, and which of the two each row is of."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    regime = rng.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0]))
    return x, np.where(regime, 4 + x[:, 1], -3 - x[:, 0]) + 0.7 * rng.normal(size=rows), regime


ORDERS = {
    "iid": lambda x, y, regime: np.arange(len(y)),
    "sorted by a covariate": lambda x, y, regime: np.argsort(x[:, 0]),
    "sorted by the response": lambda x, y, regime: np.argsort(y),
    "one regime a shard": lambda x, y, regime: np.argsort(regime, kind="stable"),
}


@pytest.mark.parametrize("machines", [4, 6])
@pytest.mark.parametrize("order", ORDERS)
def test_any_split_ends_near_the_fit_to_all_rows(order, machines):
    x, y, regime = bent(1800, 0)
    test = bent(2000, 1)[:2]
    whole = MixtureOfExpertsRegressor(2, random_state=0, n_init=2).fit(x, y)
    taken = ORDERS[order](x, y, regime)
    model = DistributedMixtureOfExpertsRegressor(2, random_state=0, n_init=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(shards(x[taken], y[taken], machines))
    assert model.log_density(*test).mean() > whole.log_density(*test).mean() - 0.05
    assert (model.n_refine_rounds_ > 0) == model.incompatible_
    assert model.incompatible_ == (order != "iid")


@pytest.mark.parametrize("experts", [1, 2])
def test_classes_that_machines_have_alone_are_learnt(experts):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 2))
    c = (x[:, 0] + 0.5 * rng.normal(size=1200) > 0).astype(int)
    parts = [(x[c == k][i::2], c[c == k][i::2]) for k in (0, 1) for i in (0, 1)]
    best = MixtureOfExpertsClassifier(2, random_state=0, n_init=2).fit(x, c).score(x, c)
    with pytest.warns(UserWarning, match="split by the response"):
        model = DistributedMixtureOfExpertsClassifier(experts, random_state=0, n_init=2).fit(parts)
    assert model.score(x, c) > best - 0.01
    with pytest.warns(UserWarning, match="one exchange is not enough; choose refine_rounds='auto'"):
        model.set_params(refine_rounds=0).fit(parts)
    assert model.score(x, c) < 0.6


def test_shards_left_out_are_judged_again():
    x, y, _ = bent(900, 0)
    parts = shards(x, y, 3)
    parts[1] = (parts[1][0], parts[1][1] + 100)
    start = MixtureOfExpertsRegressor(2, random_state=0, n_init=2).fit(*parts[0]).mixture_
    engine = ShardEngine([open_shard(part, at, "y") for at, part in enumerate(parts)])
    support = Support(x, np.ones(len(x)))
    how = Refining(np.array([True, False, False]), None, 1e-4)
    done = play_refining(start, 1.0, support, engine, how)
    assert done.kept.tolist() == [True, False, True]
    whole = MixtureOfExpertsRegressor(2, random_state=0, n_init=2).fit(
        *(np.concatenate([parts[0][i], parts[2][i]]) for i in (0, 1))
    )
    assert done.log_likelihood == pytest.approx(whole.log_likelihoods_[-1] / 600, abs=1e-3)


@pytest.mark.parametrize("spoilt", [(0,), (3,), (1, 4)])
def test_the_support_of_a_machine_leaves_with_its_fit(spoilt):
    x, y, _ = bent(3000, 0)
    test = bent(2000, 1)[:2]
    parts = shards(x, y, 6)
    for at in spoilt:
        parts[at] = (1000 * parts[at][0], parts[at][1])
    model = DistributedMixtureOfExpertsRegressor(2, random_state=0, n_init=2)
    with pytest.warns(UserWarning, match="were left out"):
        model.fit(parts)
    assert not model.kept_[list(spoilt)].any()
    assert np.abs(model.support_.x).max() < 10
    others = [part for at, part in enumerate(parts) if model.kept_[at]]
    clean = DistributedMixtureOfExpertsRegressor(2, random_state=0, n_init=2, screen=False)
    expected = clean.fit(others).log_density(*test).mean()
    assert model.log_density(*test).mean() == pytest.approx(expected, abs=0.01)


def test_the_middle_one_is_of_those_that_were_kept():
    good = gaussian_mixture(11)
    rng = np.random.default_rng(0)
    near = [
        LocalFit(
            type(good)(
                good.gate, type(good.experts)(good.experts.coef + 0.01 * k, good.experts.variances)
            ),
            100.0,
        )
        for k in range(4)
    ]
    wild = type(good)(good.gate, type(good.experts)(good.experts.coef + 50, good.experts.variances))
    support = Support(rng.normal(size=(200, 2)), np.ones(200))
    config = ReductionConfig(3, reduction="middle")
    done = reduce_fits([LocalFit(wild, 1e6), *near], support, config, rng)
    assert done.kept.tolist() == [False, True, True, True, True]
    assert np.abs(done.mixture.experts.coef - wild.experts.coef).max() > 10


@pytest.fixture(scope="module")
def fits():
    x, y, _ = bent(1200, 0)
    return [
        MixtureOfExpertsRegressor(2, random_state=0, n_init=2).fit(*part)
        for part in shards(x, y, 3)
    ]


def test_supports_on_which_experts_are_alike_are_refused(fits):
    model, x = DistributedMixtureOfExpertsRegressor(2, random_state=0), bent(300, 5)[0]
    for rows in (1, 2):
        with pytest.raises(ValueError, match=f"support has {rows} rows, but the experts depend on"):
            model.merge(fits, support=x[:rows])
    x[:, 1] = 2.0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.merge(fits, support=x)
    assert "the covariates [1] do not vary in the support" in str(told[0].message)


@pytest.mark.parametrize("change", [lambda x: 1000 * x, lambda x: 0.01 * x, lambda x: x + 20])
def test_supports_far_from_the_rows_are_told(fits, change):
    model, x = DistributedMixtureOfExpertsRegressor(2, random_state=0), bent(300, 5)[0]
    model.merge(fits, support=x)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.merge(fits, support=change(x))
    assert "experts are compared where no rows were" in str(told[0].message)


def test_supports_need_not_be_rows(fits):
    x, y, _ = bent(1200, 0)
    test = bent(2000, 1)[:2]
    expected = DistributedMixtureOfExpertsRegressor(2, random_state=0).fit(shards(x, y, 3))
    assert expected.ledger_.support_bytes > 0
    given = draw_covariates([-2, -2], [2, 2], 500, random_state=0)
    for support in ("normal", given):
        model = DistributedMixtureOfExpertsRegressor(2, random_state=0, support=support)
        model.fit(shards(x, y, 3))
        assert not (model.support_.x[:, None, 0] == x[None, :, 0]).any()
        assert model.log_density(*test).mean() == pytest.approx(
            expected.log_density(*test).mean(), abs=0.01
        )
    assert model.ledger_.support_bytes == 0
    for support, words in (("all", "is not known"), (given[:, :1], r"shape \(500, 1\)")):
        with pytest.raises(ValueError, match=words):
            model.set_params(support=support).fit(shards(x, y, 3))
    with pytest.raises(ValueError, match="needs responses of rows"):
        model.set_params(support="normal", gate="posterior").fit(shards(x, y, 3))


def test_rows_here_are_split_by_whose_they_are():
    x, y, _ = bent(900, 0)
    labels = np.random.default_rng(0).choice(["north", "east", "south"], 900)
    model = DistributedMixtureOfExpertsRegressor(2, random_state=0, n_init=2)
    split = model.fit(x, y, shards=labels).coef_
    parts = [(x[labels == one], y[labels == one]) for one in ("east", "north", "south")]
    assert (model.fit(parts).coef_ == split).all()
    scores = cross_val_score(model, x, y, cv=3, params={"shards": labels})
    assert scores.min() > 0.2
    for wrong, words in (
        ({"y": y}, r"give fit\(\[\(X_0, y_0\), \(X_1, y_1\)\]\)"),
        ({"y": y, "shards": labels[:5]}, r"shape \(5,\)"),
        ({"shards": labels}, "no y was given"),
    ):
        with pytest.raises(ValueError, match=words):
            model.fit(x, **wrong)
