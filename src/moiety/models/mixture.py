"""Statistical mixture of experts: a softmax gate over experts that are linear in the inputs.

Letters: B rows, D columns with the constant, K experts, C classes.

f(y | x) = sum_k softmax(x' gate)_k phi_k(y | x), with multinomial logits phi, or normal densities.
Its own mathematics, in numpy, is ``moiety.mixtures``; here it is a model that a round can send,
serve, save and load.
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
from moiety.mixtures.arrays import EXPERTS, GATE, VARIANCES, build_mixture, lay_out_mixture
from moiety.mixtures.em import Sums
from moiety.mixtures.law import Law
from moiety.mixtures.logit import pack_symmetric, unpack_symmetric
from moiety.mixtures.model import Mixture
from moiety.mixtures.poisson import POISSON

GRAMS = "grams"
AXES: Axes = {GATE: (None, "expert"), EXPERTS: (None, "expert", None)}
NUMBER_AXES: Axes = {GATE: (None, "expert"), EXPERTS: (None, "expert"), VARIANCES: ("expert",)}


@dataclass(frozen=True)
class MixtureForm:
    """How a mixture lies in tensors: ``gate``, ``experts`` and ``variances`` or ``spreads``.

    Args:
        free: leave out what is 0 by convention, the last gate column and the last class.
        law: of responses that are neither normal nor classes.
    """

    free: bool = False
    law: Law = POISSON

    def read(self, params: Params, /) -> Mixture:
        """Read a mixture off tensors."""
        found = {n: t.detach().cpu().double().numpy() for n, t in self.widen(params).items()}
        return build_mixture(found, self.law)

    def widen(self, params: Params) -> Params:
        """Put back what was left out."""
        if not self.free:
            return params
        ends = (GATE, EXPERTS) if params[EXPERTS].ndim == 3 else (GATE,)
        return {n: F.pad(t, (0, 1)) if n in ends else t for n, t in params.items()}

    def write(self, found: Mixture, like: Params, /) -> Params:
        """Write a mixture as tensors, of the dtype and device of others where there are any."""
        values = lay_out_mixture(found)
        if self.free:
            values[GATE] = values[GATE][:, :-1]
        if self.free and values[EXPERTS].ndim == 3:
            values[EXPERTS] = values[EXPERTS][..., :-1]
        tensors = {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in values.items()}
        return {n: t.to(like[n]) if n in like else t for n, t in tensors.items()}


WHOLE, FREE = MixtureForm(), MixtureForm(free=True)


@dataclass(frozen=True)
class MixtureModel:
    """A mixture in double precision, made by ``mixture``.

    Without parameters it is one of which only the workers know the size. Experts lie on the axis
    ``expert``, but two fits need not number theirs alike, so that their mean means nothing: they
    are reduced by ``merge.transport``.
    """

    params: Params
    axes: Axes = field(default_factory=lambda: AXES)
    form: MixtureForm = WHOLE
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        columns, experts = self.params[GATE].shape
        classes = 0 if VARIANCES in self.params else self.params[EXPERTS].shape[2]
        return {"kind": "mixture", "inputs": columns - 1, "experts": experts, "classes": classes}

    def redraw(self, rng: Generator, /) -> Params:
        """Give first values, which know nothing, for EM draws its own starts from the rows."""
        del rng
        blank = {name: torch.zeros_like(tensor) for name, tensor in self.params.items()}
        if VARIANCES in blank:
            blank[VARIANCES] += 1.0
        return blank

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the inputs themselves, [B, D - 1]."""
        del params
        return batch["x"].flatten(1)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Give the log-probabilities of the classes, [B, C], or the predictive mean, [B, 1]."""
        del kept
        x_BD = F.pad(self.features(params, batch).to(params[GATE].dtype), (1, 0), value=1.0)
        params = self.form.widen(params)
        gate_BK = (x_BD @ params[GATE]).log_softmax(-1)
        if VARIANCES in params:
            return (gate_BK.exp() * (x_BD @ params[EXPERTS])).sum(-1, keepdim=True)
        each_BKC = torch.einsum("bd,dkc->bkc", x_BD, params[EXPERTS]).log_softmax(-1)
        return torch.logsumexp(gate_BK[:, :, None] + each_BKC, 1)

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}


def mixture(inputs: int, experts: int, classes: int) -> MixtureModel:
    """Make a mixture that knows nothing, of so many classes, or with 0 of normal regressions.

    >>> mixture(4, 2, 3).params["experts"].shape, mixture(4, 2, 0).params["experts"].shape
    (torch.Size([5, 2, 3]), torch.Size([5, 2]))
    """
    if inputs < 1 or experts < 1 or classes < 0 or classes == 1:
        raise ValueError(
            f"{inputs=}, {experts=}, {classes=}; give at least 1 and 1, and 0 classes or 2 and more"
        )
    gate = torch.zeros(inputs + 1, experts, dtype=torch.double)
    if not classes:
        ones = torch.ones(experts, dtype=torch.double)
        numbers = {GATE: gate, EXPERTS: torch.zeros_like(gate), VARIANCES: ones}
        return MixtureModel(numbers, NUMBER_AXES)
    return MixtureModel(
        {GATE: gate, EXPERTS: torch.zeros(inputs + 1, experts, classes, dtype=torch.double)}
    )


def pack_sums(sums: Sums) -> Params:
    """Lay sums out as tensors, of each Gram matrix the upper triangle."""
    packed = {**sums, GRAMS: np.stack([pack_symmetric(gram) for gram in sums[GRAMS]])}
    return {name: torch.from_numpy(np.asarray(part, order="C")) for name, part in packed.items()}


def unpack_sums(params: Params) -> Sums:
    """Read sums off tensors."""
    sums = {name: tensor.numpy() for name, tensor in params.items()}
    return {**sums, GRAMS: np.stack([unpack_symmetric(gram) for gram in sums[GRAMS]])}
