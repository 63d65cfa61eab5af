"""Pictures of fitted mixtures of numbers: each has its numbers in a frame, and is drawn from it.

Letters: N rows, d covariates, K experts, G points of a covariate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import ndtri

from moiety.core.extras import import_extra
from moiety.estimators.base import MixtureEstimator, make_numpy_generator
from moiety.estimators.columns import find_column
from moiety.estimators.predictive import NoisyPredictive
from moiety.estimators.select import Selection
from moiety.estimators.single import NumberResponse
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array

BINS = 20  # of responsibilities
INNERMOST = 1e-12  # the least chance of a residual, so that none is infinite


def frame_components(
    model: NumberResponse, X: Any, column: Any = 0, *, level: float = 0.9, points: int = 100
) -> Any:
    """Follow every expert, and all of them, over one covariate; the others stay at their means.

    Args:
        model: fitted.
        X: covariates whose range and means are used, [N, d].
        column: the covariate, by its name or its place.
        level: of the predictive intervals.
        points: places at which it is evaluated, from the least to the largest value.

    Returns:
        A frame: ``x``, ``expert`` (-1 for all), ``share`` of the gate, ``mean``, ``low``, ``high``.
    """
    pd = import_extra("pandas", "frames of mixtures", "estimators")
    rows, column = np.asarray(X, dtype=np.float64), locate_column(model, column)[0]
    grid = np.tile(np.nanmean(rows, 0), (points, 1))
    grid[:, column] = np.linspace(np.nanmin(rows[:, column]), np.nanmax(rows[:, column]), points)
    found = model.predict_dist(match_columns(model, grid))
    parts = [(-1, np.ones(points), found)]
    found = found.experts if isinstance(found, NoisyPredictive) else found
    for expert, share in enumerate(found.weights.T):
        alone = np.broadcast_to(np.eye(found.weights.shape[1])[expert], found.weights.shape)
        parts.append((expert, share, replace(found, weights=alone)))
    frames = []
    for expert, share, part in parts:
        low, high = part.interval(level)
        told = {"x": grid[:, column], "expert": expert, "share": share, "mean": part.mean()}
        frames.append(pd.DataFrame({**told, "low": low, "high": high}))
    return pd.concat(frames, ignore_index=True)


def frame_regions(
    model: MixtureEstimator, X: Any, columns: tuple[Any, Any] = (0, 1), *, points: int = 60
) -> Any:
    """Tell which expert the gate prefers over two covariates; the others stay at their means.

    Args:
        model: fitted, a regressor or a classifier.
        X: covariates whose ranges and means are used, [N, d].
        columns: the two covariates, by their names or places.
        points: places of each, from the least to the largest value.

    Returns:
        A frame: ``first``, ``second``, ``expert``, ``share`` of the gate.
    """
    pd = import_extra("pandas", "frames of mixtures", "estimators")
    rows = np.asarray(X, dtype=np.float64)
    first, second = (locate_column(model, one)[0] for one in columns)
    low, high = np.nanmin(rows, 0), np.nanmax(rows, 0)
    across, up = (np.linspace(low[at], high[at], points) for at in (first, second))
    grid = np.tile(np.nanmean(rows, 0), (points**2, 1))
    grid[:, first], grid[:, second] = np.tile(across, points), np.repeat(up, points)
    shares = model.gate_proba(match_columns(model, grid))
    told = {"first": grid[:, first], "second": grid[:, second], "expert": shares.argmax(1)}
    return pd.DataFrame({**told, "share": shares.max(1)})


def plot_regions(
    model: MixtureEstimator, X: Any, columns: tuple[Any, Any] = (0, 1), *, points: int = 60
) -> Any:
    """Draw where the gate prefers which expert, the paler the less it does; see the frame."""
    frame = frame_regions(model, X, columns, points=points)
    figure, (axis,) = make_figure(1)
    to_rgba = import_extra("matplotlib.colors", "a picture of a mixture", "report").to_rgba
    picture = np.array(
        [to_rgba(f"C{k}", a**2) for k, a in zip(frame.expert, frame.share, strict=True)]
    )
    ends = [end for part in (frame["first"], frame["second"]) for end in (part.min(), part.max())]
    axis.imshow(picture.reshape(points, points, 4), origin="lower", extent=ends, aspect="auto")
    for expert in sorted(set(frame.expert)):
        axis.plot([], [], "s", color=f"C{expert}", label=f"expert {expert}")
    first, second = (locate_column(model, one)[1] for one in columns)
    axis.set(xlabel=first, ylabel=second)
    axis.legend(fontsize=7)
    return figure


def locate_column(model: MixtureEstimator, column: Any) -> tuple[int, str]:
    """Give the place of a covariate, and its name as summaries have it."""
    names = getattr(model, "feature_names_in_", ())
    place = find_column("column", column, model.n_features_in_, names)
    return place, str(names[place]) if len(names) else f"x{place}"


def match_columns(model: MixtureEstimator, grid: Array) -> Any:
    """Give rows as the model was given them: with names, where it knows some."""
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return grid
    return import_extra("pandas", "named columns", "estimators").DataFrame(grid, columns=names)


def plot_components(
    model: NumberResponse,
    X: Any,
    y: Any = None,
    column: Any = 0,
    *,
    level: float = 0.9,
    points: int = 100,
) -> Any:
    """Draw experts with their intervals over a covariate, and below them the gate; see the frame.

    Args:
        model: fitted.
        X: covariates, [N, d].
        y: responses to be drawn as points, [N].
        column: the covariate, by its name or its place.
        level: of the predictive intervals.
        points: places at which they are evaluated.

    Returns:
        A figure of matplotlib; ``figure.savefig(path)`` writes it.
    """
    frame = frame_components(model, X, column, level=level, points=points)
    figure, (above, below) = make_figure(2)
    place, name = locate_column(model, column)
    if y is not None:
        above.plot(np.asarray(X, float)[:, place], y, ".", color="0.7", markersize=2, zorder=0)
    for expert, part in frame[frame.expert >= 0].groupby("expert"):
        (line,) = above.plot(part.x, part["mean"], label=f"expert {expert}")
        above.fill_between(part.x, part.low, part.high, color=line.get_color(), alpha=0.2)
        below.plot(part.x, part.share, color=line.get_color())
    whole = frame[frame.expert < 0]
    above.plot(whole.x, whole["mean"], "k--", linewidth=1, label="mean of all")
    above.set(xlabel=name, ylabel="response")
    above.legend(fontsize=7)
    below.set(xlabel=name, ylabel="share of the gate", ylim=(0, 1))
    return figure


def frame_responsibilities(model: NumberResponse, X: Any, y: Any) -> Any:
    """Count rows by how sure they are of each expert: ``expert``, ``low``, ``high``, ``rows``."""
    pd = import_extra("pandas", "frames of mixtures", "estimators")
    edges, frames = np.linspace(0, 1, BINS + 1), []
    for expert, share in enumerate(model.responsibilities(X, y).T):
        rows, _ = np.histogram(share, edges)
        told = {"expert": expert, "low": edges[:-1], "high": edges[1:], "rows": rows}
        frames.append(pd.DataFrame(told))
    return pd.concat(frames, ignore_index=True)


def plot_responsibilities(model: NumberResponse, X: Any, y: Any) -> Any:
    """Draw rootograms: square roots of counts, an expert each; bars in the middle are doubts."""
    frame = frame_responsibilities(model, X, y)
    parts = list(frame.groupby("expert"))
    figure, axes = make_figure(len(parts))
    for (expert, part), axis in zip(parts, axes, strict=True):
        axis.bar(part.low, np.sqrt(part.rows), width=1 / BINS, align="edge")
        axis.set(title=f"expert {expert}", xlabel="responsibility", ylabel="root of rows")
    return figure


def frame_residuals(model: NumberResponse, X: Any, y: Any, random_state: Any = None) -> Any:
    """Give quantile residuals, normal where the law is right: ``expected`` beside ``residual``.

    A residual is the normal quantile of the chance of at most y; of counts, of a chance drawn
    between those of less than y and of at most y.

    Args:
        model: fitted.
        X: covariates, [N, d].
        y: responses, [N].
        random_state: seed of the draws.
    """
    pd = import_extra("pandas", "frames of mixtures", "estimators")
    found, y = model.predict_dist(X), np.asarray(y, dtype=np.float64)
    chance = found.cdf(y)
    experts = model.mixture_.experts
    if isinstance(experts, LinkedExperts) and experts.law.whole:
        draw = make_numpy_generator(random_state).random(len(y))
        chance = draw * chance + (1 - draw) * found.cdf(y - 1)
    residual = ndtri(np.clip(chance, INNERMOST, 1 - INNERMOST))
    levels = (np.argsort(np.argsort(residual, kind="stable"), kind="stable") + 0.5) / len(y)
    return pd.DataFrame({"expected": ndtri(levels), "residual": residual})


def plot_residuals(model: NumberResponse, X: Any, y: Any, random_state: Any = None) -> Any:
    """Draw quantile residuals against those of a normal: on the line where the law is right."""
    frame = frame_residuals(model, X, y, random_state)
    figure, (axis,) = make_figure(1)
    axis.plot(frame.expected, frame.residual, ".", markersize=3)
    axis.axline((0, 0), slope=1, color="0.5", linewidth=1)
    axis.set(xlabel="quantile of a normal", ylabel="quantile residual")
    return figure


def plot_criteria(selection: Selection) -> Any:
    """Draw the criterion over the numbers of experts; those that ended at the floor are crossed."""
    figure, (axis,) = make_figure(1)
    numbers = sorted(selection.criteria)
    axis.plot(numbers, [selection.criteria[number] for number in numbers], "o-")
    lost = sorted(selection.degenerate)
    axis.plot(lost, [selection.criteria[number] for number in lost], "rx", markersize=10)
    axis.axvline(selection.n_experts, color="0.5", linewidth=1)
    axis.set(xlabel="experts", ylabel="criterion", xticks=numbers)
    return figure


def make_figure(panels: int) -> tuple[Any, list[Any]]:
    """Make a figure with panels side by side, without any global state."""
    module = import_extra("matplotlib.figure", "a picture of a mixture", "report")
    figure = module.Figure(figsize=(4.2 * panels, 3.4), layout="constrained")
    return figure, list(np.ravel(figure.subplots(1, panels)))
