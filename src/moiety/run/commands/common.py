"""What several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moiety.core.errors import RunError, UsageError
from moiety.engine.names import ENGINES
from moiety.models.networks import NETWORKS
from moiety.ops.text import write_command
from moiety.recipes.fields import CATALOGUE, suggest_names
from moiety.recipes.options import PLAYED
from moiety.recipes.record import Federation
from moiety.run.device import check_device
from moiety.run.echo import echo_warning


def check_names(record: Federation) -> None:
    """Refuse methods and a network that are not there."""
    for method in record.methods:
        if method not in PLAYED:
            raise UsageError(f"unknown method {method!r}{suggest_names(method, PLAYED, CATALOGUE)}")
    if record.net not in NETWORKS:
        near = suggest_names(record.net, NETWORKS, CATALOGUE)
        raise UsageError(f"unknown network {record.net!r}{near}")


def check_engine(record: Federation) -> None:
    """Check the name of the engine, and that it is one that a command plays."""
    if record.engine not in ENGINES and record.engine != "auto":
        near = suggest_names(record.engine, ["auto", *ENGINES])
        raise UsageError(f"unknown engine {record.engine!r}{near}")
    if record.engine == "flower":
        raise UsageError(
            "engine 'flower' plays on nodes that wait for it: moiety flower new DIR writes an app, "
            "and flwr run DIR starts it (docs/federation.md)"
        )
    if record.engine == "pool" and record.device != "cpu":
        raise UsageError(f"engine 'pool' is for the CPU, not {record.device!r}; say 'vectorized'")


def check_record(record: Federation) -> Federation:
    """Check names and numbers before anything is built."""
    check_names(record)
    check_engine(record)
    check_device(record.device)
    if record.log:
        from moiety.run.trackers import check_trackers  # of few runs

        check_trackers(record.log)
    if not record.methods:
        raise UsageError(
            "--methods names none; name at least one, as in --methods ddome fedavg (moiety list "
            "shows all)"
        )
    twice = sorted({name for name in record.methods if record.methods.count(name) > 1})
    if twice:
        raise UsageError(f"--methods names {', '.join(twice)} twice; name each once")
    for name, least in {"rounds": 1, "seeds": 1, "evaluate_every": 0}.items():
        if getattr(record, name) < least:
            raise UsageError(f"{name}={getattr(record, name)}; choose at least {least}")
    if record.common.model:
        refuse_unread_model(record)
    return record


def refuse_unread_model(record: Federation) -> None:
    """Refuse a common expert that no method of the run reads."""
    from moiety.recipes.loaded import check_common_read  # imports the methods, and what serves

    try:
        check_common_read(record)
    except ValueError as error:
        raise UsageError(str(error)) from error


def explain_stop(folder: Path | None) -> None:
    """Say how to go on after Ctrl-C; None where no folder was held yet."""
    if folder is not None and folder.exists():
        command = write_command("resume", folder)
        echo_warning(f"\nstopped; go on from the last checkpoint with: {command}")
    else:
        echo_warning("\nstopped before the first round; nothing is written")


def write_runs_report(runs: Sequence[Path], out: Path) -> Path | None:
    """Write the report beside the runs; say why not where an extra or the place is missing."""
    try:
        from moiety.report import write_report  # heavy, and an extra
    except ImportError as error:
        echo_warning(f"no report: {error}")
        return None
    try:
        return write_report(runs, out)
    except (ImportError, RunError) as error:
        echo_warning(f"no report: {error}")
        return None


def check_writable(path: Path | None) -> None:
    """Refuse a file that cannot be written where it is said to be.

    Raises:
        RunError: for a folder that does not exist, or a file that is a folder.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise RunError(
            f"--out {path}: the folder {path.parent} does not exist; make it, or choose another"
        )
    if path.is_dir():
        raise RunError(f"--out {path} is a folder; name a file in it")


def check_folder(folder: Path) -> Path:
    """Refuse a folder that is not there."""
    if not folder.exists():
        raise RunError(f"{folder} does not exist; moiety run writes runs to ./runs")
    return folder
