"""A graph network in blocks of features, of which nobody need hold more than some.

A layer's weight lies in blocks of the features it makes, the output's in blocks of those it reads.

Letters: N nodes, H features of a layer, h of them at hand, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from moiety.blocks.form import Holders, draw_units
from moiety.core.rows import Rows
from moiety.core.types import Batch, Params
from moiety.models.graph import INPUTS, GraphNet


@dataclass(frozen=True)
class GraphForm:
    """How ``GraphNet`` lies in blocks.

    Args:
        model: its shapes and axes.
    """

    model: GraphNet

    def dim(self, name: str, /) -> int | None:
        entries = list(enumerate(self.model.axes.get(name, ())))
        found = [place for place, entry in entries if entry is not None and entry != INPUTS]
        return found[-1] if found else None

    def first(self, name: str, units: range, seed: int, /) -> Tensor:
        """Draw weights; biases are nothing."""
        shape = self.model.params[name].shape
        if not name.endswith(".w"):
            return torch.zeros(len(units))
        fan_in = shape[:-1].numel()  # of GraphSAGE, from the node and from its neighbours
        dim = self.dim(name)
        dim = len(shape) - 1 if dim is None else dim
        return draw_units(shape, dim, units, fan_in, (seed, "first", name))

    def fix(self, shard: Params, rows: Rows | None, holders: Holders, /) -> Params:
        """Give nothing: the norm is over a node's features, so the whole needs no statistics."""
        del shard, rows, holders
        return {}

    def logits(self, shard: Params, batch: Batch, fixed: Params, holders: Holders, /) -> Tensor:
        del fixed
        model, h_NH = self.model, batch["x"]
        links = model.conv.links(batch["edges"], len(h_NH), h_NH)
        for place in range(1, model.depth):
            z_Nh = model.conv.apply(links, h_NH, shard[f"layer{place}.w"])
            h_Nh = self.normalise(F.relu(z_Nh + shard[f"layer{place}.b"]), place, holders)
            h_NH = h_Nh if place + 1 == model.depth else holders.join_columns(h_Nh)
        out = model.conv.apply(links, h_NH, shard[f"layer{model.depth}.w"])
        return (holders.add_up(out) if model.depth > 1 else out) + shard[f"layer{model.depth}.b"]

    def normalise(self, h_Nh: Tensor, place: int, holders: Holders, eps: float = 1e-5) -> Tensor:
        """Normalise over all features of a node, [N, h]: ``layer_norm`` of which we hold some."""
        size = self.model.params[f"layer{place}.b"].shape[0]
        mean_N1 = holders.add_up(h_Nh.sum(1, keepdim=True)) / size
        h_Nh = h_Nh - mean_N1
        var_N1 = holders.add_up((h_Nh * h_Nh).sum(1, keepdim=True)) / size
        return h_Nh * (var_N1 + eps).rsqrt()
