"""Whether a device is there."""

from __future__ import annotations

import torch

from moiety.core.errors import RunError, UsageError


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
