"""A block's self-attention with prompts in front of the text.

Letters: B rows, E experts, M prompts of an expert, P = E M prompts, D width, G key-value heads, K
width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from moiety.prompts.attention import PromptKeys
from moiety.prompts.config import MopsConfig
from moiety.prompts.families import Family
from moiety.prompts.gate import MopsGate
from moiety.prompts.request import Attached, Recorder, Request


class MopsLayer(nn.Module, BaseTunerLayer):
    """Wraps an attention module; the first layer of an adapter holds its gate too."""

    adapter_layer_names = ("mops_prompts", "mops_gate", "mops_scale")

    def __init__(self, base_layer: nn.Module, layer: int, family: Family) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.layer = layer
        self.family = family
        self.mops_prompts = nn.ParameterDict({})
        self.mops_gate = nn.ModuleDict({})
        self.mops_scale = nn.ParameterDict({})
        self.frozen_peft_weight_names = {}

    def __getattr__(self, name: str) -> Any:
        """Give what is asked of the attention module, such as its width."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)

    def update_layer(self, name: str, config: MopsConfig, like: Tensor) -> None:
        """Add the parameters of an adapter; prompts are zeros until first values are made.

        Args:
            name: of the adapter.
            config: its choices.
            like: hidden states of no position, [0, D]: their width, device and kind of number.
        """
        assert config.injection_layers is not None
        first = self.layer == config.injection_layers[0]
        if first or config.injection == "deep":
            device, size = like.device, self.measure_prompt(config, like)
            shape = config.num_experts, config.prompts_per_expert, size
            self.mops_prompts[name] = nn.Parameter(torch.zeros(shape, device=pick_device(device)))
        if first and config.has_gate:
            gate = MopsGate(like.shape[-1], config)
            self.mops_gate[name] = gate if is_meta(gate) else gate.to(like.device)
            if not config.train_gate:
                self.frozen_peft_weight_names[name] = ("mops_gate",)
        if config.gate_mode == "separate":
            self.mops_scale[name] = nn.Parameter(torch.zeros(()))
        self.set_adapter(self.active_adapters)

    def measure_prompt(self, config: MopsConfig, like: Tensor) -> int:
        """Count the numbers of a prompt."""
        if config.prompt_space == "hidden":
            return like.shape[-1]
        key_NGK, _ = self.family.project(self.base_layer, like.new_zeros(1, like.shape[-1]))
        return 2 * key_NGK.shape[-2] * key_NGK.shape[-1]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Attend; with prompts where a request came down."""
        request = kwargs.pop("mops_context", None)
        if request is None or self.disable_adapters:
            return self.base_layer(*args, **kwargs)
        hidden = args[0] if args else kwargs["hidden_states"]
        if isinstance(request, Recorder):
            request.inputs[self.layer] = hidden
            return self.base_layer(*args, **kwargs)
        prompts = tuple(
            self.attach(request, one, hidden)
            for one in request.adapters.values()
            if self.layer in one.layers
        )
        return self.base_layer(*args, mops_prompts=prompts, **kwargs)

    def attach(self, request: Request, one: Attached, hidden_BTD: Tensor) -> PromptKeys:
        """Make the keys and values of an adapter's prompts, and their bias or scale.

        Without a gradient they are made once for a request, unless parameters change meanwhile.
        """
        parts = [self.mops_scale[one.name]] if one.name in self.mops_scale else []
        parts += [self.mops_prompts[one.name]] if one.name in self.mops_prompts else []
        gate: Any = one.gate
        parts += [] if gate is None else gate.list_parts()
        versions = [part._version for part in parts]  # noqa: SLF001
        stamp = (hidden_BTD.shape[0], hidden_BTD.dtype, versions)
        key = one.name, self.layer
        return request.keep(key, stamp, lambda: self.make_keys(request, one, hidden_BTD))

    def make_keys(self, request: Request, one: Attached, hidden_BTD: Tensor) -> PromptKeys:
        """Make what ``attach`` keeps."""
        rows, device, config = hidden_BTD.shape[0], hidden_BTD.device, one.config
        key, value = self.project(request, one, hidden_BTD.dtype)
        log_BE = request.weigh(one, rows, device)
        log_BP = log_BE.repeat_interleave(config.prompts_per_expert, -1)
        if config.gate_mode in ("post_softmax", "separate"):
            value = value * log_BP.exp().to(value.dtype)[:, None, :, None]
            log_BP = torch.zeros_like(log_BP)
        mine_B = request.find_rows(one.name, device)
        if mine_B is not None:
            log_BP = log_BP.masked_fill(~mine_B[:, None], -torch.inf)
        if config.gate_mode != "separate":
            return PromptKeys(key, value, log_BP)
        if mine_B is not None:
            value = value * mine_B.to(value.dtype)[:, None, None, None]
        return PromptKeys(key, value, log_BP, self.mops_scale[one.name].tanh())

    def project(self, request: Request, one: Attached, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Project prompts to keys and values, [B or 1, G, P, K]."""
        if one.config.injection == "token":
            prompts = request.flows[one.name][self.layer]
        else:
            prompts = self.mops_prompts[one.name].flatten(0, 1)[None]
        make = self.split_prompts if one.config.prompt_space == "kv" else self.project_prompts
        return make(prompts.to(dtype))

    def project_prompts(self, prompts_BPD: Tensor) -> tuple[Tensor, Tensor]:
        """Project hidden states by the frozen matrices of the layer, unrotated."""
        key, value = self.family.project(self.base_layer, prompts_BPD)
        return key.transpose(1, 2), value.transpose(1, 2)

    def split_prompts(self, prompts_BPN: Tensor) -> tuple[Tensor, Tensor]:
        """Split what is keys and values already."""
        config: Any = self.base_layer.config
        one = prompts_BPN.new_zeros(1, 1, config.hidden_size)
        heads, width = self.family.project(self.base_layer, one)[0].shape[-2:]
        key, value = prompts_BPN.chunk(2, -1)
        shape = (*key.shape[:-1], heads, width)
        return key.reshape(shape).transpose(1, 2), value.reshape(shape).transpose(1, 2)


def pick_device(device: torch.device) -> torch.device | None:
    """Say where a parameter is made: beside the weights, unless all is made on ``meta``."""
    return device if torch.empty(0).device.type != "meta" else None


def is_meta(module: nn.Module) -> bool:
    """Say whether a module has shapes alone."""
    return any(parameter.is_meta for parameter in module.parameters())
