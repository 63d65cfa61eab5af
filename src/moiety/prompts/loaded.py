"""What a folder of an adapter may hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

PROMPTS_MARK = ".mops_"
"""What names of the method's tensors have; others (embeddings, say) may lie beside them."""


def check_tensor_names(held: Collection[str], known: Collection[str], adapter: str) -> None:
    """Refuse a file that lacks tensors of an adapter, or has some that its choices do not have.

    Args:
        held: names of the tensors in the file, as the model has them.
        known: names of the model's tensors.
        adapter: its name.

    Raises:
        ValueError: with the first that is missing, or too many.
    """
    wanted = {
        name for name in known
        if PROMPTS_MARK in name and (f".{adapter}." in name or name.endswith(f".{adapter}"))
    }  # fmt: skip
    missing = sorted(wanted - {*held})
    spare = sorted(name for name in held if PROMPTS_MARK in name and name not in wanted)
    if missing or spare:
        told = f"lacks {missing[0]}" if missing else f"has {spare[0]}, which its choices do not"
        raise ValueError(
            f"adapter {adapter!r}: its adapter_model file {told}; load a sound copy of the folder, "
            "whose adapter_config.json was written with it"
        )


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
