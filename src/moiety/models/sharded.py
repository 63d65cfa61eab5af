"""A perceptron with norms in blocks of units, of which nobody need hold more than some.

A tensor lies in blocks along its first dealt dim: rows of a hidden layer's weights, entries of its
norm, columns of the output layer. First values are drawn per ``BLOCK`` units, each from a stream of
its own, so that they do not depend on who holds which; they are other values than those that
``normed`` draws whole.

Letters: B rows, N units of a layer, b of them at hand, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.streams import stream
from moiety.core.types import Params
from moiety.models.init import uniform
from moiety.models.normed import NormedMLP, normed

BLOCK = 64
"""Units whose first values come from one stream."""

Join = Callable[[Tensor], Tensor]


def outline(widths: Sequence[int], norm: str = "batch") -> NormedMLP:
    """Give a model's shapes and axes without its numbers.

    >>> outline((4, 3, 2)).params["layer1.w"].device.type
    'meta'
    """
    small = normed([2] * len(widths), Generator(), norm=norm)
    sizes: dict[str, tuple[int, ...]] = {}
    for place, (ins, outs) in enumerate(pairwise(widths), 1):
        sizes[f"layer{place}.w"] = (outs, ins)
        sizes[f"norm{place}.g"] = sizes[f"norm{place}.s"] = (outs,)
    params = {name: torch.empty(sizes[name], device="meta") for name in small.params}
    return NormedMLP(params, small.axes, norm, couples=norm == "batch")


def first_values(model: NormedMLP, name: str, dim: int, units: range, seed: int) -> Tensor:
    """Draw the first values of some units of a tensor: scales one, shifts nothing.

    Args:
        model: its shapes.
        name: of the tensor.
        dim: along which units lie.
        units: which, consecutive.
        seed: of the run.
    """
    shape = list(model.params[name].shape)
    if not name.endswith(".w"):
        fill = 1.0 if name.endswith(".g") else 0.0
        return torch.full((len(units),), fill)
    whole = shape[dim]
    mine = torch.empty([len(units) if d == dim else size for d, size in enumerate(shape)])
    for begin in range(units.start // BLOCK * BLOCK, units.stop, BLOCK):
        end = min(begin + BLOCK, whole)
        block = [end - begin if d == dim else size for d, size in enumerate(shape)]
        drawn = uniform(block, shape[1], stream(seed, "first", name, begin // BLOCK))
        low, high = max(begin, units.start), min(end, units.stop)
        cut = drawn.narrow(dim, low - begin, high - low)
        mine.narrow(dim, low - units.start, high - low).copy_(cut)
    return mine


def statistics(
    model: NormedMLP, shard: Params, x_BD: Tensor, join: Join, add: Join
) -> Mapping[str, Tensor]:
    """Fix the norms' statistics on some rows: each holder those of its own units, exactly.

    Args:
        model: its depth and norm.
        shard: the block of every tensor at hand.
        x_BD: inputs.
        join: sets the columns [B, b] of all holders side by side, [B, N].
        add: adds up [B, C] over all holders.

    Returns:
        Mean and (biased) variance of the units at hand, and of all outputs.
    """
    found: dict[str, Tensor] = {}
    through(model, shard, x_BD, join, add, found, fix=True)
    return found


def logits(
    model: NormedMLP,
    shard: Params,
    x_BD: Tensor,
    join: Join,
    add: Join,
    fixed: Mapping[str, Tensor],
) -> Tensor:
    """Score the classes, [B, C], with fixed statistics; as ``statistics`` otherwise."""
    return through(model, shard, x_BD, join, add, dict(fixed), fix=False)


def through(  # noqa: PLR0913
    model: NormedMLP,
    shard: Params,
    x_BD: Tensor,
    join: Join,
    add: Join,
    fixed: dict[str, Tensor],
    *,
    fix: bool,
) -> Tensor:
    """Go through all layers, each holder computing its own units."""
    h_BN = x_BD.flatten(1)
    for place in range(1, model.depth + 1):
        weight, last = shard[f"layer{place}.w"], place == model.depth
        z = F.linear(h_BN, weight)
        z = add(z) if last and place > 1 else z
        if fix and model.norm != "none":
            fixed[f"norm{place}.mean"] = z.mean(0)
            fixed[f"norm{place}.var"] = z.var(0, correction=0)
        z = model.normalise({**shard, **fixed}, place, z)
        if last:
            return z
        h_Bb = F.relu(z)
        h_BN = h_Bb if place + 1 == model.depth else join(h_Bb)
    raise AssertionError("a model has a layer")
