"""A language model with prompts as a model of the federation: the frozen part is a constant.

A row is a text: ``x`` [B, T] are its tokens (-1 pads on the right; a token t of an answer may be
written -2 - t, see ``moiety.data.records``), ``y`` the token that follows each, or -1 where none is
scored, [B, T], a skill in front or none. Its gate is DDOME's, its prompts lie on the axis
``prompt``. Letters: B rows, T positions, D width, E experts, K experts at hand, V tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.rows import split_batch
from moiety.core.tensors import move_tensors
from moiety.core.types import Batch, Params
from moiety.data.records import PADDING, show_tokens
from moiety.models.base import FeatureModel
from moiety.models.gated import score_gate
from moiety.prompts.config import MopsConfig
from moiety.prompts.edit import drop_gate, find_config, find_tuner, list_frozen
from moiety.prompts.gate import standardise, weigh_experts
from moiety.prompts.low_rank import LowRankLM, make_low_rank
from moiety.prompts.pretrain import GateTraining, fit_gate
from moiety.prompts.request import Attached, GateRead, Request
from moiety.prompts.single import make_single_prompt
from moiety.tasks.losses import UNSCORED

PROMPT = "prompt"

TOGETHER = 32
"""Rows that the frozen model reads at a time where no gradient is asked for."""

LEARN_GATE = 5e-3
"""Rate at which a gate is taught before workers begin."""

GATE = {"layer1.w": "hidden.weight", "layer1.b": "hidden.bias",
        "layer2.w": "out.weight", "layer2.b": "out.bias"}  # fmt: skip
"""How DDOME names the tensors of a gate -> how the tuner does."""


@dataclass(frozen=True)
class RequestEmbedding:
    """What the gate reads of a row, a function of the frozen model alone: the column ``embed``."""

    tuned: Any
    adapter: str

    def __call__(self, batch: Batch, /) -> Batch:
        """Add the column ``embed`` [B, D]; where there is one, it stays."""
        return batch if "embed" in batch else {**batch, "embed": self.embed(batch)}

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """Embed requests: no token that is scored is read, [B, D]."""
        pieces = split_batch(batch, max(1, -(-len(batch["x"]) // TOGETHER)))
        return torch.cat([self.embed_some(some) for some in pieces])

    def embed_some(self, batch: Batch) -> Tensor:
        """Embed as many rows as fit into memory together, [B, D]."""
        x_BT = batch["x"]
        attended_BT, read_BT = x_BT != PADDING, x_BT >= 0
        if "y" in batch:
            scored_BT = (batch["y"][:, -x_BT.shape[1] :] != UNSCORED).long()
            read_BT &= scored_BT.cumsum(-1) - scored_BT == 0
        tuner = find_tuner(self.tuned)
        request = Request(tuner.adapters([self.adapter]), attended_BT, read_BT, only_gate=True)
        try:
            tuner.model(input_ids=show_tokens(x_BT), use_cache=False, mops_context=request)
        except GateRead:
            return standardise(request.pooled[self.adapter])
        raise AssertionError("no gate has read")


@dataclass(frozen=True)
class PromptedLM:
    """A tuned language model as parameters, axes and pure functions; made by ``make_prompted``.

    Args:
        params: ``prompts.<block>`` [E, M, D] and ``gate.*``.
        axes: prompts lie on ``prompt``.
        constants: the frozen model, by the names of its own tensors.
        common: what the gate reads, as the transform of rows.
        tuned: the module that computes; nothing of it is changed.
        adapter: whose prompts and gate.
        first: the tokens that prompts began as, [E, M]; empty where they are not known.
        about: how the model is built again; empty where it is the user's own.
        gated: whether a gate weighs the experts, or all of them count alike.
        taught: whether the gate was taught before workers began.
    """

    params: Params
    axes: Axes
    constants: Params
    common: RequestEmbedding
    tuned: Any
    adapter: str
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False
    first: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    about: Mapping[str, Any] = field(default_factory=dict)
    gated: bool = True
    taught: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this again; a model of the user's own is named and must be given."""
        if self.about:
            more = {"single": "deep"} if not self.gated else {"taught": True} if self.taught else {}
            return {"kind": "lm", **self.about, **more}
        return {"kind": "prompted", "class": type(find_tuner(self.tuned).model).__qualname__}

    def place(self, device: str, /) -> PromptedLM:
        """Bring prompts, gate and the frozen model to a device; the module itself moves."""
        params = move_tensors(self.params, device)
        return replace(self, params=params, constants=list_frozen(self.tuned.to(device)))

    def redraw(self, rng: Generator, /) -> Params:
        """Give the first values: they come from hidden states, and nothing of them is drawn."""
        del rng
        return dict(self.params)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give what the gate reads, [B, D]."""
        del params
        return self.common.embed(batch)

    def log_gate(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the log of the gate's scores over all experts, [B, E]."""
        return score_gate(params, batch)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Score the token that follows each, [B, T, V], by the prompts at hand."""
        tuner = find_tuner(self.tuned)
        config = find_config(tuner, self.adapter)
        attached = Attached(self.adapter, config, None)
        x_BT = batch["x"]
        request = Request({self.adapter: attached}, x_BT != PADDING, x_BT >= 0)
        request.weights[self.adapter] = self.weigh(params, batch, kept, config)
        named = {
            f"{name_layer(config, layer)}.mops_prompts.{self.adapter}": params[f"prompts.{layer}"]
            for layer in config.injection_layers or ()
        }
        told = {"input_ids": show_tokens(x_BT), "use_cache": False, "mops_context": request}
        return functional_call(tuner.model, named, (), told).logits

    def weigh(self, params: Params, batch: Batch, kept: Kept, config: MopsConfig) -> Tensor:
        """Give the log of the weights of the experts at hand, [B, K]."""
        if not self.gated:
            held = next(t for name, t in params.items() if name.startswith("prompts."))
            return held.new_zeros(len(batch["x"]), len(held))
        log_BK = self.log_gate(params, self.common(batch))
        if PROMPT in kept:
            log_BK = log_BK.index_select(-1, kept[PROMPT].to(log_BK.device))
        return weigh_experts(log_BK, config)

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}

    def teach(self, x: Tensor, y: Tensor, seed: int, /) -> tuple[Params, float]:
        """Teach the gate which expert a request is for: by skill, or by clusters of requests.

        Args:
            x: rows set apart, [N, T].
            y: their targets, [N, 1 + T] where they name a skill.
            seed: of draws.

        Returns:
            Parameters to start at, and the share of held-out requests that is told right.
        """
        tuner = find_tuner(self.tuned)
        gate: Any = copy.deepcopy(tuner.adapters([self.adapter])[self.adapter].gate)
        z_ND = self.common.embed({"x": x, "y": y})
        skills_N = y[:, 0] if y.shape[1] > x.shape[1] and len(y[:, 0].unique()) > 1 else None
        config = find_config(tuner, self.adapter)
        fit = fit_gate(gate, config, z_ND, skills_N, GateTraining(lr=LEARN_GATE, seed=seed))
        told = {f"gate.{n}": gate.get_parameter(t).detach().clone() for n, t in GATE.items()}
        return {**self.params, **told}, fit.accuracy

    def make_single(self, *, deep: bool) -> FeatureModel:
        """Make the rival without a gate, of as many prompts.

        Args:
            deep: in every block where these are, or in front of the input alone.
        """
        if not deep:
            return make_single_prompt(self.tuned, self.first, self.about)
        held = {name: t for name, t in self.params.items() if name.startswith("prompts.")}
        axes = {name: entries for name, entries in self.axes.items() if name in held}
        return replace(self, params=held, axes=axes, gated=False)

    def save_adapter(self, params: Params, folder: str | Path) -> None:
        """Save what was learnt as an adapter of PEFT."""
        save_adapter(self, params, folder)

    def make_low_rank(
        self, rank: int, scale: float, targets: Sequence[str], rng: Generator, /
    ) -> LowRankLM:
        """Make the rival without prompts: low-rank parts of the frozen model."""
        choices = {"rank": rank, "scale": scale, "targets": list(targets)}
        return make_low_rank(self.tuned, self.about, choices, rng)


def name_layer(config: MopsConfig, layer: int) -> str:
    """Name the attention of a block, as the tuner placed it."""
    places = dict(zip(config.injection_layers or (), config.target_modules or (), strict=True))
    return places[layer]


def make_prompted(tuned: Any, adapter: str = "default") -> PromptedLM:
    """Make a model of a language model that ``get_peft_model`` put prompts into.

    Raises:
        ValueError: if it has no gate, or prompts that are not of each layer.
    """
    tuner = find_tuner(tuned)
    config = find_config(tuner, adapter)
    gate = tuner.adapters([adapter])[adapter].gate
    if gate is None or config.injection != "deep" or config.gate_mode == "separate":
        raise ValueError(
            f"gate_mode={config.gate_mode!r}, injection={config.injection!r}; a federation of "
            "prompts needs a gate, injection='deep', and prompts that share the text's softmax"
        )
    tuned.eval()
    layers = tuner.layers()
    prompts = {
        f"prompts.{layer}": layers[layer].mops_prompts[adapter].detach().clone()
        for layer in config.injection_layers or ()
    }
    held = {name: gate.get_parameter(theirs).detach().clone() for name, theirs in GATE.items()}
    return PromptedLM(
        {**prompts, **{f"gate.{name}": tensor for name, tensor in held.items()}},
        dict.fromkeys(prompts, (PROMPT, None, None)) | {"gate.layer2.w": (None, None)},
        list_frozen(tuned),
        RequestEmbedding(tuned, adapter),
        tuned,
        adapter,
        taught=config.gate_taught,
    )


@torch.no_grad()
def put_params(tuned: Any, params: Params, adapter: str = "default") -> None:
    """Put what a federation learnt back into the tuned model, which may then be saved."""
    tuner = find_tuner(tuned)
    layers, gate = tuner.layers(), tuner.adapters([adapter])[adapter].gate
    for name, tensor in params.items():
        kind, _, rest = name.partition(".")
        if kind == "prompts":
            layers[int(rest)].mops_prompts[adapter].copy_(tensor)
        else:
            assert gate is not None
            gate.get_parameter(GATE[rest]).copy_(tensor)


def save_adapter(model: PromptedLM, params: Params, folder: str | Path) -> None:
    """Save what was learnt as an adapter that ``PeftModel.from_pretrained`` opens.

    Args:
        model: of a finished run (``load_model(folder).model``).
        params: its parameters, whole.
        folder: to write to.
    """
    tuner = find_tuner(model.tuned)
    shared: dict[int, Any] = {id(p): p for n, p in tuner.model.named_parameters()
                              if ".mops_" not in n}  # fmt: skip
    tuned = copy.deepcopy(model.tuned, shared)
    find_config(find_tuner(tuned), model.adapter).gate_taught = model.taught
    if not model.gated:
        drop_gate(tuned, model.adapter)
    put_params(tuned, params, model.adapter)
    tuned.save_pretrained(str(folder))
