"""A perceptron with norms in blocks of units, of which nobody need hold more than some.

A tensor lies in blocks along its first assigned dim: rows of a hidden layer's weights, entries of
its norm, columns of the output layer. First values are other values than those that ``normed``
draws whole.

Letters: B rows, N units of a layer, b of them at hand, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.blocks.form import Holders, draw_units
from moiety.core.axes import Axes
from moiety.core.rows import CALIBRATION_ROWS, Rows, take_all_rows
from moiety.core.types import Batch, Params
from moiety.models.normed import NormedMLP, normed


def make_abstract_normed(widths: Sequence[int], norm: str = "batch") -> NormedMLP:
    """Give a model's shapes and axes without its numbers.

    >>> make_abstract_normed((4, 3, 2)).params["layer1.w"].device.type
    'meta'
    """
    with torch.device("meta"):
        return normed(widths, Generator(), norm=norm)


@dataclass(frozen=True)
class NormedForm:
    """How ``NormedMLP`` lies in blocks.

    Args:
        model: its shapes and axes.
    """

    model: NormedMLP

    def dim(self, name: str, /) -> int | None:
        entries = self.axes.get(name, ())
        return next((place for place, entry in enumerate(entries) if entry is not None), None)

    @property
    def axes(self) -> Axes:
        """The axes of the model, and of what ``fix`` gives."""
        layers = range(1, self.model.depth)
        fixed = {f"norm{p}.{what}": (f"h{p}",) for p in layers for what in ("mean", "var")}
        return {**self.model.axes, **fixed}

    def first(self, name: str, units: range, seed: int, /) -> Tensor:
        """Draw weights; scales are one, shifts nothing."""
        if not name.endswith(".w"):
            return torch.full((len(units),), 1.0 if name.endswith(".g") else 0.0)
        shape, dim = self.model.params[name].shape, self.dim(name)
        dim = len(shape) - 1 if dim is None else dim
        return draw_units(shape, dim, units, shape[1], (seed, "first", name))

    def fix(self, shard: Params, rows: Rows | None, holders: Holders, /) -> Params:
        """Fix the norms' statistics on some rows: each holder those of its own units, exactly.

        Returns:
            Mean and (biased) variance of the units at hand, and of all outputs.
        """
        if rows is None or self.model.norm == "none":
            return {}
        found: dict[str, Tensor] = {}
        self.run_layers(shard, take_all_rows(rows, CALIBRATION_ROWS)["x"], holders, found, fix=True)
        return found

    def logits(self, shard: Params, batch: Batch, fixed: Params, holders: Holders, /) -> Tensor:
        return self.run_layers(shard, batch["x"], holders, dict(fixed), fix=False)

    def run_layers(
        self, shard: Params, x_BD: Tensor, holders: Holders, fixed: dict[str, Tensor], *, fix: bool
    ) -> Tensor:
        """Go through all layers, each holder computing its own units."""
        model, h_BN = self.model, x_BD.flatten(1)
        for place in range(1, model.depth + 1):
            last = place == model.depth
            z = F.linear(h_BN, shard[f"layer{place}.w"])
            z = holders.add_up(z) if last and place > 1 else z
            empty = not z.shape[1]  # no unit is at hand: var would warn of it, a norm refuse it
            if fix:
                fixed[f"norm{place}.mean"] = z.mean(0)
                fixed[f"norm{place}.var"] = z.sum(0) if empty else z.var(0, correction=0)
            z = z if empty else model.normalise({**shard, **fixed}, place, z)
            if last:
                return z
            h_Bb = F.relu(z)
            h_BN = h_Bb if place + 1 == model.depth else holders.join_columns(h_Bb)
        raise AssertionError("a model has a layer")
