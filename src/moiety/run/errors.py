"""What a user is told, without a traceback."""

from __future__ import annotations

from pathlib import Path

from moiety.core.errors import RunError, explain_memory_error
from moiety.engine.ranks import RankLostError
from moiety.ops.text import write_command


def explain_failure(error: Exception, folder: Path | None, ranks: int) -> RunError:
    """Say why a run of so many ranks failed, and how it goes on.

    Args:
        error: what went wrong.
        folder: of the run or group of runs; None before it is chosen.
        ranks: how many there are.
    """
    if folder is None or (is_link_lost(error, ranks) and not folder.exists()):
        return RunError(
            "another rank was lost, or does not answer, before anything was written: start all "
            f"ranks anew (cause: {error})"
        )
    some = any(any(folder.glob(f"{run}checkpoints/[0-9]*")) for run in ("", "*/"))
    kept = f"The last checkpoint is kept in {folder}" if some else "No checkpoint was written yet"
    memory = explain_memory_error(error)
    if memory is not None:
        return RunError(f"{memory}. {kept} (cause: {error})")
    if not is_link_lost(error, ranks):
        return RunError(f"{error}. {kept}")
    return RunError(
        f"another rank was lost, or does not answer. {kept}; go on with as many ranks, or another "
        f"number: torchrun --nproc-per-node {ranks} -m {write_command('resume', folder)} "
        f"(cause: {error})"
    )


def is_link_lost(error: Exception, ranks: int) -> bool:
    """Say whether an error is of the link between ranks.

    The ranks name it; what torch raises elsewhere is known by the name of its type, for only the
    engine knows torch.distributed, and gloo raises bare RuntimeErrors, which name their file.
    """
    if isinstance(error, RankLostError):
        return ranks > 1
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return ranks > 1 and ("DistError" in kinds or "gloo/transport" in str(error))
