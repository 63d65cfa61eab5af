"""Scikit-learn estimators."""

from moiety.estimators.covariates import draw_covariates
from moiety.estimators.many import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
)
from moiety.estimators.select import Selection, select_experts
from moiety.estimators.single import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor

__all__ = [
    "DistributedMixtureOfExpertsClassifier",
    "DistributedMixtureOfExpertsRegressor",
    "MixtureOfExpertsClassifier",
    "MixtureOfExpertsRegressor",
    "Selection",
    "draw_covariates",
    "select_experts",
]
