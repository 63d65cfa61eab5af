"""Reductions without transport, to compare with: the middle fit, and the mean of all parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moiety.mixtures.align import align_mixtures, average_mixture_parameters
from moiety.mixtures.inputs import LocalFit, Support, compare_fits, prepare_inputs
from moiety.mixtures.model import E, Mixture, map_covariates, sort_experts
from moiety.mixtures.screen import find_middle


def choose_middle_mixture(
    locals_: Sequence[LocalFit[E]], support: Support, cost: str = "kl"
) -> Mixture[E]:
    """Give the local fit with the least weighted divergence from all."""
    scene = prepare_inputs(locals_, support, cost)
    return locals_[find_middle(compare_fits(scene), scene.share)].mixture


def average_mixtures(
    locals_: Sequence[LocalFit[E]], support: Support, cost: str = "kl"
) -> Mixture[E]:
    """Average all parameters after matching every fit's experts with the middle fit's."""
    scene = prepare_inputs(locals_, support, cost)
    pattern = scene.mixtures[find_middle(compare_fits(scene), scene.share)]
    ordered = align_mixtures(scene.x, scene.weights, scene.mixtures, pattern.experts, scene.cost)
    return sort_experts(
        map_covariates(average_mixture_parameters(ordered, scene.share), scene.back)
    )


REDUCTIONS: dict[str, Callable[..., Mixture]] = {
    "middle": choose_middle_mixture,
    "average": average_mixtures,
}
