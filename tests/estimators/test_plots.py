"""Pictures show what their frames hold, and frames what the model says."""

import numpy as np
import pytest

from moiety.estimators import MixtureOfExpertsRegressor, Selection
from moiety.estimators.plots import (
    frame_components,
    frame_regions,
    frame_residuals,
    frame_responsibilities,
    plot_components,
    plot_criteria,
    plot_regions,
    plot_residuals,
    plot_responsibilities,
)
from tests.estimators.worlds import draw, gaussian_mixture

pytest.importorskip("matplotlib")
pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def world():
    x, y = draw(gaussian_mixture(11, 2), 400, 0)
    named = pd.DataFrame(x, columns=["age", "dose"])
    return MixtureOfExpertsRegressor(2, n_init=2, random_state=0).fit(named, y), named, y


def test_components_are_the_lines_of_the_experts(world):
    model, x, y = world
    frame = frame_components(model, x, 1, level=0.9, points=7)
    part = frame[frame.expert == 0]
    line = model.intercept_[0] + model.coef_[0] @ [x.age.mean(), 0] + model.coef_[0, 1] * part.x
    np.testing.assert_allclose(part["mean"], line, rtol=1e-9)
    np.testing.assert_allclose(
        part.high - part["mean"], 1.6448536 * np.sqrt(model.variances_[0]), rtol=1e-6
    )
    shares = frame[frame.expert >= 0].groupby("x").share.sum()
    np.testing.assert_allclose(shares, 1, rtol=1e-9)
    assert frame_components(model, x, "dose", level=0.9, points=7).equals(frame)
    with pytest.raises(ValueError, match="column names 'mass'"):
        plot_components(model, x, y, "mass")
    above, below = plot_components(model, x, y, 1, points=7).axes
    assert above.get_xlabel() == "dose"
    assert [text.get_text() for text in above.get_legend().get_texts()] == [
        "expert 0", "expert 1", "mean of all",
    ]  # fmt: skip
    np.testing.assert_allclose(below.lines[0].get_ydata(), part.share)


def test_regions_are_those_of_the_gate(world):
    model, x, _ = world
    frame = frame_regions(model, x, ("dose", "age"), points=5)
    grid = pd.DataFrame({"age": frame.second, "dose": frame["first"]})
    shares = model.gate_proba(grid)
    assert frame.expert.tolist() == shares.argmax(1).tolist()
    assert frame.share.tolist() == shares.max(1).tolist()
    assert (frame["first"].min(), frame["first"].max()) == (x.dose.min(), x.dose.max())
    (axis,) = plot_regions(model, x, points=5).axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("age", "dose")
    drawn = np.asarray(axis.images[0].get_array())[..., 3]  # the alpha of a cell
    shares = frame_regions(model, x, points=5).share.to_numpy().reshape(5, 5)
    np.testing.assert_allclose(drawn, shares**2)
    with pytest.raises(ValueError, match="column names 5"):
        plot_regions(model, x, (0, 5))


def test_rootograms_count_every_row(world):
    model, x, y = world
    frame = frame_responsibilities(model, x, y)
    assert frame.groupby("expert").rows.sum().tolist() == [400, 400]
    heights = [bar.get_height() for bar in plot_responsibilities(model, x, y).axes[0].patches]
    np.testing.assert_allclose(np.square(heights), frame[frame.expert == 0].rows)


def test_residuals_are_normal_where_the_law_is_right(world):
    model, x, y = world
    frame = frame_residuals(model, x, y)
    assert np.abs(frame.expected - frame.residual).mean() < 0.1
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.exp(0.3 + 0.5 * x.age)).astype(float)
    poisson = MixtureOfExpertsRegressor(1, family="poisson").fit(x, counts)
    frame = frame_residuals(poisson, x, counts, random_state=0)
    assert np.abs(frame.expected - frame.residual).mean() < 0.15
    assert len(plot_residuals(poisson, x, counts).axes[0].lines[0].get_xdata()) == 400


def test_criteria_mark_what_was_chosen_and_what_means_nothing():
    axis = plot_criteria(Selection(None, {1: 9.0, 2: 5.0, 3: 1.0}, degenerate=(3,))).axes[0]
    assert axis.lines[0].get_ydata().tolist() == [9.0, 5.0, 1.0]
    assert axis.lines[1].get_xdata().tolist() == [3]
    assert axis.lines[2].get_xdata()[0] == 2
