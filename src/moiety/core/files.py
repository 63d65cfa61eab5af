"""Writing so that a file is old or new, never half; reading without running what is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from moiety.core.errors import RunError, explain_os_error

DIGEST = "check"
"""Where plain data keep the digest of all else they say."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file through to the disk."""
    with path.open("wb") as file:
        write_through(file, data)


def write_through(file: BinaryIO, data: bytes) -> None:
    """Write to an open file, through to the disk."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def write_once(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is not there yet, with its rights from its first byte on.

    Raises:
        OSError: where it is there, or cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        write_through(file, data)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file at once."""
    beside = path.with_name(f".{path.name}.new")
    try:
        write_bytes(beside, data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {explain_os_error(error)}") from error


def replace_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder with these files appear at once, replacing one of that name.

    Raises:
        RunError: if the disk is full or the folder cannot be written; nothing is left behind,
            and what was there before is still there.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for name, data in files.items():
            write_bytes(beside / name, data)
        if path.exists():
            remove_folder(path)
        beside.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise RunError(f"cannot write {path}: {explain_os_error(error)}") from error


def holds_anything(folder: Path) -> bool:
    """Say whether a place is taken: by a folder that holds something, or by what is no folder."""
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def remove_folder(path: Path) -> None:
    """Remove a folder so that it is there whole or not at all."""
    aside = path.with_name(f".{path.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)


def sync_folder(path: Path) -> None:
    """Write a folder's own entries through to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def json_to_bytes(value: Any) -> bytes:
    """Write plain data as indented JSON."""
    return (json.dumps(value, indent=2) + "\n").encode()


def find_file_fault(path: Path) -> str | None:
    """Say why a path is no file to read; None where it is one.

    Pipes and devices are never opened: reading one may wait for ever.
    """
    if path.is_file():
        return None
    if path.is_dir():
        return "is a folder"
    return "is a pipe, a socket or a device" if path.exists() else "does not exist"


@contextmanager
def refuse_damage(about: str, remedy: str) -> Iterator[None]:
    """Tell in one sentence whatever a parser of others raises, for bytes may be anything.

    Raises:
        ValueError: in place of any error but those of a user, of memory, or of a file that
            cannot be opened.
    """
    try:
        yield
    except (RunError, MemoryError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{about} ({said}); {remedy}") from error


def read_plain_file(path: Path, remedy: str) -> bytes:
    """Read a file whole.

    Raises:
        RunError: if it is none, or cannot be read.
    """
    fault = find_file_fault(path)
    if fault is not None:
        raise RunError(f"{path} {fault}; {remedy}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {explain_os_error(error)}") from error


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RunError: if the file is missing or no JSON.
    """
    data = read_plain_file(path, "give the folder of a run")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise RunError(f"{path} is nested too deeply; it was changed") from error
    except ValueError as error:
        raise RunError(f"{path} is not JSON ({error}); it was cut short or changed") from error


def digest_bytes(data: bytes) -> str:
    """Sum up bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Sum up a file, a piece at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_plain(value: Mapping[str, Any]) -> str:
    """Sum up all that plain data say but their digest."""
    rest = json.loads(json.dumps({name: one for name, one in value.items() if name != DIGEST}))
    return digest_bytes(json.dumps(rest, sort_keys=True).encode())


def add_digest(value: Mapping[str, Any]) -> dict[str, Any]:
    """Add to plain data their digest, so that a change is noticed.

    >>> is_intact(add_digest({"round": 3})), is_intact({**add_digest({"round": 3}), "round": 2})
    (True, False)
    """
    return {**value, DIGEST: digest_plain(value)}


def is_intact(value: Mapping[str, Any]) -> bool:
    """Say whether plain data are those that their digest was made of."""
    try:
        return value.get(DIGEST) == digest_plain(value)
    except RecursionError:
        return False
