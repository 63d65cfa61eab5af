"""Many machines: one exchange, every kind of shard, and what goes wrong on one of them."""

import warnings

import numpy as np
import pandas as pd
import pytest

from moiety.estimators import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from moiety.estimators.machines import ShardEngine
from moiety.estimators.opening import open_shard
from moiety.estimators.refining import Refining, play_refining
from moiety.mixtures.inputs import Support
from moiety.mixtures.model import Mixture, add_constant, sort_experts
from tests.estimators.worlds import categorical_mixture, draw, gaussian_mixture, shards


@pytest.fixture(scope="module")
def rows():
    return draw(gaussian_mixture(11), 4000, 0)


@pytest.fixture(scope="module")
def best(rows):
    return MixtureOfExpertsRegressor(3, random_state=0, tol=1e-10).fit(*rows).log_likelihood(*rows)


@pytest.fixture(scope="module")
def reduced(rows):
    return DistributedMixtureOfExpertsRegressor(3, random_state=0).fit(shards(rows[0], rows[1], 4))


def test_one_exchange_comes_near_the_maximum(rows, best, reduced):
    assert 0 <= best - reduced.log_likelihood(*rows) < 10
    assert reduced.kept_.all()
    assert (np.diff(reduced.objective_) <= 1e-12).all()
    whole = MixtureOfExpertsRegressor(3, random_state=0).fit(*rows)
    assert reduced.score(*rows) == pytest.approx(whole.score(*rows), abs=0.01)


def test_the_bytes_are_counted(reduced):
    """By hand: gate 6, experts 9, variances 3, information 6 * 7 / 2, rows, weight, value: 42."""
    ledger = reduced.ledger_
    assert ledger.rounds == 1
    assert ledger.up_bytes == 4 * 8 * 42
    assert ledger.down_bytes == 4 * 8 * 18
    assert ledger.support_bytes == 8 * 2000 * 2
    assert ledger.learning_s >= ledger.longest_fit_s > 0


def test_refining_rounds_reach_the_maximum(rows, best, reduced):
    gaps = [best - reduced.log_likelihood(*rows)]
    for rounds in (1, 3, 8):
        model = DistributedMixtureOfExpertsRegressor(3, random_state=0, refine_rounds=rounds)
        model.fit(shards(rows[0], rows[1], 4))
        gaps.append(best - model.log_likelihood(*rows))
        assert model.ledger_.rounds == 1 + rounds
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3] > -1e-6
    assert gaps[3] < 0.05
    # By hand, per round and machine: gate and expert Gram matrices (3 + 3) * 6, slopes 3 * (2 + 3),
    # squares 3, masses 3, rows 1, log-likelihood 1.
    assert model.ledger_.up_bytes == reduced.ledger_.up_bytes + 8 * 4 * 8 * (36 + 15 + 8)


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "average"},
        {"gate": "projection"},
        {"cost": "reverse_kl"},
        {"cost": "w2"},
        {"reduction": "average"},
    ],
)
def test_other_reductions_of_the_same_fits(rows, best, reduced, options):
    other = reduced.reduce_again(**options)
    assert best - other.log_likelihood(*rows) < 25


def test_the_published_gate_and_the_middle_are_worse(rows, reduced):
    middle = reduced.reduce_again(reduction="middle")
    with_y = DistributedMixtureOfExpertsRegressor(3, gate="posterior", random_state=0)
    with_y.fit(shards(rows[0], rows[1], 4))
    assert with_y.ledger_.support_bytes == 8 * 2000 * 3
    for other in (middle, with_y):
        assert other.log_likelihood(*rows) < reduced.log_likelihood(*rows)
    with pytest.raises(ValueError, match="responses"):
        reduced.reduce_again(gate="posterior")


def test_the_unreduced_average_has_all_experts(rows, reduced):
    density = reduced.unreduced_log_density(*rows)
    parts = [MixtureOfExpertsRegressor(3)._show(local.mixture) for local in reduced.locals_]
    for part in parts:
        part.n_features_in_ = 2
    expected = np.log(np.mean([np.exp(part.log_density(*rows)) for part in parts], 0))
    np.testing.assert_allclose(density, expected, rtol=1e-9)


