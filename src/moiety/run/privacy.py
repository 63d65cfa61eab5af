"""A private run: its key, what it costs, and how far its budget goes."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path

from moiety.core.checkpoints import list_checkpoints
from moiety.core.errors import RunError, explain_os_error
from moiety.ops.keyed_noise import KEY_BYTES
from moiety.privacy.config import PrivacyConfig
from moiety.privacy.crowd import Crowd, make_accountant
from moiety.rounds.private import PrivateRounds, SecretCohort
from moiety.rounds.staged import StagedRounds
from moiety.rounds.synchronous import SynchronousRounds
from moiety.run.loop import CHECKPOINTS

KEY_FILE = "noise.key"
"""The file in a run's folder that nobody else may read."""


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

    def spend(count: int) -> float:
        return accountant.spend(config.noise, count)

    method = rounds.stages[0].method
    private = PrivateRounds(method, plain, config.noise, size, key, spend)
    count, ending = crowd.rounds, ""
    if config.epsilon:
        count = accountant.count_rounds(config.noise, config.epsilon, crowd.rounds)
    if count < crowd.rounds:
        ending = (
            f"another round would cost epsilon {spend(count + 1):.4g}, more than "
            f"privacy.epsilon={config.epsilon:g}"
        )
    return replace(rounds, rounds=private), count, ending


def keep_key(folder: Path) -> bytes:
    """Read the key of a run, or make one where the run begins.

    Raises:
        RunError: where a run that has begun lacks it, or it is damaged.
    """
    path = folder / KEY_FILE
    if path.is_file():
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise RunError(f"{path} is damaged; bring it back from a copy, or start the run anew")
        return key
    if list_checkpoints(folder / CHECKPOINTS):
        raise RunError(
            f"{path} is missing, and without it rounds would be played again with other noise, "
            "which tells more than the ledger says; bring it back, or start the run anew"
        )
    key = secrets.token_bytes(KEY_BYTES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"cannot write {path}: {explain_os_error(error)}") from error
    return key
