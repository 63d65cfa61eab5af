"""Who may take part in a private run, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from moiety.privacy.accountant import (
    Accountant,
    DrawCohort,
    count_most_asked,
    spend_gaussian,
)
from moiety.privacy.config import PrivacyConfig


@dataclass(frozen=True)
class Crowd:
    """Who may take part.

    Args:
        workers: how many there are.
        size: of them take part in a round.
        cohort: names them, where everybody may know.
        seed: of the run.
        rounds: that are planned.
        epochs: of a worker in a round; read where something is promised to rows.
    """

    workers: int
    size: int
    cohort: DrawCohort
    seed: int
    rounds: int
    epochs: int = 0


def require_waiting(config: PrivacyConfig, schedule: str, *, waits: bool) -> None:
    """Refuse a schedule that does not wait for all.

    Raises:
        ValueError: with the remedy.
    """
    if config.is_on and not waits:
        raise ValueError(
            f"{config.said}, but schedule.kind={schedule!r} commits whose replies "
            "came first and draws late ones back, so who is in a sum is not known before; say "
            "--schedule.kind sync"
        )


def make_accountant(config: PrivacyConfig, crowd: Crowd) -> Accountant:
    """Make the accountant of a run.

    Raises:
        ValueError: for a delta that promises nothing to so many workers.
    """
    config.check_delta(crowd.workers)
    if config.is_secret:
        return Accountant(config.delta, chance=crowd.size / crowd.workers)
    asked = count_most_asked(crowd.cohort, crowd.seed, crowd.rounds)
    return Accountant(config.delta, asked)


def resolve_privacy(config: PrivacyConfig, crowd: Crowd) -> PrivacyConfig:
    """Find the noise where a budget alone was said.

    Raises:
        ValueError: for a budget that not even one round keeps.
    """
    if not config.guards_workers:
        return config
    accountant = make_accountant(config, crowd)
    if not config.noise:
        noise = accountant.solve_noise(config.epsilon, crowd.rounds)
        return replace(config, noise=noise)
    if config.epsilon and accountant.spend(config.noise, 1) > config.epsilon:
        raise ValueError(
            f"privacy.epsilon={config.epsilon}, but with privacy.noise={config.noise} one round "
            f"costs {accountant.spend(config.noise, 1):.3g}; choose more noise, or leave noise out "
            "for the least that keeps the budget in all rounds"
        )
    return config


@dataclass(frozen=True)
class PrivatePlan:
    """What a private run will promise.

    Args:
        noise: over the largest norm of a change.
        delta: the chance for which epsilon does not answer.
        rounds: that the budget allows.
        epsilon: after these, of one worker; None where nothing is promised to workers.
        row_epsilon: after these, of one row; None where nothing is promised to rows.
    """

    noise: float
    delta: float
    rounds: int
    epsilon: float | None
    row_epsilon: float | None


def forecast_privacy(config: PrivacyConfig, crowd: Crowd) -> PrivatePlan:
    """Say what a run will promise.

    Raises:
        ValueError: for a budget that not even one round keeps.
    """
    found, accountant = resolve_privacy(config, crowd), make_accountant(config, crowd)
    rounds, spent, row_spent = crowd.rounds, None, None
    if found.guards_workers:
        rounds = accountant.count_rounds(found.noise, found.epsilon or math.inf, crowd.rounds)
        spent = accountant.spend(found.noise, rounds)
    if found.guards_rows and rounds:
        most = count_most_asked(crowd.cohort, crowd.seed, rounds)[-1]
        row_spent = spend_gaussian(found.row_noise, most * crowd.epochs, found.delta)
    return PrivatePlan(found.noise, found.delta, rounds, spent, row_spent)
