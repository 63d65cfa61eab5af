"""The precision-weighted fold: two sums, streamed, that make pieces a model again.

    theta = (sum_w P_w' H_w P_w)^+  sum_w P_w' H_w theta_w

with diagonal H_w. What nobody held keeps its value. Design, section 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from moiety.core.axes import Along, Axes, Part, add_at_positions, expand_entry, find_cuts
from moiety.core.types import Params


@dataclass(frozen=True)
class Precision:
    """How well a worker knows its piece; the factors that are given multiply.

    Args:
        scalar: one number for the whole piece (a sample count, a staleness weight).
        axes: axis -> one number per kept index, [kept] (how much each expert was used).
        diagonal: parameter -> one number per entry (an empirical Fisher).
    """

    scalar: float = 1.0
    axes: Mapping[str, Tensor] = field(default_factory=dict)
    diagonal: Params = field(default_factory=dict)

    def flat(self, name: str) -> bool:
        """Say whether the precision of a parameter is certainly the one number."""
        return not self.axes and name not in self.diagonal

    def of(self, name: str, piece: Tensor, entries: tuple[Along | None, ...]) -> Tensor:
        """Spread the precision of one tensor of a piece; it broadcasts against the tensor."""
        spread = torch.full(
            [1] * piece.ndim, self.scalar, dtype=choose_sum_dtype(piece), device=piece.device
        )
        if name in self.diagonal:
            spread = spread * self.diagonal[name].to(spread.device)
        for dim, entry in enumerate(entries):
            if entry is not None and entry.axis in self.axes:
                along_dim = self.axes[entry.axis].to(spread)
                along_dim = along_dim.repeat_interleave(entry.block).repeat(entry.repeat)
                spread = spread * along_dim.reshape(
                    [-1 if d == dim else 1 for d in range(piece.ndim)]
                )
        return spread


def choose_sum_dtype(tensor: Tensor) -> torch.dtype:
    """Choose the dtype to add in: its own from float32 up, else float32; float64 for integers."""
    if not tensor.is_floating_point():
        return torch.float64
    return torch.float32 if tensor.element_size() < 4 else tensor.dtype


Number: TypeAlias = np.float32 | np.float64
NUMBERS: Mapping[torch.dtype, type[Number]] = {torch.float32: np.float32, torch.float64: np.float64}
"""A number of each dtype that sums have: adding one costs a tenth of what it costs a tensor."""


@lru_cache(maxsize=64)
def make_weight(scalar: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Make a weight, to be read only, once for workers that weigh alike."""
    return torch.tensor(scalar, dtype=dtype, device=device)


@dataclass
class Total:
    """The two sums of a fold. The mass of a parameter is as small as what was added allows.

    Args:
        sums: of values times precision, by parameter.
        mass: of precision: a tensor that broadcasts against the parameter; a number while all of
            its entries are known alike, which rounds as a tensor of its dtype does.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    mass: dict[str, Tensor | Number] = field(default_factory=dict)

    def open(self, name: str, whole: Tensor) -> None:
        """Start the sums of a parameter at nothing."""
        dtype = choose_sum_dtype(whole)
        self.sums[name], self.mass[name] = torch.zeros_like(whole, dtype=dtype), NUMBERS[dtype](0)

    def add_whole(self, name: str, whole: Tensor, tensor: Tensor, scalar: float) -> None:
        """Add a whole parameter of which all entries are known equally well."""
        if name not in self.sums:
            self.open(name, whole)
        sums, mass = self.sums[name], self.mass[name]
        # Made wide before it is weighed, or half precision overflows.
        wide = tensor if tensor.dtype == sums.dtype else tensor.to(sums.dtype)
        if scalar != 1.0:
            wide = wide * make_weight(scalar, sums.dtype, sums.device)
        sums.add_(wide)
        self.mass[name] = (
            mass.add_(scalar) if isinstance(mass, Tensor) else mass + type(mass)(scalar)
        )

    def spread_mass(self, name: str, whole: Tensor) -> Tensor:
        """Give the mass of a parameter as a tensor that broadcasts against it."""
        mass = self.mass[name]
        if isinstance(mass, Tensor):
            return mass
        dtype = choose_sum_dtype(whole)
        return torch.full([1] * whole.ndim, float(mass), dtype=dtype, device=whole.device)


def fold_piece(
    total: Total, params: Params, axes: Axes, part: Part, piece: Params, know: Precision
) -> None:
    """Add one piece to the two sums, in place.

    Args:
        total: the sums so far.
        params: the whole model; only its shapes are read.
        axes: the axes of the model.
        part: which part the piece is.
        piece: absolute values, shaped as ``take(params, axes, part)``.
        know: the precision of the piece.
    """
    for name, tensor in piece.items():
        whole = params[name]
        where = find_cuts(axes, part, name, whole)
        if not where and know.flat(name):
            total.add_whole(name, whole, tensor, know.scalar)
            continue
        weight = know.of(name, tensor, tuple(expand_entry(entry) for entry in axes.get(name, ())))
        if name not in total.sums:
            total.open(name, whole)
        add_at_positions(total.sums[name], where, tensor.to(weight.dtype) * weight)
        total.mass[name] = add_mass(total.spread_mass(name, whole), where, weight, whole)


def add_mass(
    mass: Tensor, where: list[tuple[int, Tensor]], weight: Tensor, whole: Tensor
) -> Tensor:
    """Add a weight to a mass, which grows only along the dims that need it."""
    cut = {dim for dim, _ in where}
    need = [
        full if dim in cut or weight.shape[dim] > 1 or mass.shape[dim] > 1 else 1
        for dim, full in enumerate(whole.shape)
    ]
    grown = mass.expand(need).clone() if list(mass.shape) != need else mass
    shape = [len(dict(where)[dim]) if dim in cut else size for dim, size in enumerate(need)]
    add_at_positions(grown, where, weight.expand(shape))
    return grown


def divide_sums(total: Total, params: Params) -> tuple[Params, Params]:
    """Divide the sums.

    Returns:
        The merged parameters, where nobody's coordinate keeps its value, and for every
        parameter that somebody held a mask that broadcasts against it, True where held.
    """
    merged, held = dict(params), {}
    for name, sums in total.sums.items():
        old = params[name]
        mass = total.spread_mass(name, old)
        some = mass > 0
        mean = sums / torch.where(some, mass, 1.0)
        mean = mean.round() if not old.is_floating_point() else mean
        merged[name] = torch.where(some, mean.to(old.dtype), old)
        held[name] = some
    return merged, held
