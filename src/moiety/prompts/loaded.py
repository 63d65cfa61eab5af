"""What a folder of an adapter may hold."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def check_loaded(tensors: Mapping[str, Tensor], adapter: str) -> None:
    """Refuse what a folder holds of an adapter if some numbers are none.

    Raises:
        ValueError: with the first tensor that has such.
    """
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(
                f"adapter {adapter!r}: {name} in its adapter_model file has numbers that are "
                "not finite; load a sound copy of the folder, or train it anew at a lower rate"
            )
