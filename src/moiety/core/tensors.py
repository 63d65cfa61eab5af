"""Tensors as bytes that cannot run code, and on the device where they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as dump
from torch import Tensor

from moiety.core.errors import RunError

PICKLE = (b"\x80", b"PK\x03\x04")
"""How pickles, and the zip files torch puts them in, begin. So may a safetensors file: its first
byte is the lowest of its header's length. Only what is no safetensors file is called a pickle."""


def tensors_to_bytes(tensors: Mapping[str, Tensor], note: Mapping[str, str] | None = None) -> bytes:
    """Write tensors as safetensors; views get memory of their own first."""
    alone = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return dump(alone, metadata=dict(note or {}))


def tensors_from_bytes(data: bytes, path: Path) -> dict[str, Tensor]:
    """Read safetensors, sorted by name; anything else is refused, a pickle by name.

    The library gives them in another order in every process.

    Raises:
        RunError: if the bytes are not safetensors.
    """
    try:
        return dict(sorted(parse(data).items()))
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


def digest_tensors(*trees: Mapping[str, Tensor]) -> str:
    """Give a digest of the numbers of some tensors, in the order of their names."""
    found = hashlib.blake2b(digest_size=32)
    for tree in trees:
        for name in sorted(tree):
            tensor = tree[name].detach().cpu().contiguous()
            found.update(repr((name, tensor.shape, tensor.dtype)).encode())
            found.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