def test_machines_side_by_side_change_nothing(rows, reduced):
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0, n_jobs=2).fit(
        shards(rows[0], rows[1], 4)
    )
    np.testing.assert_allclose(model.coef_, reduced.coef_, rtol=1e-10)


def test_shards_of_every_kind(rows, tmp_path):
    x, y = rows
    frames = [
        pd.DataFrame(part, columns=["a", "b"]).assign(y=target) for part, target in shards(x, y, 4)
    ]
    frames[0].to_parquet(tmp_path / "0.parquet")
    frames[1].to_csv(tmp_path / "1.csv", index=False)
    kinds = [tmp_path / "0.parquet", str(tmp_path / "1.csv"), frames[2], Partition(frames[3])]
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0).fit(kinds)
    assert list(model.feature_names_in_) == ["a", "b"]
    whole = DistributedMixtureOfExpertsRegressor(3, random_state=0).fit(shards(x, y, 4))
    assert model.log_likelihood(frames[0][["a", "b"]], frames[0]["y"]) == pytest.approx(
        whole.log_likelihood(x[:1000], y[:1000]), abs=3
    )
    np.save(tmp_path / "2.npy", np.column_stack([x, y]))
    plain = DistributedMixtureOfExpertsRegressor(3, random_state=0).fit(
        [tmp_path / "2.npy", (x, y)]
    )
    assert plain.n_features_in_ == 2


class Partition:
    """What a lazy data frame's partition looks like."""

    def __init__(self, frame):
        self.frame = frame

    def compute(self):
        return self.frame


def test_a_file_in_pieces_is_the_file_at_once(rows, tmp_path, monkeypatch):
    import moiety.estimators.shards as module

    x, y = rows
    np.save(tmp_path / "rows.npy", np.column_stack([x, y]))
    start = MixtureOfExpertsRegressor(3, random_state=0).fit(x, y)
    found = []
    for piece in (100_000, 512):
        monkeypatch.setattr(module, "PIECE", piece)
        model = DistributedMixtureOfExpertsRegressor(3, init=start, random_state=0)
        found.append(model.fit([tmp_path / "rows.npy"]).coef_)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-7)


def test_fitted_models_merge_by_hand(rows, best):
    parts = shards(rows[0], rows[1], 4)
    fits = [MixtureOfExpertsRegressor(3, random_state=0).fit(*part) for part in parts]
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0)
    support = np.random.default_rng(0).normal(size=(500, 2))
    model.merge(fits, [1000] * 4, support=support)
    assert best - model.log_likelihood(*rows) < 10
    with pytest.raises(ValueError, match="3 weights for 4"):
        model.merge(fits, [1, 1, 1], support=support)
    with pytest.raises(ValueError, match="covariates"):
        model.merge(fits, support=support[:, :1])
    with pytest.raises(ValueError, match="no estimators"):
        model.merge([], support=support)


def test_a_machine_that_fails_is_left_out(rows, best):
    parts = shards(rows[0], rows[1], 8)
    rng = np.random.default_rng(0)
    parts[2] = (parts[2][0], rng.permutation(parts[2][1]))
    with pytest.warns(UserWarning, match=r"machines \[2\]"):
        model = DistributedMixtureOfExpertsRegressor(3, random_state=0).fit(parts)
    assert best - model.log_likelihood(*rows) < 100


def test_classifiers_reduce_and_a_class_may_be_missing():
    truth = categorical_mixture(5)
    x, y = draw(truth, 3000, 0)
    names = np.array(["a", "b", "c"])[y]
    parts = shards(x, names, 3)
    whole = MixtureOfExpertsClassifier(2, random_state=0).fit(x, names)
    best = whole.log_likelihood(x, names)
    model = DistributedMixtureOfExpertsClassifier(2, random_state=0).fit(parts)
    assert best - model.log_likelihood(x, names) < 40
    refined = DistributedMixtureOfExpertsClassifier(2, random_state=0, refine_rounds=4)
    assert refined.fit(parts).log_likelihood(x, names) > model.log_likelihood(x, names)
    kept = parts[0][1] != "c"
    parts[0] = (parts[0][0][kept], parts[0][1][kept])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = DistributedMixtureOfExpertsClassifier(2, random_state=0).fit(parts)
    assert list(odd.classes_) == ["a", "b", "c"]
    assert best - odd.log_likelihood(x, names) < 120
    with pytest.raises(ValueError, match=r"class c is not among"):
        DistributedMixtureOfExpertsClassifier(2, classes=["a", "b"]).fit(parts)
    with pytest.raises(ValueError, match="cost='w2'"):
        model.reduce_again(cost="w2")


