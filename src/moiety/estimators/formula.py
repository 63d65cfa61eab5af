"""A mixture of experts written as a formula over the columns of a frame.

Letters: N rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.formula_design import (
    FormulaDesign,
    PartDesign,
    learn_design,
    read_state,
    write_state,
)
from moiety.estimators.formula_terms import SHARED, split_formula
from moiety.estimators.saved import read_estimator, read_saved_json
from moiety.estimators.single import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor

COLUMN_OPTIONS = ("gate_columns", "expert_columns", "offset", "shared_columns")
FILE, FORMAT = "formula.json", "moiety formula 1"


class FormulaMixture(BaseEstimator):
    """A mixture on one machine whose columns a formula makes.

    ``"y ~ x + s(z) | w"``: experts are linear in ``x`` and in a natural spline of ``z``, the gate
    in ``w``. Without a bar the gate has the experts' columns; ``| 1`` is a constant gate.
    ``offset(log(t))`` has the coefficient 1 in every expert, ``shared(z)`` the same one in all.
    Words are categories. The parts are those of formulaic, restricted to columns, arithmetic of
    them, and log, log2, log10, exp, sqrt, center, scale, poly, bs, cr, cc, s, C, I: a formula runs
    no other code.

    Args:
        formula: of the columns.
        model: a regressor or a classifier of one machine, by default two normal experts; it is
            cloned, and its columns are those of the formula.

    Attributes:
        model_: the fitted estimator; ``design(data)`` gives the frame of columns that it takes.

    Example:
        ``FormulaMixture("price ~ s(area) | town", MixtureOfExpertsRegressor(3)).fit(frame)``
    """

    def __init__(self, formula: str, model: Any = None) -> None:
        self.formula = formula
        self.model = model

    def fit(self, X: Any, y: None = None, sample_weight: Any = None) -> FormulaMixture:
        """Fit rows of a frame that holds the response.

        Args:
            X: a frame, or anything that makes one, with the columns that the formula names.
            y: nothing; the response stands in the frame.
            sample_weight: [N].
        """
        if y is not None:
            raise ValueError("the formula names the response; give fit(frame) without y")
        terms = split_formula(self.formula)
        self.design_, columns = learn_design(terms, X)
        model: Any = clone(self.model if self.model is not None else MixtureOfExpertsRegressor(2))
        if not isinstance(model, (MixtureOfExpertsRegressor, MixtureOfExpertsClassifier)):
            raise ValueError(  # noqa: TRY004 - as all refusals here
                f"a formula is of a mixture on one machine, not of {type(model).__name__}; give "
                "MixtureOfExpertsRegressor or MixtureOfExpertsClassifier"
            )
        for name in COLUMN_OPTIONS:
            if vars(model).get(name) is not None:
                raise ValueError(f"the formula says the columns; leave out {name}= of the model")
        model.set_params(gate_columns=list(self.design_.gate),
                         expert_columns=list(self.design_.mean))  # fmt: skip
        if terms.offset is not None:
            model.set_params(offset=terms.offset)
        shared = [name for name in self.design_.mean if name.startswith(SHARED)]
        if shared and "shared_columns" not in model.get_params(deep=False):
            raise ValueError(f"experts of classes share nothing; write {shared[0]} without shared")
        if shared:
            model.set_params(shared_columns=shared)
        self.model_ = model.fit(columns, self.response(X), sample_weight)
        return self

    def design(self, X: Any) -> pd.DataFrame:
        """Give the columns that the model takes, as a frame; categories and knots are the fit's."""
        check_is_fitted(self)
        return self.design_.make(X)

    def response(self, X: Any) -> Any:
        """Take the response out of a frame, [N]."""
        frame, name = pd.DataFrame(X), split_formula(self.formula).response
        if name not in frame.columns:
            raise ValueError(f"no response {name!r}; the data have {list(frame.columns)}")
        return frame[name].to_numpy()

    def predict(self, X: Any, **options: Any) -> Any:
        """Give the predictive means or the likeliest classes; options are those of the model."""
        return self.model_.predict(self.design(X), **options)

    def predict_proba(self, X: Any) -> Any:
        """Give class probabilities, of a classifier."""
        return self.model_.predict_proba(self.design(X))

    def predict_dist(self, X: Any) -> Any:
        """Give the whole predictive distribution of every row, of a regressor."""
        return self.model_.predict_dist(self.design(X))

    def gate_proba(self, X: Any) -> Any:
        """Give the probability of each expert before the response is seen, [N, K]."""
        return self.model_.gate_proba(self.design(X))

    def responsibilities(self, X: Any) -> Any:
        """Give the probability of each expert once the response is seen, [N, K]."""
        return self.model_.responsibilities(self.design(X), self.response(X))

    def log_density(self, X: Any) -> Any:
        """Give the log density of the responses, [N]."""
        return self.model_.log_density(self.design(X), self.response(X))

    def score(self, X: Any, y: None = None) -> float:
        """Give the mean log density, for cross-validation."""
        del y
        return float(np.mean(self.log_density(X)))

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Give -2 log-likelihood + parameters * log(rows); lower is better."""
        return self.model_.bic(self.design(X), self.response(X), sample_weight)

    def summary(self, X: Any, sample_weight: Any = None) -> str:
        """Describe the fit with errors on these rows."""
        return self.model_.summary(self.design(X), self.response(X), sample_weight)

    def summary_frame(self, X: Any, sample_weight: Any = None, **options: Any) -> Any:
        """Give all parameters as a frame; options are those of the model."""
        response = self.response(X)
        return self.model_.summary_frame(self.design(X), response, sample_weight, **options)

    def experts_frame(self, X: Any, sample_weight: Any = None) -> Any:
        """Give how much of these rows each expert has, as a frame."""
        return self.model_.experts_frame(self.design(X), self.response(X), sample_weight)

    def save(self, path: str | Path) -> None:
        """Write formula and model into a folder, as JSON and safetensors; no row goes along."""
        check_is_fitted(self)
        self.model_.save(path)
        design = self.design_
        told = {
            "format": FORMAT,
            "formula": self.formula,
            "mean": list(design.mean),
            "gate": list(design.gate),
            "parts": [
                {"state": write_state(part.state), "encoders": write_state(part.encoders)}
                for part in design.parts
            ],
        }
        text = json.dumps(told, indent=1) + "\n"
        (Path(path) / FILE).write_text(text, encoding="utf8")

    @classmethod
    def load(cls, path: str | Path) -> FormulaMixture:
        """Read what ``save`` wrote. The formula is checked as any other: no other code is run."""
        place = Path(path) / FILE
        if not place.is_file():
            raise ValueError(f"{path} holds no {FILE}; give a folder that save wrote")
        told = read_saved_json(place, FORMAT)
        model = read_estimator(path, [MixtureOfExpertsRegressor, MixtureOfExpertsClassifier])
        design = read_design(told, place)
        if {*vars(model).get("feature_names_in_", ())} != design.list_columns():
            raise ValueError(f"{place} names other columns than its model; save it again")
        known = model.get_params(deep=False)
        bare: Any = clone(model)
        bare.set_params(**{name: None for name in COLUMN_OPTIONS if name in known})
        found = cls(told["formula"], bare)
        found.model_, found.design_ = model, design
        return found


def read_design(told: dict[str, Any], place: Path) -> FormulaDesign:
    """Read a design; its texts are those of the formula, which is checked."""
    try:
        terms = split_formula(told["formula"])
        texts = [terms.mean] if terms.gate is None else [terms.mean, terms.gate]
        parts = tuple(
            PartDesign(text, read_state(one["state"]), read_state(one["encoders"]))
            for text, one in zip(texts, told["parts"], strict=True)
        )
        return FormulaDesign(terms, parts, tuple(told["mean"]), tuple(told["gate"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not what save writes ({error}); save again") from None
