"""A private run: its key, what it costs, and how far its budget goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moiety.core.checkpoints import list_checkpoints
from moiety.core.errors import RunError
from moiety.core.keys import KEY_FILE, read_key, write_new_key
from moiety.engine.remote import Remote
from moiety.engine.summed import SummedRemote
from moiety.privacy.accountant import Accountant, count_asked, spend_gaussian
from moiety.privacy.config import PrivacyConfig
from moiety.privacy.crowd import Crowd, make_accountant
from moiety.rounds.cohort import CohortRule
from moiety.rounds.private import PrivateRounds, SecretCohort, Spending
from moiety.rounds.staged import StagedRounds
from moiety.rounds.synchronous import SynchronousRounds
from moiety.run.loop import CHECKPOINTS


def play_privately(
    rounds: StagedRounds, config: PrivacyConfig, crowd: Crowd, folder: Path
) -> tuple[StagedRounds, int, str]:
    """Play rounds with noise, no more than the budget allows.

    Returns:
        The rounds, how many of them, and why not all that are planned.
    """
    plain = rounds.rounds
    assert isinstance(plain, SynchronousRounds)
    accountant, key = make_accountant(config, crowd), keep_key(folder)
    size = float(crowd.size) if config.is_secret else 0.0
    if config.is_secret:
        cohort = SecretCohort(crowd.workers, accountant.chance, key)
        plain = replace(plain, cohort=cohort)
    spending = make_spending(config, crowd, accountant, plain.cohort)
    at_nodes = isinstance(plain.engine, Remote | SummedRemote)  # they have keys of their own
    private = PrivateRounds(
        rounds.stages[0].method,
        plain,
        spending,
        config.noise,
        size,
        key,
        row_key=b"" if at_nodes else key,
    )
    count, ending = crowd.rounds, ""
    if config.epsilon:
        count = accountant.count_rounds(config.noise, config.epsilon, crowd.rounds)
    if count < crowd.rounds:
        more = accountant.spend(config.noise, count + 1)
        ending = (
            f"another round would cost epsilon {more:.4g}, more than "
            f"privacy.epsilon={config.epsilon:g}"
        )
    return replace(rounds, rounds=private), count, ending


def make_spending(
    config: PrivacyConfig, crowd: Crowd, accountant: Accountant, cohort: CohortRule
) -> Spending:
    """Say what rounds tell of a worker and of a row."""
    asked = count_asked(cohort, crowd.seed, crowd.rounds) if config.guards_rows else ()

    def spend(count: int) -> float:
        return accountant.spend(config.noise, count)

    def spend_rows(count: int, worker: int) -> float:
        times = asked[count - 1][worker] * crowd.epochs
        return spend_gaussian(config.row_noise, times, config.delta)

    return Spending(
        spend if config.guards_workers else None, spend_rows if config.guards_rows else None
    )


def keep_key(folder: Path) -> bytes:
    """Read the key of a run, or make one where the run begins.

    Raises:
        RunError: where a run that has begun lacks it, or it is damaged.
    """
    path = folder / KEY_FILE
    key = read_key(path)
    if key is None and list_checkpoints(folder / CHECKPOINTS):
        raise RunError(
            f"{path} is missing, and without it rounds would be played again with other noise, "
            "which tells more than the ledger says; bring it back, or start the run anew"
        )
    return write_new_key(path) if key is None else key
