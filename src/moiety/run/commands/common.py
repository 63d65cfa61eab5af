"""What several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import tyro

from moiety.core.errors import RunError, UsageError
from moiety.engine.choose import ENGINES
from moiety.methods import METHODS
from moiety.ops.text import write_command
from moiety.recipes import RECIPES, RecipeEntry
from moiety.recipes.build import REFERENCE
from moiety.recipes.fields import override_fields, read_fields, suggest_names
from moiety.recipes.record import Federation
from moiety.run.echo import echo, echo_warning

T = TypeVar("T")


def parse_words(
    kind: type[T], words: Sequence[str], *, prog: str, about: str, default: Any = None
) -> T:
    """Parse words into a record; prints help and exits by itself, with 2 where they do not fit."""
    extra = {} if default is None else {"default": default}
    return tyro.cli(
        kind,
        args=list(words),
        prog=f"moiety {prog}",
        description=about,
        config=(tyro.conf.HelptextFromCommentsOff,),
        **extra,
    )


def take_recipe(words: Sequence[str], command: str) -> tuple[str, RecipeEntry, list[str]]:
    """Take the recipe's name off the words."""
    if not words or words[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:18} {recipe.about}" for name, recipe in RECIPES.items())
        echo(f"usage: moiety {command} RECIPE [--field value ...]\n\nrecipes:\n{lines}\n")
        echo(f"moiety {command} RECIPE --help lists the fields of a recipe.")
        raise SystemExit(0 if words else 2)
    if words[0] not in RECIPES:
        raise UsageError(f"unknown recipe {words[0]!r}{suggest_names(words[0], RECIPES)}")
    return words[0], RECIPES[words[0]], list(words[1:])


def apply_fields_file(record: Federation, words: Sequence[str]) -> tuple[Federation, list[str]]:
    """Apply the file named by ``--config``, before the words that override it."""
    rest, words = [], list(words)
    while words:
        word = words.pop(0)
        name, eq, value = word.partition("=")
        if name != "--config":
            rest.append(word)
            continue
        if not eq and not words:
            raise UsageError("--config needs a TOML file of fields")
        try:
            record = override_fields(record, read_fields(Path(value if eq else words.pop(0))))
        except ValueError as error:
            raise UsageError(str(error)) from error
    return record, rest


def check_record(record: Federation) -> Federation:
    """Check names and numbers before anything is built."""
    for method in record.methods:
        if method not in METHODS and method != REFERENCE:
            raise UsageError(
                f"unknown method {method!r}{suggest_names(method, [*METHODS, REFERENCE])}"
            )
    if record.engine not in ENGINES and record.engine != "auto":
        near = suggest_names(record.engine, ["auto", *ENGINES])
        raise UsageError(f"unknown engine {record.engine!r}{near}")
    check_device(record.device)
    if record.engine == "pool" and record.device != "cpu":
        raise UsageError(f"engine 'pool' is for the CPU, not {record.device!r}; say 'vectorized'")
    if len(set(record.methods)) < len(record.methods) or not record.methods:
        raise UsageError(f"methods {record.methods}: name at least one, each once")
    if min(record.rounds, record.seeds, record.evaluate_every) < 1:
        raise UsageError(
            f"rounds={record.rounds}, seeds={record.seeds} and evaluate_every="
            f"{record.evaluate_every} must be at least 1"
        )
    return record


def check_device(name: str) -> None:
    """Refuse a device that is not there."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}; choose 'cpu' or 'cuda'")
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise RunError(f"device {name!r}, but this machine has {count} GPUs; choose 'cpu'")


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
