"""Files that nobody else may read: with a key, or with what makes one."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from moiety.core.errors import RunError, explain_os_error
from moiety.core.files import write_once
from moiety.ops.keyed_noise import KEY_BYTES

OWNER_ALONE = 0o600
"""Rights of a file that nobody else may read."""

KEY_FILE = "noise.key"
"""The file in the folder of a run, or of a node, that nobody else may read."""


def read_key(path: Path) -> bytes | None:
    """Read a key, where there is one.

    Raises:
        RunError: where it is damaged.
    """
    if not path.is_file():
        return None
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise RunError(f"{path} is damaged; bring it back from a copy, or start the run anew")
    return key


def write_new_key(path: Path) -> bytes:
    """Draw a key from the system's generator and write it, readable by its owner alone.

    Raises:
        RunError: where it cannot be written.
    """
    key = secrets.token_bytes(KEY_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_once(path, key, OWNER_ALONE)
    except OSError as error:
        raise RunError(f"cannot write {path}: {explain_os_error(error)}") from error
    return key


def replace_secret_file(path: Path, data: bytes) -> None:
    """Replace a file at once; nobody but its owner may read it, at no moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    write_once(beside, data, OWNER_ALONE)
    beside.replace(path)


def derive_key(key: bytes, purpose: str) -> bytes:
    """Make another key of one, from which nobody finds that one.

    >>> derive_key(bytes(32), "a") == derive_key(bytes(32), "b")
    False
    """
    return hashlib.shake_256(key + purpose.encode()).digest(KEY_BYTES)
