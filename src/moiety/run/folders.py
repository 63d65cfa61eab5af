"""The folder of a run belongs to one process at a time, from before its first byte to the end."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from moiety.core.errors import RunError
from moiety.engine.ranks import Ranks
from moiety.ops.text import write_command
from moiety.run.lock import claim_lock, close_all, give_signs_of_life, refuse_held, release_lock

LOCK = "lock.json"


@contextmanager
def hold_folder(folder: Path, *, empty: bool = False, new: bool = False) -> Iterator[Path]:
    """Hold a folder while a run writes there, and make it if need be.

    A folder that is still empty at the end is taken away again, with those above it, if it was made
    here.

    Args:
        folder: of a run, or of a group of runs.
        empty: refuse a folder that holds anything.
        new: refuse a folder that exists.

    Raises:
        FileExistsError: if the folder exists and is to be new.
        RunError: if another process holds the folder, it is not empty and is to be, or nothing can
            be written there. Nothing in it has changed then.
    """
    with ExitStack() as held:
        try:
            made = make_folders(folder, new=new)
            held.callback(remove_empty_folders, made)
            if empty:
                check_empty(folder)
            handles = [claim_lock(folder / LOCK)]
        except FileExistsError:
            raise
        except OSError as error:
            raise RunError(
                f"cannot write in {folder}: {error.strerror or error}; a run keeps its files "
                "there: choose another folder, or make this one writable"
            ) from error
        held.callback(release_lock, folder / LOCK, handles)
        if empty:
            check_empty(folder)
        os.register_at_fork(after_in_child=lambda: close_all(handles))
        held.enter_context(give_signs_of_life(handles[0]))
        yield folder


@contextmanager
def hold_new_folder(out: Path | None, name: str) -> Iterator[Path]:
    """Hold a folder for a new run: the one asked for, or the first of ``runs/NAME-N`` that is free.

    Raises:
        RunError: if the folder that was asked for holds something, or is another's.
    """
    with ExitStack() as held:
        yield held.enter_context(hold_folder(out, empty=True)) if out else hold_free(held, name)


def hold_free(held: ExitStack, name: str) -> Path:
    """Hold the first folder of a name that nobody has made yet."""
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    while True:
        with suppress(FileExistsError):
            return held.enter_context(
                hold_folder(Path("runs") / f"{name}{next(endings)}", new=True)
            )


@contextmanager
def hold_folders(group: Path, runs: Sequence[Path]) -> Iterator[Path]:
    """Hold the folder of a group and those of its runs; of a run alone, its own."""
    with ExitStack() as held:
        for folder in dict.fromkeys((group, *runs)):
            held.enter_context(hold_folder(folder))
        yield group


@contextmanager
def hold_for_all(ranks: Ranks, claim: AbstractContextManager[Path]) -> Iterator[Path]:
    """Let rank 0 hold a folder for all ranks; what it is refused is told to all."""
    with ExitStack() as held:
        told: Path | RunError | None = None
        if ranks.leads:
            try:
                told = held.enter_context(claim)
            except RunError as error:
                told = error
        told = ranks.broadcast(told)
        if not isinstance(told, Path):
            raise told or RunError("rank 0 holds no folder")
        yield told


def make_folders(folder: Path, *, new: bool) -> list[Path]:
    """Make a folder and those above it; list the made ones, the deepest first."""
    made: list[Path] = []
    for one in (*reversed(folder.parents), folder):
        if one.exists() and not (new and one == folder):
            continue
        try:
            one.mkdir()
        except FileExistsError:
            if new and one == folder:
                raise
        else:
            made.insert(0, one)
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, but a run is a folder; choose another --out")
    return made


def remove_empty_folders(folders: list[Path]) -> None:
    """Remove folders that are empty."""
    with suppress(OSError):
        for one in folders:
            one.rmdir()


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds more than a free lock, or what a kill left half written."""
    names = {one.name for one in folder.iterdir()} - {LOCK}
    if not all(name.startswith(".") and name.endswith(".new") for name in names):
        refuse_held(folder / LOCK)
        runs = names & {"config.json", "group.json"}
        further = f", or go on with it: {write_command('resume', folder)}" if runs else ""
        raise RunError(f"{folder} already holds something; choose another --out{further}")
