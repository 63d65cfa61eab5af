"""Columns made of data by a formula; what was learnt of the data is kept as plain values."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moiety.core.extras import import_extra
from moiety.estimators.formula_terms import FormulaTerms, find_names

Told = Mapping[str, Any]


def take_as_it_is(values: Any) -> Any:
    """Give an offset, or what experts share, as it is."""
    return values


def make_context() -> dict[str, Any]:
    """Give the transforms beside those of formulaic.

    ``s`` is a natural cubic spline of ``df`` columns, each of mean 0 over the rows of the fit.
    """
    cubic = import_extra("formulaic.transforms", "a formula", "formulas").natural_cubic_spline

    def smooth(values: Any, df: int = 4, **told: Any) -> Any:
        return cubic(values, df=df, constraints="center", **told)

    smooth.__is_stateful_transform__ = True  # type: ignore[attr-defined]
    smooth.get_required_variables = cubic.get_required_variables  # type: ignore[attr-defined]
    return {"s": smooth, "offset": take_as_it_is, "shared": take_as_it_is,
            "sqrt": np.sqrt}  # fmt: skip


@dataclass(frozen=True)
class PartDesign:
    """The columns of one part of a formula.

    Args:
        text: of its terms.
        state: what transforms learnt of the rows of the fit: knots, means.
        encoders: factor -> its kind and, of a category, its values.
    """

    text: str
    state: Told
    encoders: Told

    def make(self, data: pd.DataFrame) -> pd.DataFrame:
        """Make the columns, without the constant.

        Raises:
            ValueError: for a column that is missing or has values missing, or for an unknown value
                of a category.
        """
        formulaic = import_extra("formulaic", "a formula", "formulas")
        kinds = import_extra("formulaic.parser.types", "a formula", "formulas").Factor.Kind
        encoders = {
            factor: (kinds(kind), {} if values is None else {"categories": values})
            for factor, (kind, values) in self.encoders.items()
        }
        state = {factor: dict(told) for factor, told in self.state.items()}
        spec = formulaic.ModelSpec(
            formula=self.text, transform_state=state, encoder_state=encoders,
            na_action="raise", output="pandas",
        )  # fmt: skip
        return compute_columns(spec, data)[0]


def compute_columns(spec: Any, data: pd.DataFrame) -> tuple[pd.DataFrame, Any]:
    """Give columns without the constant, and what was learnt of the data."""
    errors = import_extra("formulaic.errors", "a formula", "formulas")
    unknown = errors.DataMismatchWarning
    check_columns(spec, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error", unknown)
        try:
            made = spec.get_model_matrix(data, context=make_context())
        except errors.FactorEvaluationError as lost:
            raise ValueError(f"formula: {lost}") from None
        except unknown as strange:
            raise ValueError(f"{strange}; leave these rows out, or fit with them") from None
    return pd.DataFrame(made).drop(columns="Intercept").astype(float), made.model_spec


def check_columns(spec: Any, data: pd.DataFrame) -> None:
    """Refuse data without a column that is named, or with values missing there."""
    factors = (factor.expr for term in spec.formula for factor in term.factors)
    for name in sorted(set().union(*map(find_names, factors))):
        if name not in data.columns:
            raise ValueError(f"no column {name!r}; the data have {list(map(str, data.columns))}")
        lost = np.flatnonzero(data[name].isna())
        if len(lost):
            raise ValueError(
                f"column {name!r} has {len(lost)} missing values, the first in row {lost[0]}; drop "
                "these rows, or fill them"
            )


def learn_part(text: str, data: pd.DataFrame) -> tuple[PartDesign, pd.DataFrame]:
    """Learn knots, means and values of categories from the rows of a fit."""
    formulaic = import_extra("formulaic", "a formula", "formulas")
    spec = formulaic.ModelSpec(formula=text, na_action="raise", output="pandas")
    columns, learnt = compute_columns(spec, data)
    encoders = {
        factor: (kind.value, [make_plain_value(one) for one in told["categories"]]
                 if "categories" in told else None)
        for factor, (kind, told) in learnt.encoder_state.items()
    }  # fmt: skip
    return PartDesign(text, learnt.transform_state, encoders), columns


def make_plain_value(value: Any) -> Any:
    """Give a value of numpy as one of Python."""
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class FormulaDesign:
    """Columns of experts and gate side by side; ``mean`` and ``gate`` name whose they are."""

    terms: FormulaTerms
    parts: tuple[PartDesign, ...]
    mean: tuple[str, ...]
    gate: tuple[str, ...]

    def list_columns(self) -> set[str]:
        """Name all columns, the offset included."""
        return {*self.mean, *self.gate, self.terms.offset} - {None}

    def make(self, data: Any) -> pd.DataFrame:
        """Make all columns."""
        frame = pd.DataFrame(data)
        return join_parts([part.make(frame) for part in self.parts])


def learn_design(terms: FormulaTerms, data: Any) -> tuple[FormulaDesign, pd.DataFrame]:
    """Learn a design from the rows of a fit, and give its columns there."""
    frame = pd.DataFrame(data)
    texts = [terms.mean] if terms.gate is None else [terms.mean, terms.gate]
    learnt = [learn_part(text, frame) for text in texts]
    mean, gate = list(learnt[0][1].columns), list(learnt[-1][1].columns)
    used = tuple(name for name in gate if name != terms.offset)
    own = tuple(name for name in mean if name != terms.offset)
    design = FormulaDesign(terms, tuple(part for part, _ in learnt), own, used)
    return design, join_parts([columns for _, columns in learnt])


def join_parts(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Lay columns side by side, those of one name once."""
    whole = pd.concat(parts, axis=1)
    return whole.loc[:, ~whole.columns.duplicated()]


def write_state(value: Any) -> Any:
    """Give what transforms learnt as JSON has it; keys of mappings may be numbers."""
    if isinstance(value, Mapping):
        return {"pairs": [[write_state(k), write_state(v)] for k, v in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if isinstance(value, (list, tuple)):
        return [write_state(one) for one in value]
    value = make_plain_value(value)
    if value is not None and not isinstance(value, (str, int, float, bool)):
        raise ValueError(
            f"a transform learnt {type(value).__name__}, which cannot be saved; use another"
        )
    return value


def read_state(value: Any) -> Any:
    """Read what ``write_state`` wrote.

    >>> read_state(write_state({"knots": [1.0], 0: np.array([2.0])}))
    {'knots': [1.0], 0: array([2.])}
    """
    if isinstance(value, dict):
        if "array" in value:
            return np.array(value["array"])
        return {read_state(key): read_state(told) for key, told in value["pairs"]}
    return [read_state(one) for one in value] if isinstance(value, list) else value
