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
from moiety.mixtures.fit import RowArrays
from moiety.mixtures.inputs import LocalFit
from moiety.mixtures.learn import LearnedMixture
from moiety.mixtures.logit import Array
from moiety.mixtures.model import count_mixture_parameters
from moiety.mixtures.worker import diagnose_fit

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


def warn_degenerate(learned: LearnedMixture, rows: RowArrays) -> None:
    """Say which experts collapsed, and on what, and which rest on a few rows."""
    ties, starved = diagnose_fit(learned, rows)
    if ties:
        reasons = "; ".join(dict.fromkeys(explain_collapse(tie) for tie in ties))
        where = [tie.expert for tie in ties]
        say(f"the variances of experts {where} rest at the floor; {NO_MEANING}: {reasons}")
    few = np.flatnonzero(starved & ~learned.floored)
    if len(few):
        owned = ", ".join(f"{learned.mass[k]:.3g}" for k in few)
        say(
            f"experts {few.tolist()} own {owned} rows, of which fewer than their own parameters "
            "carry them: they follow single rows, maybe wild ones; look at the rows with the "
            "largest responses or responsibilities, or fit fewer experts"
        )


def explain_collapse(tie: Ties) -> str:
    """Say on what an expert collapsed, and what can be done."""
    if tie.rows > 1:
        return (
            f"{tie.rows} of {tie.total} rows ({tie.rows / tie.total:.1%}) have the same response "
            f"{tie.value:g}; leave them out or model them apart"
        )
    return "experts pass through their few rows; fit fewer experts or raise variance_floor"


def warn_overfitted(learned: LearnedMixture, parameters: int) -> None:
    """Say that the rows are few for the parameters."""
    if learned.rows < LEAST_ROWS_PER_PARAMETER * parameters:
        say(
            f"{parameters} parameters are fitted to {learned.rows:g} rows and follow their noise; "
            "fit fewer experts, drop covariates, or add rows"
        )


def warn_few_rows(fits: Sequence[LocalFit], num_experts: int) -> None:
    """Say which shards have few rows for the experts asked for."""
    short = [at for at, fit in enumerate(fits) if fit.mixture.num_experts < num_experts]
    if short:
        fewest = min((fits[at] for at in short), key=lambda fit: fit.rows)
        say(
            f"shards {short} have rows too few for n_experts={num_experts} and fitted fewer: the "
            f"least has {fewest.rows:g} and fitted {fewest.mixture.num_experts}; pool them with "
            "others, or choose fewer"
        )
    sizes = [count_mixture_parameters(fit.mixture) for fit in fits]
    noisy = [at for at, fit in enumerate(fits) if fit.rows < LEAST_ROWS_PER_PARAMETER * sizes[at]]
    if noisy:
        least = min(noisy, key=lambda at: fits[at].rows)
        say(
            f"the fits of shards {noisy} follow the noise of their rows: {sizes[least]} parameters "
            f"are fitted to {fits[least].rows:g} rows; pool them with others, fit fewer experts, "
            "or drop covariates"
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
    warn_few_rows(fits, num_experts)
    climbing = [at for at, one in enumerate(known) if not bool(one["converged"])]
    if climbing:
        say(
            f"on shards {climbing} EM did not converge in max_iter steps; raise max_iter or tol",
            ConvergenceWarning,
        )
    constant = np.array([one["constant"].numpy() for one in known])
    for column in np.flatnonzero(constant.any(0) & ~constant.all(0)):
        where = np.flatnonzero(constant[:, column]).tolist()
        say(
            f"covariate {column} is constant on shards {where}: they know nothing of it, and their "
            "experts take its coefficient as 0; pool them with others"
        )
    warn_degenerate_shards(known)


def warn_degenerate_shards(known: Sequence[Mapping[str, Tensor]]) -> None:
    """Say on which shards experts collapsed, or follow single rows."""
    floored = [at for at, one in enumerate(known) if bool(one["floored"].any())]
    if floored:
        worst = max((one["tied"].tolist() for one in known), key=lambda tied: tied[0] / tied[1])
        reason = "experts pass through a few rows"
        if worst[0] > 1:
            reason = f"up to {worst[0]:g} of {worst[1]:g} rows have one response; leave such rows "
            reason += "out or model them apart"
        say(
            f"on shards {floored} variances rest at the floor; {NO_MEANING}: {reason}, fit fewer "
            "experts, or raise variance_floor"
        )
    starved = [at for at, one in enumerate(known) if bool((one["starved"] & ~one["floored"]).any())]
    if starved:
        say(
            f"on shards {starved} an expert is carried by fewer rows than it has parameters, maybe "
            "by one wild response; look at the largest responses there, or fit fewer experts"
        )


def warn_incompatible(misfit_M: Array, remedy: str) -> None:
    """Say that one exchange is not enough."""
    say(
        f"the local fits are incompatible: their mean misfit of {misfit_M.mean():.3g} is more than "
        f"their rows explain, so that one exchange is not enough; {remedy}"
    )


def warn_refined_floor(refined: Refined) -> None:
    """Say that pooled steps let experts collapse, also where no shard's own fit did."""
    if refined.floored.any():
        found = np.flatnonzero(refined.floored).tolist()
        say(
            f"in refining rounds the variances of experts {found} came to rest at the floor; "
            f"{NO_MEANING}: they sit on rows with one response, or one wild response makes "
            "all others look alike; leave such rows out or model them apart, fit fewer experts, or "
            "raise variance_floor"
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
