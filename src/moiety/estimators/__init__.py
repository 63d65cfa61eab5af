"""Scikit-learn estimators."""

from moiety.estimators.bootstrap import (
    Bootstrap,
    LikelihoodRatio,
    bootstrap_fit,
    compare_numbers,
)
from moiety.estimators.covariates import draw_covariates
from moiety.estimators.many import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
)
from moiety.estimators.select import Selection, select_experts
from moiety.estimators.single import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor

__all__ = [
    "Bootstrap",
    "DistributedMixtureOfExpertsClassifier",
    "DistributedMixtureOfExpertsRegressor",
    "LikelihoodRatio",
    "MixtureOfExpertsClassifier",
    "MixtureOfExpertsRegressor",
    "Selection",
    "bootstrap_fit",
    "compare_numbers",
    "draw_covariates",
    "select_experts",
]
