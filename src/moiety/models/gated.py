"""Experts of one shape, a whole gate over them, and the frozen common expert that feeds it.

Letters: B rows, D width of the embedding, H hidden units of the gate, E experts, K experts at
hand, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes
from moiety.core.errors import UnknownNameError
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel, TakesConstants, find_constants
from moiety.models.gate_input import GATE_INPUTS, HIDDEN, RAW, ROWS
from moiety.models.init import draw_uniform
from moiety.models.stacked import (
    EXPERT,
    PREFIX,
    ask_models,
    ask_models_in_training,
    count_models,
    stack_models,
    take_model,
)

COMMON, CONSTANT = "common.", "constant."
"""What names of frozen tensors begin with: those of the common expert, those of all experts."""


@dataclass(frozen=True)
class Common:
    """The frozen common expert; its last hidden layer, standardised, is what the gate reads.

    Args:
        model: of any architecture.
        params: trained elsewhere, never again.
        mean: of each number that is read over the rows it was trained on, [D].
        std: likewise, [D].
        reads: what the gate reads instead: a name of ``GATE_INPUTS``.
        known: those rows [N, ...], until it is settled what is read.
    """

    model: FeatureModel
    params: Params
    mean: Tensor
    std: Tensor
    reads: str = HIDDEN
    known: Tensor | None = field(default=None, repr=False)

    def __call__(self, batch: Batch, /) -> Batch:
        """Add the column ``embed`` [B, D]."""
        return {**batch, "embed": self.embed(batch)}

    def embed(self, batch: Batch) -> Tensor:
        """Embed rows, [B, D]."""
        return (GATE_INPUTS[self.reads](self.model, self.params, batch) - self.mean) / self.std

    def constants(self) -> Params:
        """Give what every worker downloads once; who reads rows needs no model for it."""
        frozen = {} if self.reads == ROWS else {**find_constants(self.model), **self.params}
        named = {COMMON + name: t for name, t in frozen.items()}
        return {**named, COMMON + "mean": self.mean, COMMON + "std": self.std}


def common_expert(model: FeatureModel, params: Params, x: Tensor) -> Common:
    """Freeze a trained model; ``x`` are the rows that standardise what a gate reads."""
    return standardise_input(model, params, x, HIDDEN)


def standardise_input(model: FeatureModel, params: Params, x: Tensor, reads: str) -> Common:
    """Freeze a trained model of which a gate reads one of ``GATE_INPUTS``."""
    with torch.no_grad():
        seen_ND = GATE_INPUTS[reads](model, params, {"x": x})
    mean, std = seen_ND.mean(0), seen_ND.std(0, correction=0)
    if reads == RAW:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    return Common(model, params, mean, torch.where(std > 1e-6, std, 1.0), reads, x)


def settle_input(common: Common, reads: str) -> Common:
    """Settle what a gate reads of a common expert, and let go of the rows that standardise it.

    Raises:
        ValueError: for what is none, or cannot be read of such rows.
    """
    if reads not in GATE_INPUTS:
        raise UnknownNameError(f"ddome.gate_input={reads!r}; choose one of {[*GATE_INPUTS]}")
    if reads != common.reads:
        if common.known is None:
            raise ValueError(
                f"ddome.gate_input={reads!r} is standardised by the rows of the common expert, "
                "which this one has no more; make it by common_expert(model, trained, rows)"
            )
        common = standardise_input(common.model, common.params, common.known, reads)
    return replace(common, known=None)


@dataclass(frozen=True)
class GatedExperts:
    """A mixture of experts whose experts lie on the axis ``expert`` and whose gate is whole.

    The gate always scores all experts. A worker that holds K of them is told which: ``kept``.

    Args:
        params: ``expert.*`` stacked [E, ...], ``gate.*``.
        axes: the expert's own axes, behind ``expert``.
        expert: the model of one expert.
        common: the common expert; its embedding is the column ``embed`` of a batch.
        buffers: those of the experts.
        closed: places of experts that are not open yet: their scores are 0, and the gate's rows of
            them learn nothing.
    """

    params: Params
    axes: Axes
    expert: FeatureModel
    common: Common
    buffers: Mapping[str, str]
    draws_noise: bool = False
    uses_batch_statistics: bool = False
    closed: tuple[int, ...] = ()

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        reads = {} if self.common.reads == HIDDEN else {"gate_input": self.common.reads}
        closed = {"closed": list(self.closed)} if self.closed else {}
        return {
            "kind": "gated",
            "expert": self.expert.config(),
            "common": self.common.model.config(),
            "experts": len(next(t for n, t in self.params.items() if n.startswith(PREFIX))),
            "hidden": len(self.params["gate.layer1.w"]),
            **reads,
            **closed,
        }

    @property
    def constants(self) -> Params:
        """Give the common expert, and what the experts share and do not train.

        What is frozen of the common expert too is downloaded once, under its name there.
        """
        theirs, frozen = self.common.constants(), find_constants(self.expert)
        own = {name: t for name, t in frozen.items() if theirs.get(COMMON + name) is not t}
        return {**theirs, **{CONSTANT + name: t for name, t in own.items()}}

    def log_gate(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the log of the gate's scores over all experts, [B, E]."""
        return score_gate(params, batch, self.closed)

    def one(self, params: Params, place: int) -> Params:
        """Take one of the experts at hand."""
        return take_model(params, place)

    def held(self, params: Params) -> int:
        """Count the experts at hand."""
        return count_models(params)

    def expert_logits(self, params: Params, batch: Batch, /) -> Tensor:
        """Ask every expert at hand, for use: logits [K, B, C]."""
        return ask_models(self.expert, params, batch)

    def expert_forward(self, params: Params, batch: Batch, /) -> tuple[Tensor, Params]:
        """Ask every expert at hand, in training: logits [K, B, C] and new values of buffers."""
        return ask_models_in_training(self.expert, params, batch)

    def mixed(self, params: Params, batch: Batch, logits_KBC: Tensor, kept: Kept, /) -> Tensor:
        """Mix experts at hand by the gate, renormalised over them: log-probabilities [B, C]."""
        log_BK = gather_held_scores(self.log_gate(params, batch), kept).log_softmax(-1)
        log_KBC = logits_KBC.float().log_softmax(-1)
        return torch.logsumexp(log_BK.T[:, :, None] + log_KBC, 0)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return self.mixed(params, batch, self.expert_logits(params, batch), kept)

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        logits_KBC, after = self.expert_forward(params, batch)
        return self.mixed(params, batch, logits_KBC, kept), after


