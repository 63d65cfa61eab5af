"""How much a command tells of runs while they go on; no number depends on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from moiety.core.errors import UsageError
from moiety.recipes.common import EpochWatcher, ignore_epoch
from moiety.run.echo import echo_warning
from moiety.run.loop import Watcher
from moiety.run.watch import CommonProgress, Detailed, Progress, RefusalWarner


@dataclass(frozen=True)
class Display:
    """What is told of runs.

    Args:
        watch: makes those who look on at a run, of its label, its rounds, and those played before.
        watch_common: makes one who looks on while a common expert is trained.
        say: tells what the data were taken for.
    """

    watch: Callable[[str, int, int], Sequence[Watcher]]
    watch_common: Callable[[], EpochWatcher]
    say: Callable[[str], None]


PLAIN = Display(
    lambda label, rounds, done: [Progress(label, rounds, done), RefusalWarner(label)],
    CommonProgress,
    echo_warning,
)
VERBOSE = Display(
    lambda label, rounds, done: [Detailed(label, rounds), RefusalWarner(label)],  # noqa: ARG005
    partial(CommonProgress, lines=0),
    echo_warning,
)
QUIET = Display(
    lambda label, rounds, done: [RefusalWarner(label)],  # noqa: ARG005
    lambda: ignore_epoch,
    lambda line: None,  # noqa: ARG005
)


def choose_display(*, quiet: bool, verbose: bool) -> Display:
    """Choose by what was asked for.

    Raises:
        UsageError: where both are.
    """
    if quiet and verbose:
        raise UsageError("--quiet and --verbose ask for less and for more; say one of them")
    if quiet:
        return QUIET
    return VERBOSE if verbose else PLAIN