def test_shards_that_do_not_belong_together(rows, tmp_path):
    x, y = rows
    model = DistributedMixtureOfExpertsRegressor(2)
    with pytest.raises(ValueError, match="shard 1 has the columns 1, but shard 0 has 2"):
        model.fit([(x, y), (x[:, :1], y)])
    frame = pd.DataFrame(x, columns=["a", "b"])
    with pytest.raises(ValueError, match="no column 'y'"):
        model.fit([frame])
    with pytest.raises(ValueError, match="no shards"):
        model.fit([])
    with pytest.raises(ValueError, match="does not exist"):
        model.fit([tmp_path / "none.parquet"])
    (tmp_path / "rows.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"\.parquet, \.csv or \.npy"):
        model.fit([tmp_path / "rows.txt"])
    with pytest.raises(ValueError, match="shard 0 is a int"):
        model.fit([3])
    bad = x.copy()
    bad[0, 1] = np.inf
    with pytest.raises(ValueError, match="shard 1: NaN or infinite values in covariate 1"):
        model.fit([(x, y), (bad, y)])
    with pytest.raises(ValueError, match="infinite responses"):
        model.fit([(x, np.where(np.arange(4000) == 5, np.nan, y))])
    with pytest.raises(ValueError, match="do not belong together"):
        model.fit([(x, y[:-1])])
    with pytest.raises(ValueError, match="negative weights"):
        model.fit([(x, y, -np.ones(4000))])
    with pytest.raises(ValueError, match="one class only"):
        DistributedMixtureOfExpertsClassifier().fit([(x, np.zeros(4000))])
    with pytest.raises(ValueError, match="reduction='mean'"):
        DistributedMixtureOfExpertsRegressor(2, reduction="mean", random_state=0).fit([(x, y)])


def test_a_column_constant_on_one_machine_is_named(rows):
    parts = shards(rows[0], rows[1], 3)
    flat = parts[1][0].copy()
    flat[:, 1] = 0.5
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        DistributedMixtureOfExpertsRegressor(3, random_state=0).fit(
            [parts[0], (flat, parts[1][1]), parts[2]]
        )
    assert any("covariate 1 is constant on shards [1]" in str(one.message) for one in heard)


def test_a_small_machine_brings_fewer_experts(rows):
    x, y = rows
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0, screen=False)
    with pytest.warns(UserWarning, match=r"shards \[1\] have .* has 10 and fitted 1"):
        model.fit([(x[10:], y[10:]), (x[:10], y[:10])])
    assert model.n_experts_ == 3


def test_rows_of_weight_zero_are_not_seen(rows):
    x, y = rows
    spoilt = np.concatenate([y[:2000], np.full(2000, 1e6)])
    weights = np.repeat([1.0, 0.0], 2000)
    heavy = DistributedMixtureOfExpertsRegressor(3, random_state=0).fit([(x, spoilt, weights)])
    plain = DistributedMixtureOfExpertsRegressor(3, random_state=0).fit([(x[:2000], y[:2000])])
    np.testing.assert_allclose(heavy.coef_, plain.coef_, rtol=1e-9)


def test_a_saturated_gate_does_not_run_away(rows):
    """From a gate with log-odds of hundreds Newton alone would leave the world."""
    x = rows[0]
    mild = sort_experts(gaussian_mixture(11))
    steep = Mixture(60 * mild.gate, mild.experts)
    support, how = Support(x, np.ones(len(x))), Refining(np.array([True]), 1)
    found = play_refining(steep, 1.0, support, ShardEngine([open_shard(rows, 0, "y")]), how).mixture
    change = np.abs(add_constant(x) @ (found.gate - steep.gate))
    assert np.sqrt((change**2).mean(0)).max() <= 3.0 + 1e-9
