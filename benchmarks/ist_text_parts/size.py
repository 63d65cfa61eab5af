"""How large a piece of a transformer is, counted beside the formula."""

from __future__ import annotations

import torch

from benchmarks.gates import Gate
from moiety.models.blocks import Sizes
from moiety.models.transformer import gpt

WIDTH, BLOCKS, TOKENS, PLACES = 768, 12, 50_257, 1024


def sizes() -> list[Gate]:
    """Compare the shares of GPT-2 small of 2, 4, 8 workers with section 9.1."""
    asked = {(): (0.658, 0.488, 0.402), (0, -1): (0.715, 0.573, 0.502)}
    gates = []
    for shared, shares in asked.items():
        widths = Sizes.even(WIDTH, 12, 4 * WIDTH, BLOCKS)
        model = gpt(TOKENS, PLACES, widths, torch.Generator().manual_seed(0), shared_blocks=shared)
        whole = sum(t.numel() for t in model.params.values())
        dealt = sum(model.params[name].numel() for name in model.axes)
        found = tuple(round((whole - dealt + dealt / n) / whole, 3) for n in (2, 4, 8))
        name = f"GPT-2 small, blocks {shared or 'none'} shared: P, and P_s / P for n = 2, 4, 8"
        good = whole == 124_439_808 and found == shares
        gates.append(Gate(name, f"124439808, {shares}", f"{whole}, {found}", good))
    return gates
