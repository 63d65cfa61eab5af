"""The few types that everything speaks."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import Tensor

Params: TypeAlias = Mapping[str, Tensor]
"""Tensors by dotted name."""

Batch: TypeAlias = Mapping[str, Tensor]
"""Rows by column; the first dim of every entry counts rows."""

TARGET = "y"
"""The column of what is to be learnt."""

RESERVED = ("weight", "seed", "embed", "log_shares")
"""Columns that solvers and transforms add to a batch."""

Carry: TypeAlias = Mapping[str, Any]
"""What a solver carries from step to step: mappings of tensors, nested at will."""

Memory: TypeAlias = Mapping[str, Params]
"""What a worker keeps between rounds, by section; never sent."""
