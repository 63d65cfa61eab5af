"""What a fit says of itself that a user must know: each fault with its remedy.

Letters: K experts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from moiety.estimators.refining import Refined
from moiety.merge.transport import SentFits
from moiety.mixtures.degenerate import Ties
from moiety.mixtures.inputs import LocalFit
from moiety.mixtures.learn import LearnedMixture
from moiety.mixtures.logit import Array
from moiety.mixtures.model import count_mixture_parameters

LEAST_ROWS_PER_PARAMETER = 2.0  # below this a fit follows the noise of its rows
FELT_GAP = 0.05  # of mean log density, beyond which one would rather know
NO_MEANING = "log densities, BIC and the number of experts that it favours mean nothing"


def say(message: str, kind: type[Warning] = UserWarning) -> None:
    """Warn whoever called the estimator."""
    warnings.warn(message, kind, stacklevel=5)


def warn_unconverged(learned: LearnedMixture, max_iter: int) -> None:
    """Say that EM was still climbing."""
    if not learned.fit.converged:
        say(f"EM did not converge in {max_iter=} steps; raise max_iter or tol", ConvergenceWarning)


def warn_degenerate(learned: LearnedMixture, ties: Sequence[Ties]) -> None:
    """Say which experts collapsed, and on what."""
    for tie in ties:
        reason = (
            f"{tie.rows} of {tie.total} rows ({tie.rows / tie.total:.1%}) have the same "
            f"response {tie.value:g}; leave them out or model them apart"
            if tie.rows > 1
            else "it passes through its few rows; fit fewer experts or raise variance_floor"
        )
        say(f"the variance of expert {tie.expert} rests at the floor; {NO_MEANING}: {reason}")
    few = find_starved(learned) & ~learned.floored
    if few.any():
        owned = ", ".join(f"{learned.mass[k]:.3g}" for k in np.flatnonzero(few))
        say(
            f"experts {np.flatnonzero(few).tolist()} own {owned} rows, fewer than their own "
            "parameters: they follow single rows, maybe wild ones; look at the rows with the "
            "largest responsibilities, or fit fewer experts"
        )


def find_starved(learned: LearnedMixture) -> Array:
    """Tell which experts own fewer rows than they have parameters, [K]."""
    own = learned.mixture.experts.size() / learned.mixture.num_experts
    return learned.mass < own


def warn_overfitted(learned: LearnedMixture, parameters: int) -> None:
    """Say that the rows are few for the parameters."""
    if learned.rows < LEAST_ROWS_PER_PARAMETER * parameters:
        say(
            f"{parameters} parameters are fitted to {learned.rows:g} rows and follow their noise; "
            "fit fewer experts, drop covariates, or add rows"
        )


def warn_shards(
    fits: Sequence[LocalFit], known: Sequence[Mapping[str, Tensor]], num_experts: int
) -> None:
    """Say what went wrong on which shards.

    Args:
        fits: of all shards.
        known: what each shard's worker remembers of its fit.
        num_experts: as asked for.
    """
    for at, fit in enumerate(fits):
        if fit.mixture.num_experts < num_experts:
            say(
                f"shard {at} has {fit.rows:g} rows, too few for n_experts={num_experts}; it fitted "
                f"{fit.mixture.num_experts}"
            )
    constant = np.array([one["constant"].numpy() for one in known])
    for column in np.flatnonzero(constant.any(0) & ~constant.all(0)):
        where = np.flatnonzero(constant[:, column]).tolist()
        say(
            f"covariate {column} is constant on shards {where}: they know nothing of it, and their "
            "experts take its coefficient as 0; pool them with others"
        )
    floored = [at for at, one in enumerate(known) if bool(one["floored"].any())]
    if floored:
        worst = max((one["tied"].tolist() for one in known), key=lambda tied: tied[0] / tied[1])
        say(
            f"on shards {floored} variances rest at the floor; {NO_MEANING}: up to "
            f"{worst[0]:g} of {worst[1]:g} rows have one response; leave such rows out or model "
            "them apart, fit fewer experts, or raise variance_floor"
        )


def warn_incompatible(misfit_M: Array, remedy: str) -> None:
    """Say that one exchange is not enough."""
    say(
        f"the local fits are incompatible: their mean misfit of {misfit_M.mean():.3g} is more than "
        f"their rows explain, so that one exchange is not enough; {remedy}"
    )


def warn_refined(refined: Refined, sent: SentFits, tol: float) -> None:
    """Say that refining did not end, or that shards still explain their rows better alone."""
    if not refined.gain <= tol:
        say(
            f"{refined.rounds} refining rounds did not settle: the last gained {refined.gain:.2g} "
            f"per row, more than refine_tol={tol:g}; ask for more by refine_rounds",
            ConvergenceWarning,
        )
    rows = np.array([fit.rows for fit in sent.fits])[refined.kept]
    alone = sent.log_likelihoods[refined.kept].sum() / rows.sum()
    noise = len(rows) * count_mixture_parameters(refined.mixture) / rows.sum()
    gap = alone - refined.log_likelihood
    if gap > FELT_GAP + noise:
        say(
            f"the shards' own fits explain their rows better than the result does, by {gap:.2g} "
            "per row: shards were split by the response or follow different laws, or the result is "
            "a lesser maximum; try another init or random_state, more experts, or covariates that "
            "tell the shards apart"
        )
