"""Values as bytes, for ranks whose tensors lie on GPUs of their own."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class PackedValue:
    """A value as bytes, for ranks whose tensors lie on GPUs of their own."""

    data: bytes


def pack_value(value: Any) -> Any:
    """Pack a value where there are GPUs: a tensor pickled plainly comes back on the sender's."""
    if not torch.cuda.is_available():
        return value
    file = io.BytesIO()
    torch.save(value, file)
    return PackedValue(file.getvalue())


def unpack_value(value: Any) -> Any:
    """Give a value back, its tensors on our own device."""
    if not isinstance(value, PackedValue):
        return value
    # Only our own processes are read, as everywhere in this class.
    return torch.load(io.BytesIO(value.data), map_location=place_storage, weights_only=False)


def place_storage(storage: Any, location: str) -> Any:
    """Put a storage that lay on any GPU on ours, and leave others where they are."""
    return storage.cuda(torch.cuda.current_device()) if location.startswith("cuda") else storage
