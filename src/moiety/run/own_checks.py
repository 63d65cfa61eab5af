"""What a call of ``moiety.train`` gives, checked before anything is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from moiety.core.errors import RunError, UnknownNameError
from moiety.core.typed import check_types
from moiety.engine.choose import RANK_ENGINES
from moiety.engine.ranks import is_under_torchrun
from moiety.recipes.fields import suggest_names
from moiety.run.device import check_device
from moiety.run.ledger import Watcher
from moiety.run.own_run import TrainConfig
from moiety.run.trackers import check_trackers

TEST_GROUPS = ("seen", "unseen", "validation", "test")


def check_call(how: TrainConfig, test: Mapping[str, object]) -> None:
    """Refuse what is no configuration, values of other types, and a device that is not there.

    Raises:
        ValueError: for these, with the value and the type.
        RunError: for a device.
    """
    if not isinstance(how, TrainConfig):
        raise ValueError(  # noqa: TRY004 (a value of a call, as all others)
            f"how={how!r} is a {type(how).__name__}; give moiety.TrainConfig(rounds=...)"
        )
    check_types(how, "TrainConfig")
    check_device(how.device)
    check_trackers(how.log)
    check_groups(test)


def check_watchers(watch: Watcher | Sequence[Watcher]) -> Sequence[Watcher]:
    """Give those who look on, one or several.

    Raises:
        ValueError: for what cannot be called.
    """
    found = list(watch) if isinstance(watch, Sequence) else [watch]
    for one in found:
        if not callable(one):
            raise ValueError(  # noqa: TRY004 (a value of a call, as all others)
                f"watch={one!r} cannot be called; give functions of an entry of the ledger"
            )
    return found


def check_groups(test: Mapping[str, object]) -> None:
    """Refuse groups of test rows that nothing reads."""
    for name in test:
        if name not in TEST_GROUPS:
            raise UnknownNameError(f"test group {name!r}{suggest_names(name, TEST_GROUPS)}")


def check_training(how: TrainConfig, num_workers: int) -> None:
    """Refuse numbers and engines that do not fit."""
    if how.engine in RANK_ENGINES:
        raise RunError(
            f"train() plays in one process, but engine={how.engine!r} uses several; choose auto, "
            "serial, vectorized or pool, or take Collective and Ranks as docs/cluster.md says"
        )
    if is_under_torchrun() and int(os.environ["WORLD_SIZE"]) > 1:
        raise RunError(
            "torchrun started several processes, but train() plays in one; start it without "
            "torchrun, or a recipe of moiety run with --engine collective"
        )
    if not 0 <= how.size <= num_workers or how.rounds < 0 or how.evaluate_every < 0:
        raise ValueError(
            f"size={how.size} of {num_workers} workers, rounds={how.rounds}, evaluate_every="
            f"{how.evaluate_every}; choose 0 to {num_workers}, at least 0, at least 0"
        )
    how.schedule.check(how.size or num_workers)
