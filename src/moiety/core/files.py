"""Writing so that a file is old or new, never half; reading without running what is read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as dump
from torch import Tensor

from moiety.core.errors import RunError

PICKLE = (b"\x80", b"PK\x03\x04")
"""How pickles, and the zip files torch puts them in, begin. So may a safetensors file: its first
byte is the lowest of its header's length. Only what is no safetensors file is called a pickle."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file through to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file at once."""
    beside = path.with_name(f".{path.name}.new")
    try:
        write_bytes(beside, data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; free some space"
        ) from error


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
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; free some space, then resume"
        ) from error


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


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RunError: if the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist; give the folder of a run") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not JSON ({error}); it was cut short or changed") from error


def tensors_to_bytes(tensors: Mapping[str, Tensor], note: Mapping[str, str] | None = None) -> bytes:
    """Write tensors as safetensors; views get memory of their own first."""
    alone = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return dump(alone, metadata=dict(note or {}))


def tensors_from_bytes(data: bytes, path: Path) -> dict[str, Tensor]:
    """Read safetensors; anything else is refused, a pickle by name.

    Raises:
        RunError: if the bytes are not safetensors.
    """
    try:
        return parse(data)
    except (SafetensorError, ValueError) as error:
        if data.startswith(PICKLE):
            raise RunError(
                f"{path} is a pickle, which could run any code when read; moiety reads "
                "safetensors only. Convert it where you trust it: "
                "safetensors.torch.save_file(state_dict, path)"
            ) from None
        raise RunError(
            f"{path} is not a whole safetensors file ({error}); it was cut short or changed: "
            "copy it again from where it is whole"
        ) from error


def move_tensors(tensors: Mapping[str, Tensor], device: str) -> dict[str, Tensor]:
    """Move tensors to a device."""
    return {name: t.to(torch.device(device)) for name, t in tensors.items()}
