"""Errors that say where in a run they happened, and what to do without a checkpoint."""

from collections.abc import Sequence


def suggest_checkpoint(
    rounds: Sequence[int], none: str = "there is no other: start the run anew"
) -> str:
    """Say which checkpoints, by their rounds, to go on from instead; or what else to do.

    >>> suggest_checkpoint([4, 8])
    'resume from another with --at (4, 8)'
    """
    return f"resume from another with --at ({', '.join(map(str, rounds))})" if rounds else none


class WorkerError(RuntimeError):
    """A worker failed; the message names worker, round (from 1, as progress does) and step."""

    def __init__(self, worker: int, round_index: int, step: int | None, cause: str) -> None:
        at = "" if step is None else f", step {step}"
        super().__init__(f"worker {worker}, round {round_index + 1}{at}: {cause}")
        self.worker, self.round, self.step, self.cause = worker, round_index, step, cause

    def __reduce__(self) -> tuple[type, tuple[int, int, int | None, str]]:
        return WorkerError, (self.worker, self.round, self.step, self.cause)


class RunError(Exception):
    """Something a user can mend; the message names the value and the remedy."""


class UsageError(RunError):
    """The command line names something that does not exist; exit code 2."""
