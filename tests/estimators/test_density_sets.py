"""The smallest sets with a given chance."""

import numpy as np
import pytest
from scipy.stats import norm, poisson

from moiety.estimators.predictive import LawPredictive, Predictive
from moiety.mixtures.laws import find_law


def test_one_normal_has_the_central_interval():
    found = Predictive(np.ones((1, 1)), np.array([[3.0]]), np.array([2.0]))
    (interval,) = found.highest_density(0.9)
    np.testing.assert_allclose(interval, [norm(3, 2).interval(0.9)], atol=0.1)
    np.testing.assert_allclose(found.quantile([0.1, 0.5]), [norm(3, 2).ppf([0.1, 0.5])], atol=1e-9)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_sets_hold_their_level_and_the_densest_points(level):
    weights = np.array([[0.6, 0.4], [0.99, 0.01]])
    found = Predictive(weights, np.array([[-3.0, 4.0], [0.0, 0.3]]), np.array([0.5, 0.02]))
    first, second = found.highest_density(level)
    assert len(first) == 2
    for row, parts in enumerate((first, second)):
        ends = [found.cdf(np.full(2, one))[row] for one in parts.ravel()]
        chance = sum(ends[1::2]) - sum(ends[::2])
        assert level <= chance < level + 0.02
        grid = np.linspace(-6, 7, 801)
        density = np.array([found.pdf(np.full(2, one))[row] for one in grid])
        inside = ((grid[:, None] >= parts[:, 0]) & (grid[:, None] <= parts[:, 1])).any(1)
        assert density[inside].min() > 0.9 * density[~inside].max()


def test_sets_of_counts():
    """Against all counts sorted by their probability."""
    few, many = (poisson.pmf(np.arange(60), rate) for rate in (0.2, 9.0))
    law = find_law("poisson")
    assert law is not None
    lines = np.log(np.array([[0.2, 9.0]]))
    found = LawPredictive(np.array([[0.5, 0.5]]), lines, np.zeros((0, 2)), law)

    chance = 0.5 * few + 0.5 * many
    order = np.argsort(-chance, kind="stable")
    need = order[: int((chance[order].cumsum() < 0.8).sum()) + 1]
    (parts,) = found.highest_density(0.8)
    held = np.concatenate([np.arange(low, high + 1) for low, high in parts])
    assert sorted(held) == sorted(need)
    assert len(parts) == 2
    with pytest.raises(ValueError, match=r"level=1\.5 is no chance of an interval"):
        found.interval(1.5)
    with pytest.raises(ValueError, match=r"level=1\.5 is no chance of a set"):
        found.highest_density(1.5)
