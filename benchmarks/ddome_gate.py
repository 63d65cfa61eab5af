"""How well DDOME's gate finds the right expert, and what the right one would have said.

The right expert of a row is that whose anchor holds most rows of the row's class. It needs the
label, so no serving can reach it: the oracle knows more than which expert is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from moiety.core.rows import Rows, chunk_positions
from moiety.core.types import Params
from moiety.models.gated import EXPERT, GatedExperts
from moiety.recipes.build import RunInputs
from moiety.serve.choose import Routed
from moiety.split.gated import Gated


def judge_gate(built: RunInputs, params: Params, workers: Mapping[int, Rows]) -> dict[str, float]:
    """Say in percent, as means over workers, how gate and experts do; nothing without anchors.

    Args:
        built: the run, of ddome.
        params: of the finished model.
        workers: worker -> rows with labels.
    """
    model, serve = built.method.model, built.method.serve
    split = built.method.split
    if not isinstance(model, GatedExperts) or not isinstance(serve, Routed):
        return {}
    if not isinstance(split, Gated) or not split.anchors:
        return {}  # as of fedmix, whose experts are nobody's
    owner_C = find_owners(built)
    with torch.no_grad():
        found = [judge_worker(model, serve, params, rows, owner_C) for rows in workers.values()]
    return {
        name: round(100 * sum(float(one[name]) for one in found) / len(found), 2)
        for name in found[0]
    }


def find_owners(built: RunInputs) -> Tensor:
    """Find the expert of each class, [C]; that of its anchor with most rows of the class."""
    counts: Any = built.seen_counts
    anchors = sorted(built.anchors, key=built.anchors.__getitem__)
    return torch.tensor([counts[worker] for worker in anchors]).argmax(0)


def judge_worker(
    model: GatedExperts, serve: Routed, params: Params, rows: Rows, owner_C: Tensor
) -> dict[str, Tensor]:
    """Judge the rows of a worker: each figure is a share of them.

    ``shared`` is the gate's weight on what everyone holds, over that on all that the worker holds.
    """
    held = serve.choose(params, rows).axes[EXPERT]
    parts: dict[str, list[Tensor]] = {}
    for ids in chunk_positions(rows, 2048):
        batch = rows.take(ids)
        seen = batch if "embed" in batch else model.common(batch)
        right_EB = model.expert_logits(params, seen).argmax(-1) == batch["y"]
        gate_BE, own_B = model.log_gate(params, seen), owner_C[batch["y"]]
        every_B = gate_BE.argmax(-1)
        mine_B = held[gate_BE[:, held].argmax(-1)]
        one_B = torch.arange(len(own_B))
        figures = {
            "gate_names_owner": every_B == own_B,
            "owner_is_held": torch.isin(own_B, held),
            "routed_to_owner": mine_B == own_B,
            "routed": right_EB[mine_B, one_B],
            "oracle": right_EB[own_B, one_B],
            "any_held": right_EB[held].any(0),
        }
        if serve.shared:
            weight_BK = gate_BE[:, held].softmax(-1)
            figures["shared"] = weight_BK[:, len(held) - serve.shared :].sum(-1)
        for name, figure_B in figures.items():
            parts.setdefault(name, []).append(figure_B.double())
    return {name: torch.cat(one).mean() for name, one in parts.items()}
