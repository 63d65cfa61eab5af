"""Errors that say where in a run they happened, what is wrong, and what to do."""

import errno
import re
from collections.abc import Mapping, Sequence

OS_REMEDIES: Mapping[int, str] = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or use another disk",
    errno.EACCES: "change its permissions, or use another folder",
    errno.EPERM: "change its permissions, or use another folder",
    errno.EROFS: "use a folder that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "name a path of which every part but the last is a folder",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs, which hold too many files open",
    errno.ENOENT: "check the path",
    errno.ELOOP: "mend the links, which lead in a circle",
}
"""What a user can do, by the number of what went wrong."""


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


class ToldError(Exception):
    """What another process of this machine tells already: only the exit code is left to give."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class UnknownNameError(UsageError, ValueError):
    """A value names something that does not exist, wherever it is found out."""


def explain_os_error(error: OSError) -> str:
    """Say what is wrong with a file and, where it is known, what to do.

    >>> explain_os_error(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device; free some space'
    """
    cause = error.strerror or str(error) or type(error).__name__
    remedy = OS_REMEDIES.get(error.errno or 0)
    return f"{cause}; {remedy}" if remedy else cause


ASKED = re.compile(
    r"(?:ried to allocate|Unable to allocate|malloc of size) ([\d.]+) ?([KMGTPE]i?B)?"
)
"""How torch, numpy and Arrow say what they asked for."""

SHORT_OF_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
"""How torch says so: its errors have no type of their own."""


def explain_memory_error(error: BaseException) -> str | None:
    """Say how much memory was asked for and what to make smaller; None for another error.

    >>> error = RuntimeError("can't allocate memory: you tried to allocate 8 bytes.")
    >>> explain_memory_error(error).partition(";")[0]
    'not enough memory: 8 bytes were asked for at once'
    """
    said = str(error)
    if not isinstance(error, MemoryError) and not any(word in said for word in SHORT_OF_MEMORY):
        return None
    found = ASKED.search(said)
    size = f": {found[1]} {found[2] or 'bytes'} were asked for at once" if found else ""
    return (
        f"not enough memory{size}; choose a smaller network, fewer experts or workers, smaller "
        "batches, or fewer rows"
    )