def find_saved_constants(model: FeatureModel | GatedExperts) -> Params:
    """Find the frozen tensors that are saved with a model and set again by whoever loads it.

    A language model, or a pretrained encoder, is not: its folder is named.
    """
    if not isinstance(model, GatedExperts):
        return model.constants if isinstance(model, TakesConstants) else {}
    parts = {COMMON: model.common.model, CONSTANT: model.expert}
    elsewhere = {
        prefix + name
        for prefix, part in parts.items()
        if not isinstance(part, TakesConstants)
        for name in find_constants(part)
    }
    return {name: t for name, t in model.constants.items() if name not in elsewhere}


def score_gate(params: Params, batch: Batch, closed: tuple[int, ...] = ()) -> Tensor:
    """Give the log of a gate's scores over all that it scores, [B, E]; of those closed -inf.

    Raises:
        ValueError: if the rows lack the column that it reads.
    """
    if "embed" not in batch:
        raise ValueError(
            "the gate reads the column 'embed', which these rows lack; open them through "
            "moiety.TransformedRows(open, method.transform)"
        )
    rated_BE = rate_experts(params, batch["embed"]).float()
    if closed:
        places = torch.tensor(closed, device=rated_BE.device)
        rated_BE = rated_BE.index_fill(-1, places, -math.inf)
    return rated_BE.log_softmax(-1)


def rate_experts(params: Params, embed_BD: Tensor) -> Tensor:
    """Rate all experts of a gate for embedded rows, [B, E], as they are before the softmax."""
    hidden_BH = F.linear(embed_BD, params["gate.layer1.w"], params["gate.layer1.b"])
    return F.linear(F.relu(hidden_BH), params["gate.layer2.w"], params["gate.layer2.b"])


def gather_held_scores(scores_BE: Tensor, kept: Kept) -> Tensor:
    """Gather the scores of the experts at hand, [B, K]; all of them where none was cut away."""
    if EXPERT not in kept:
        return scores_BE
    return scores_BE.index_select(-1, kept[EXPERT].to(scores_BE.device))


def gated_experts(
    expert: FeatureModel,
    common: Common,
    starts: Sequence[Params],
    rng: Generator,
    *,
    hidden: int = 64,
) -> GatedExperts:
    """Make a mixture.

    Args:
        expert: the model of one expert.
        common: the frozen common expert.
        starts: first values of every expert; as many experts as these.
        rng: the stream of the gate's first values.
        hidden: units of the gate.
    """
    experts = len(starts)
    width = len(common.mean)
    params, axes = stack_models(expert, starts)
    gate = {
        "gate.layer1.w": draw_uniform((hidden, width), width, rng),
        "gate.layer1.b": draw_uniform((hidden,), width, rng),
        "gate.layer2.w": draw_uniform((experts, hidden), hidden, rng),
        "gate.layer2.b": draw_uniform((experts,), hidden, rng),
    }
    buffers = {PREFIX + name: rule for name, rule in expert.buffers.items()}
    flags = expert.draws_noise, expert.uses_batch_statistics
    return GatedExperts({**params, **gate}, axes, expert, common, buffers, *flags)
