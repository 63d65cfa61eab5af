"""A data set held in memory, its standardisation and its division.

Letters: N rows, D features, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from moiety.core.objective import Objective
from moiety.core.streams import stream
from moiety.data.columns import Column
from moiety.data.encoding import Encoding
from moiety.data.graph import Graph
from moiety.data.roles import Roles
from moiety.tasks.classes import Classes
from moiety.tasks.objectives import IMPORTANCE
from moiety.tasks.tokens import Tokens


@dataclass(frozen=True)
class Dataset:
    """Rows, and what is known of them.

    Args:
        name: what to call it.
        x: float32, tables [N, D], images [N, C, H, W] with values in 0..1; or int64, texts
            [N, T] of tokens.
        y: target of each row, as the objective asks; without one, the class of each row, int64
            [N], or of each position [N, T]; of positions and of nodes of a graph, -1 is none.
            None where unlabelled.
        classes: a name for each class; ``y`` counts along it.
        groups: natural worker of each row, int64 [N], or None.
        test: rows of an official test split, bool [N], or None.
        source: where the data come from.
        licence: under which terms.
        columns: names of the features of a table, or nothing.
        graph: what joins the rows, which are its nodes; None for rows on their own.
        holders: a name for each natural worker; ``groups`` counts along it. Empty where they are
            numbers alone.
        weights: how much each row counts in training, float32 [N], or None where all count alike.
        raw: the columns of a table as they were read, so that ``encoding`` may be fitted to some
            rows alone.
        encoding: how ``raw`` became ``x``; None where rows came as numbers.
        roles: which column of a table was what.
        notes: what a reader should know of how the data were read, a sentence each.
        objective: what is learnt; None for classes, or tokens of positions, named ``classes``.

    Raises:
        ValueError: if a column has another length than ``x``, or a class has no name.
    """

    name: str
    x: Tensor
    y: Tensor | None = None
    classes: tuple[str, ...] = ()
    groups: Tensor | None = None
    test: Tensor | None = None
    source: str = ""
    licence: str = ""
    columns: tuple[str, ...] = ()
    graph: Graph | None = None
    holders: tuple[str, ...] = ()
    weights: Tensor | None = None
    raw: tuple[Column, ...] = ()
    encoding: Encoding | None = None
    roles: Roles = field(default_factory=Roles)
    notes: tuple[str, ...] = ()
    objective: Objective | None = None

    def __post_init__(self) -> None:
        if self.x.ndim < 2:
            raise ValueError(f"{self.name}: x has shape {list(self.x.shape)}; give [N, D]")
        one = self.x.shape[:1]
        shapes = {"y": {one, self.x.shape}, "groups": {one}, "test": {one}, "weights": {one}}
        told = {"y": self.y, "groups": self.groups, "test": self.test, "weights": self.weights}
        for name, fitting in shapes.items():
            column = told[name]
            free = name == "y" and self.objective is not None  # which says what a target is
            shape = None if column is None else column.shape[:1] if free else column.shape
            if column is not None and shape not in fitting:
                shape, size = list(column.shape), len(self.x)
                raise ValueError(f"{self.name}: {name} has shape {shape}, but x has {size} rows")
        if self.y is not None and len(self.y):
            try:
                checked = self.find_objective().check(self.y)
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from error
            object.__setattr__(self, "y", checked)

    def find_objective(self) -> Objective:
        """Give what is learnt: as it was said, else classes, or tokens of positions."""
        if self.objective is not None:
            return self.objective
        if self.y is not None and self.y.ndim > 1:
            return Tokens(self.classes)
        return Classes(self.classes, unscored=self.graph is not None)

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.x)

    def table(self) -> Mapping[str, Tensor]:
        """The columns of a batch: ``x``, and ``y`` and ``importance`` where there are some."""
        columns = {"x": self.x, "y": self.y, IMPORTANCE: self.weights}
        return {name: column for name, column in columns.items() if column is not None}


@dataclass(frozen=True)
class FeatureScale:
    """Shift and stretch so that fitted rows have mean 0 and standard deviation 1.

    Args:
        mean: per feature of a table [D], or per channel of images [C].
        std: as ``mean``; 1 where a column is constant.
    """

    mean: Tensor
    std: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Standardise tables [N, D] or images [N, C, H, W]; whole numbers (tokens) stay.

        Raises:
            ValueError: if ``x`` has another width than the rows this was fitted on.
        """
        if not x.is_floating_point():
            return x
        if not len(self.mean):
            raise ValueError(f"the model takes tokens, int64 [N, T], but x is {x.dtype}")
        if x.ndim < 2 or x.shape[1] != len(self.mean):
            raise ValueError(
                f"x has shape {list(x.shape)}, but {len(self.mean)} features or channels "
                "were seen in training; give rows with the same columns"
            )
        shape = (-1, *[1] * (x.ndim - 2))
        return (x - self.mean.to(x.device).view(shape)) / self.std.to(x.device).view(shape)

    def to_json(self) -> dict[str, list[float]]:
        """Write as plain lists; ``from_json`` reads them back bit for bit."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> FeatureScale:
        """Read what ``to_json`` wrote."""
        return cls(
            torch.tensor(raw["mean"], dtype=torch.float32),
            torch.tensor(raw["std"], dtype=torch.float32),
        )


def fit_scale(x: Tensor, rows: Tensor | None = None) -> FeatureScale:
    """Fit a scale, in float64, with the population's standard deviation.

    Whole numbers are names (tokens), not measures, and get an empty scale.

    Args:
        x: tables [N, D] or images [N, C, H, W].
        rows: positions of the rows to fit on; by default all.

    Raises:
        ValueError: if there is no row to fit on.

    >>> scale = fit_scale(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
    >>> scale.mean.tolist(), scale.std.tolist()
    ([1.0, 5.0], [1.0, 1.0])
    """
    if not x.is_floating_point():
        return FeatureScale(torch.ones(0), torch.ones(0))
    chosen = (x if rows is None else x[rows]).double()
    if not len(chosen):
        raise ValueError(f"no rows to fit a scale on, x has shape {list(x.shape)}; choose some")
    columns = chosen.transpose(0, 1).flatten(1)
    std = columns.std(1, correction=0).float()
    flat = (columns.amax(1) == columns.amin(1)) | (std == 0)
    return FeatureScale(columns.mean(1).float(), torch.where(flat, torch.ones_like(std), std))


def apportion_rows(size: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Share ``size`` out by largest remainder; of equal remainders the first named wins.

    >>> apportion_rows(10, {"train": 0.75, "test": 0.25})
    {'train': 8, 'test': 2}
    """
    exact = {name: size * fraction for name, fraction in fractions.items()}
    # The nudge keeps 1797 * (1 - 0.9) style rounding from falling one row short.
    sizes = {name: int(share + 1e-9) for name, share in exact.items()}
    left = size - sum(sizes.values())
    for name in sorted(exact, key=lambda name: sizes[name] - exact[name])[:left]:
        sizes[name] += 1
    return sizes


def shuffle_by_class(y: Tensor, rng: Generator) -> Tensor:
    """Order rows by class, and at random within a class, [N]."""
    order = torch.randperm(len(y), generator=rng)
    return order[y[order].argsort(stable=True)]


def divide_rows(
    dataset: Dataset,
    *,
    fractions: Mapping[str, float],
    seed: int,
    rows: Tensor | None = None,
) -> dict[str, Tensor]:
    """Divide rows into named, disjoint, stratified sets that cover them all.

    Sizes are exact: ``apportion(number of rows, fractions)``. Each class is spread evenly: a
    set holds its share of it to within as many rows as there are sets, plus one.

    Args:
        dataset: unlabelled rows count as one class.
        fractions: name -> share, e.g. ``{"public": 0.2, "train": 0.6, "test": 0.2}``; sum 1.
        seed: of the run.
        rows: positions of the rows to divide, e.g. without an official test split.

    Returns:
        Sorted positions by name.

    Raises:
        ValueError: if fractions are not positive or do not sum to 1, or a set would be empty.
    """
    if (
        any(not share > 0 for share in fractions.values())
        or abs(sum(fractions.values()) - 1) > 1e-6
    ):
        raise ValueError(f"{dict(fractions)=}; give positive shares that sum to 1")
    chosen = torch.arange(dataset.size) if rows is None else rows
    sizes = apportion_rows(len(chosen), fractions)
    if not all(sizes.values()):
        raise ValueError(f"{len(chosen)} rows divide into {sizes}; give more rows or larger shares")
    if dataset.y is None:
        y = torch.zeros(len(chosen), dtype=torch.int64)
    else:
        y = dataset.find_objective().stratify(dataset.y[chosen])
    order = shuffle_by_class(y, stream(seed, "divide"))
    # Places of a set lie evenly along the order, so every class meets every set in proportion.
    place = torch.cat([(torch.arange(n).double() + 0.5) / n for n in sizes.values()])
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor([*sizes.values()]))
    owner = owner[place.argsort(stable=True)]
    return {name: chosen[order[owner == i]].sort().values for i, name in enumerate(sizes)}
