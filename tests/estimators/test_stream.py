"""Chunks of a stream: small ones first, any unit of weight, and a named start."""

import numpy as np
import pytest

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from moiety.estimators.online import WaitingRows
from tests.estimators.worlds import categorical_mixture, draw, gaussian_mixture


@pytest.fixture(scope="module")
def rows():
    return draw(gaussian_mixture(11), 3000, 5)


def fed(model, rows, sizes, weights=None):
    x, y = rows
    ends = np.cumsum(sizes)
    for at, end in zip(ends - sizes, ends, strict=True):
        more = () if weights is None else (weights[at:end],)
        model.partial_fit(x[at:end], y[at:end], *more)
    return model


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_a_small_first_chunk_does_not_settle_the_experts(rows):
    """10 rows bear one expert of 18 parameters in all; 180 end the wait."""
    model = fed(MixtureOfExpertsRegressor(3, random_state=0), rows, [10])
    assert model.n_experts_ == 1
    assert isinstance(model.stream_, WaitingRows)
    model.partial_fit(rows[0][10:30], rows[1][10:30])
    assert model.n_experts_ == 3
    assert len(model.stream_.rows[1]) == 30
    model.partial_fit(rows[0][30:200], rows[1][30:200])
    assert not isinstance(model.stream_, WaitingRows)
    at_once = MixtureOfExpertsRegressor(3, random_state=0).fit(rows[0][:200], rows[1][:200])
    np.testing.assert_allclose(model.coef_, at_once.coef_, rtol=1e-9)
    before = model.log_likelihood(*rows)
    for at in range(200, 3000, 400):
        model.partial_fit(rows[0][at : at + 400], rows[1][at : at + 400])
    assert model.log_likelihood(*rows) > before


def test_only_ratios_of_weights_matter_also_between_chunks(rows):
    weights = np.random.default_rng(0).uniform(0.1, 0.9, 3000)
    sizes = [100, 300, 600, 2000]
    found = [
        fed(MixtureOfExpertsRegressor(3, random_state=0), rows, sizes, unit * weights)
        for unit in (1.0, 1e-4)
    ]
    np.testing.assert_allclose(found[0].coef_, found[1].coef_, rtol=1e-6)
    for model in found:
        assert model.stream_.rows == pytest.approx(3000)


def test_a_light_chunk_moves_the_fit_less(rows):
    """One expert: recursive least squares is weighted least squares, by hand."""
    x, y = rows[0][:300], rows[1][:300]
    weights = np.repeat([1.0, 0.01], [200, 100])
    model = fed(MixtureOfExpertsRegressor(1), (x, y), [200, 100], weights)
    design = np.column_stack([np.ones(300), x]) * np.sqrt(weights)[:, None]
    expected = np.linalg.lstsq(design, y * np.sqrt(weights), rcond=None)[0]
    np.testing.assert_allclose(model.intercept_, expected[:1], rtol=1e-6)
    np.testing.assert_allclose(model.coef_[0], expected[1:], rtol=1e-6)


def test_a_fit_goes_on_as_a_stream_in_its_own_unit_of_weight(rows):
    x, y = rows
    found = []
    for unit in (1.0, 1e-3):
        model = MixtureOfExpertsRegressor(1).fit(x[:1000], y[:1000], np.full(1000, unit))
        found.append(model.partial_fit(x[1000:], y[1000:], np.full(2000, unit)))
    whole = MixtureOfExpertsRegressor(1).fit(x, y)
    for model in found:
        np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-7)


def test_a_named_start_is_taken(rows):
    start = gaussian_mixture(11)
    named = MixtureOfExpertsRegressor(3, init=start).partial_fit(rows[0][:400], rows[1][:400])
    whole = MixtureOfExpertsRegressor(3, init=start).fit(rows[0][:400], rows[1][:400])
    np.testing.assert_allclose(named.coef_, whole.coef_, rtol=1e-12)
    with pytest.raises(ValueError, match="init holds labels"):
        MixtureOfExpertsRegressor(2, init=[0, 1] * 200).partial_fit(rows[0][:400], rows[1][:400])


def test_streams_know_their_rows_when_merged(rows):
    streams = [
        fed(MixtureOfExpertsRegressor(3, random_state=0), rows, sizes)
        for sizes in ([50], [400, 600], [2000])
    ]
    model = DistributedMixtureOfExpertsRegressor(3, screen=False, random_state=0)
    model.merge(streams, support=rows[0])
    assert [local.rows for local in model.locals_] == [50, 1000, 2000]


@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_classes_that_come_late_are_named_first():
    x, y = draw(categorical_mixture(3), 900, 1)
    model = MixtureOfExpertsClassifier(2, random_state=0)
    first = np.flatnonzero(y != 2)[:20]
    model.partial_fit(x[first], y[first], classes=[0, 1, 2])
    assert isinstance(model.stream_, WaitingRows)
    model.partial_fit(x[100:], y[100:])
    assert model.score(x, y) > 0.5
    assert set(model.predict(x)) == {0, 1, 2}
