"""What machines are given and what they refuse: partitions, weights, empty and odd shards."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moiety.estimators import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
)
from moiety.estimators.opening import LazyShard, materialise_shard, open_shard
from tests.estimators.worlds import categorical_mixture, draw, gaussian_mixture, shards


@pytest.fixture(scope="module")
def rows():
    return draw(gaussian_mixture(11), 2000, 0)


def regressor(**options):
    return DistributedMixtureOfExpertsRegressor(
        3, init=gaussian_mixture(11), random_state=0, **options
    )


@dataclass
class Partition:
    """A partition that notes which process computes it, and names its columns or does not."""

    made: Any
    place: Any
    columns: Any = None

    def compute(self):
        with (self.place / "computed").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return self.made


@dataclass
class Dataset:
    """What a Hugging Face data set looks like."""

    frame: Any

    @property
    def column_names(self):
        return list(self.frame.columns)

    def to_pandas(self):
        return self.frame


def frames(rows, parts):
    return [
        pd.DataFrame(x, columns=["a", "b"]).assign(y=y) for x, y in shards(rows[0], rows[1], parts)
    ]


@pytest.mark.parametrize("named", [True, False])
def test_partitions_are_computed_by_the_workers(rows, tmp_path, named):
    made = frames(rows, 2)
    columns = list(made[0].columns) if named else None
    lazy = [Partition(frame, tmp_path, columns) for frame in made]
    model = regressor(n_jobs=2).fit(lazy)
    seen = (tmp_path / "computed").read_text().split()
    assert len(seen) == 2
    assert str(os.getpid()) not in seen
    assert list(model.feature_names_in_) == ["a", "b"]
    np.testing.assert_allclose(model.coef_, regressor().fit(made).coef_, rtol=1e-9)


def test_partitions_of_every_kind(rows, tmp_path):
    whole = regressor().fit(frames(rows, 2)).coef_
    pairs = shards(rows[0], rows[1], 2)
    sets = [Dataset(frame) for frame in frames(rows, 2)]
    tuples = [Partition(pair, tmp_path) for pair in pairs]
    parts = [(Partition(x, tmp_path), Partition(y, tmp_path)) for x, y in pairs]
    for kind in (sets, tuples, parts):
        found = [open_shard(shard, at, "y") for at, shard in enumerate(kind)]
        assert all(isinstance(one, LazyShard) for one in found)
        np.testing.assert_allclose(regressor().fit(kind).coef_, whole, rtol=1e-9)
    assert open_shard(sets[0], 0, "y").columns == ("a", "b")
    assert materialise_shard(open_shard(tuples[0], 0, "y")).columns == 2


def test_columns_that_come_late_are_compared(rows, tmp_path):
    x, y = rows
    odd = [Partition((x, y), tmp_path), Partition((x[:, :1], y), tmp_path)]
    start = regressor().set_params(init="mixed", n_init=1)
    with pytest.raises(ValueError, match="shard 1 has the columns 1, but shard 0 has 2"):
        start.fit(odd)
    with pytest.raises(ValueError, match="init has 2 covariates, but a shard has 1"):
        regressor().fit([(x[:, :1], y)])
    with pytest.raises(ValueError, match="shard 0 has no column 'y'"):
        regressor().fit([Partition(None, tmp_path, ["a", "b"])])


def test_weights_are_scaled_alike_on_all_shards(rows):
    """Only ratios of weights matter, also between shards, while they count at most the rows."""
    x, y = rows
    weights = np.random.default_rng(0).uniform(0.2, 1.0, len(y))
    weights[1500:] *= 0.5
    found = []
    for unit in (1.0, 1e-6):
        parts = [(x[p], y[p], unit * weights[p]) for p in np.array_split(np.arange(2000), 4)]
        found.append(regressor(refine_rounds=1).fit(parts))
    one, other = found
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-9)
    np.testing.assert_allclose(one.gate_coef_, other.gate_coef_, rtol=1e-6, atol=1e-9)
    sums = weights.reshape(4, 500).sum(1)
    counted = [local.rows for local in one.locals_]
    np.testing.assert_allclose(counted, 2000 * sums / sums.sum(), rtol=1e-9)
    np.testing.assert_allclose(one.local_log_likelihoods_, other.local_log_likelihoods_, rtol=1e-9)


def test_a_row_of_weight_two_is_the_row_twice_on_shards(rows):
    x, y = rows
    twice = regressor().fit([(np.repeat(x, 2, 0), np.repeat(y, 2)), (x, y)])
    heavy = regressor().fit([(x, y, np.full(2000, 2.0)), (x, y)])
    np.testing.assert_allclose(twice.coef_, heavy.coef_, rtol=1e-2)
    assert [local.rows for local in heavy.locals_] == [4000, 2000]


@pytest.mark.parametrize(
    ("spoilt", "word"),
    [
        (lambda x, y: (x, y, np.full(len(y), np.nan)), "shard 1: NaN or infinite weights"),
        (lambda x, y: (x, y, np.full(len(y), np.inf)), "shard 1: NaN or infinite weights"),
        (lambda x, y: (x, y, np.zeros(len(y))), "shard 1: all weights are zero"),
        (lambda x, y: (x[:0], y[:0]), "shard 1 has no rows"),
        (lambda x, y: pd.DataFrame({"a": [], "b": [], "y": []}), "shard 1 has no rows"),
        (lambda x, y: (x, np.full(len(y), "red")), "responses such as .*red.* are no numbers"),
        (lambda x, y: (np.full(x.shape, "red"), y), "shard 1: covariates that are no numbers"),
    ],
)
def test_shards_that_hold_nothing_of_use(rows, spoilt, word):
    with pytest.raises(ValueError, match=word):
        regressor().fit([rows, spoilt(*rows)])


def test_files_without_rows_are_named(rows, tmp_path):
    empty = frames(rows, 1)[0][:0]
    empty.to_parquet(tmp_path / "rows.parquet")
    empty.to_csv(tmp_path / "rows.csv", index=False)
    np.save(tmp_path / "rows.npy", np.zeros((0, 3)))
    for name in ("rows.parquet", "rows.csv", "rows.npy"):
        with pytest.raises(ValueError, match=f"{name} has no rows"):
            regressor().fit([tmp_path / name])
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"flat.npy holds an array of shape \(3,\)"):
        regressor().fit([tmp_path / "flat.npy"])


def test_responses_may_be_a_column(rows):
    x, y = rows
    found = regressor().fit([(x, y[:, None])]).coef_
    np.testing.assert_allclose(found, regressor().fit([(x, y)]).coef_, rtol=1e-12)


def test_columns_named_by_numbers_are_counted(rows):
    x, y = rows
    frame = pd.DataFrame(np.column_stack([x, y]))
    model = regressor(target=2).fit([frame])
    assert model.n_features_in_ == 2
    assert not hasattr(model, "feature_names_in_")
    np.testing.assert_allclose(model.predict(frame[[0, 1]]), model.predict(x))
    np.testing.assert_allclose(regressor().fit([(frame[[0, 1]], y)]).coef_, model.coef_)
    with pytest.raises(ValueError, match="named by words and by numbers"):
        regressor().fit([pd.DataFrame({"a": x[:, 0], 1: x[:, 1], "y": y})])


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA])
def test_missing_labels_are_refused(rows, hole):
    x, y = rows
    labels = np.where(y > 0, "up", "down").astype(object)
    labels[3] = hole
    with pytest.raises(ValueError, match="shard 0: missing responses"):
        DistributedMixtureOfExpertsClassifier(2).fit([(x, labels)])


def test_numbers_are_no_classes(rows):
    with pytest.raises(ValueError, match="continuous"):
        DistributedMixtureOfExpertsClassifier(2).fit([rows])


@pytest.mark.parametrize("options", [{"cost": "tv"}, {"gate": "soft"}, {"reduction": "mean"}])
def test_unknown_choices_are_refused_before_anything_is_computed(tmp_path, rows, options):
    ((name, value),) = options.items()
    lazy = [Partition(rows, tmp_path)]
    with pytest.raises(ValueError, match=f"{name}='{value}' is not known"):
        regressor(**options).fit(lazy)
    assert not (tmp_path / "computed").exists()
    fits = [MixtureOfExpertsRegressor(3, init=gaussian_mixture(11)).fit(*rows)]
    with pytest.raises(ValueError, match=f"{name}='{value}' is not known"):
        regressor(**options).merge(fits, support=rows[0])


def test_bare_classifiers_must_be_told_their_classes():
    bare, support = [categorical_mixture(5)] * 2, np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(ValueError, match="name them by classes="):
        DistributedMixtureOfExpertsClassifier(2).merge(bare, support=support)
    with pytest.raises(ValueError, match=r"\[3\] classes, but 2 are named"):
        DistributedMixtureOfExpertsClassifier(2, classes=["a", "b"]).merge(bare, support=support)
    model = DistributedMixtureOfExpertsClassifier(2, classes=["a", "b", "c"])
    assert set(model.merge(bare, support=support).predict(support)) <= {"a", "b", "c"}


def test_the_agreement_on_classes_is_in_the_ledger():
    """By hand: 2 shards say three words of 1, 2 and 3 letters, and hear them."""
    x, y = draw(categorical_mixture(5), 600, 0)
    parts = shards(x, np.array(["a", "bb", "ccc"])[y], 2)
    start = categorical_mixture(5)
    asked = DistributedMixtureOfExpertsClassifier(2, init=start, random_state=0).fit(parts)
    told = DistributedMixtureOfExpertsClassifier(
        2, init=start, random_state=0, classes=["a", "bb", "ccc"]
    ).fit(parts)
    assert (asked.ledger_.rounds, told.ledger_.rounds) == (2, 1)
    assert asked.ledger_.up_bytes - told.ledger_.up_bytes == 12
    assert asked.ledger_.down_bytes - told.ledger_.down_bytes == 12


def test_refining_takes_time(rows):
    plain, refined = (
        regressor(refine_rounds=r).fit(shards(rows[0], rows[1], 2)).ledger_ for r in (0, 2)
    )
    assert plain.refine_s == 0
    assert refined.refine_s > 0
    assert len(refined.fit_s) == len(refined.fit_cpu_s) == 2
    assert refined.longest_fit_s == max(refined.fit_s)
