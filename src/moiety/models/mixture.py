"""Statistical mixture of experts: a softmax gate over multinomial logits, linear in the inputs.

Letters: B rows, D columns with the constant, K experts, C classes.

f(y | x) = sum_k softmax(x' gate)_k softmax(x' experts_k)_y. Its own mathematics, in numpy, is
``moiety.mixtures``; here it is a model that a round can send, serve, save and load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.mixtures.experts import CategoricalExperts
from moiety.mixtures.model import Mixture

GATE, EXPERTS = "gate", "experts"
AXES: Axes = {GATE: (None, "expert"), EXPERTS: (None, "expert", None)}


@dataclass(frozen=True)
class MixtureModel:
    """A gate [D, K] and experts [D, K, C] in double precision. Made by ``mixture``.

    Experts lie on the axis ``expert``, but two fits need not number theirs alike, so that their
    mean means nothing: they are reduced by ``merge.transport``.
    """

    params: Params
    axes: Axes = field(default_factory=lambda: AXES)
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        columns, experts, classes = self.params[EXPERTS].shape
        return {"kind": "mixture", "inputs": columns - 1, "experts": experts, "classes": classes}

    def redraw(self, rng: Generator, /) -> Params:
        """Give first values: zeros, for EM draws its own starts from the rows."""
        del rng
        return {name: torch.zeros_like(tensor) for name, tensor in self.params.items()}

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the inputs themselves, [B, D - 1]."""
        del params
        return batch["x"].flatten(1)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Give the log-probabilities of the classes, [B, C]."""
        del kept
        x_BD = F.pad(self.features(params, batch).to(params[GATE].dtype), (1, 0), value=1.0)
        gate_BK = (x_BD @ params[GATE]).log_softmax(-1)
        each_BKC = torch.einsum("bd,dkc->bkc", x_BD, params[EXPERTS]).log_softmax(-1)
        return torch.logsumexp(gate_BK[:, :, None] + each_BKC, 1)

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}


def mixture(inputs: int, experts: int, classes: int) -> MixtureModel:
    """Make a mixture that knows nothing: all zeros.

    >>> mixture(4, 2, 3).params["experts"].shape
    torch.Size([5, 2, 3])
    """
    if inputs < 1 or experts < 1 or classes < 2:
        raise ValueError(f"{inputs=}, {experts=}, {classes=}; give at least 1, 1 and 2")
    gate = torch.zeros(inputs + 1, experts, dtype=torch.double)
    return MixtureModel(
        {GATE: gate, EXPERTS: torch.zeros(inputs + 1, experts, classes, dtype=torch.double)}
    )


def read_mixture(params: Params) -> Mixture[CategoricalExperts]:
    """Read a mixture off tensors."""
    gate, experts = (params[name].detach().cpu().double().numpy() for name in (GATE, EXPERTS))
    return Mixture(gate, CategoricalExperts(experts))


def write_mixture(found: Mixture[CategoricalExperts], like: Params) -> Params:
    """Write a mixture as tensors of the dtype and device of others."""
    values = {GATE: found.gate, EXPERTS: found.experts.coef}
    return {
        name: torch.from_numpy(np.ascontiguousarray(value)).to(like[name])
        for name, value in values.items()
    }
