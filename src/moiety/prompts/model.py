"""The tuner: puts prompts and gate into a causal language model, as PEFT's tuners do.

What the gate reads comes from hooks before the blocks it stands at, and goes down to the layers as
a keyword (``mops_context``), so that gradient checkpointing finds it again in its second pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from moiety.prompts.attention import check_attention, restore_attention, switch_attention
from moiety.prompts.below import Below, replace_input, start_at_block
from moiety.prompts.families import find_family
from moiety.prompts.flow import flow_prompts
from moiety.prompts.layer import MopsLayer
from moiety.prompts.loaded import check_loaded, check_tensor_names
from moiety.prompts.places import check_base, place_adapter
from moiety.prompts.request import (
    Attached,
    Calling,
    GateRead,
    Remembered,
    Request,
    describe_request,
    hide_prefix,
    open_request,
)
from moiety.prompts.starts import fill_prompts


class MopsModel(BaseTuner):
    """A language model with mixtures of prompts; made by ``get_peft_model``."""

    prefix = "mops_"
    tuner_layer_cls = MopsLayer
    uses_shared_state = True
    target_module_mapping = {}  # noqa: RUF012

    def _pre_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        self.family = find_family(model)
        self.blocks = (*self.family.find_blocks(model),)
        self.remembered = Remembered()
        self.calling = Calling()
        switch_attention(model)
        self.hooks = [
            model.register_forward_pre_hook(self._open, with_kwargs=True),
            model.register_forward_hook(self._remember, with_kwargs=True),
            *(
                block.register_forward_pre_hook(partial(self._read, layer), with_kwargs=True)
                for layer, block in enumerate(self.blocks)
            ),
        ]

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict) -> Any:
        placed = place_adapter(peft_config, model_config, self.family, len(self.blocks))
        return check_base(placed, self.model.get_input_embeddings().weight)

    def _create_and_replace(  # noqa: PLR0913
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        like = next(p for p in parent.parameters() if p.is_floating_point())  # a norm, if no other
        if not isinstance(target, MopsLayer):
            layer = next(place for place, block in enumerate(self.blocks) if block is parent)
            target = MopsLayer(target, layer, self.family)
            target.set_adapter(self.active_adapters)
            setattr(parent, target_name, target)
        shape = 0, self.model.config.hidden_size
        empty = torch.zeros(shape, dtype=like.dtype, device=like.device)
        target.update_layer(adapter_name, peft_config, empty)

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,  # noqa: FBT001, FBT002
        low_cpu_mem_usage: bool = False,  # noqa: FBT001, FBT002
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        """Add an adapter, and make its first values."""
        super().inject_adapter(
            model, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage, state_dict
        )
        config: Any = self.peft_config[adapter_name]
        fill_prompts(model, self.layers(), adapter_name, config)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            "prompts depend on the request and cannot be merged into weights; save the adapter, or "
            "unload() it"
        )

    def _unload_and_optionally_merge(self, *args: Any, **kwargs: Any) -> Any:
        model = super()._unload_and_optionally_merge(*args, **kwargs)
        for hook in self.hooks:
            hook.remove()
        restore_attention(model)
        return model

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        found = f".mops_gate.{adapter_name}."
        if found in key:
            return key.replace(found, ".mops_gate.")
        return super()._remove_adapter_name_from_key(key, adapter_name)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        check_loaded(state_dict, adapter_name)
        found = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        check_tensor_names(found, model.state_dict(), adapter_name)
        return found

    def walk_layers(self) -> Iterator[MopsLayer]:
        """Walk the layers that hold prompts, from below."""
        held = (getattr(block, self.family.attention) for block in self.blocks)
        found = (next((m for m in one.modules() if isinstance(m, MopsLayer)), None) for one in held)
        return (layer for layer in found if layer is not None)

    def layers(self) -> Mapping[int, MopsLayer]:
        """Find the layers that hold prompts, by block."""
        return {layer.layer: layer for layer in self.walk_layers()}

    def adapters(self, names: list[str]) -> Mapping[str, Attached]:
        """Describe adapters, by name."""
        layers = self.layers()
        found: dict[str, Attached] = {}
        for name in names:
            config: Any = self.peft_config[name]
            held = layers[config.injection_layers[0]].mops_gate
            found[name] = Attached(name, config, held[name] if name in held else None)  # noqa: SIM401
        return found

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model; ``expert_ids`` and ``instruction_mask`` describe rows.

        ``below`` (``read_below``) in place of ``input_ids`` leaves out the blocks below the gate.
        """
        said = {name: kwargs.pop(name, None) for name in ("expert_ids", "instruction_mask")}
        below, layer = kwargs.pop("below", None), None
        if below is not None:
            kwargs, layer = replace_input(args, kwargs, below), self._find_lowest()
        with self._call(**said), start_at_block(self.model, self.family, layer):
            return self.model(*args, **kwargs)

    def _find_lowest(self) -> int:
        """Find the lowest block that a gate of an active adapter stands at."""
        return min(one.gate_layer for one in self.adapters(self.active_adapters).values())

    @torch.no_grad()
    def read_below(self, **inputs: Any) -> Tensor:
        """Give what the blocks below the gate make of a text, [B, T, D]; it never changes."""
        read = Below(self._find_lowest())
        with suppress(GateRead):
            self.model(**inputs, use_cache=False, mops_context=read)
        assert read.hidden is not None
        return read.hidden

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate, as ``forward`` runs."""
        said = {name: kwargs.pop(name, None) for name in ("expert_ids", "instruction_mask")}
        if said["instruction_mask"] is None:
            said["instruction_mask"] = describe_request(args, kwargs)
        with self._call(**said):
            return self.model.generate(*args, **kwargs)

    @contextmanager
    def _call(self, expert_ids: Any, instruction_mask: Any) -> Iterator[None]:
        before = self.calling
        ids = None if expert_ids is None else torch.as_tensor(expert_ids)
        self.calling = replace(before, expert_ids=ids, instruction=instruction_mask)
        try:
            yield
        finally:
            self.calling = before

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        before = self.calling
        self.calling = replace(before, adapter_names=kwargs.get("adapter_names"))
        try:
            yield
        finally:
            self.calling = before

    def _open(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Open or recall the request of a call, and send it down."""
        if "mops_context" in kwargs:
            return None
        if all(layer.disable_adapters for layer in self.walk_layers()):
            return None
        check_attention(model)
        inputs = {**kwargs, **({"input_ids": args[0]} if args else {})}
        cache = inputs.get("past_key_values")
        if cache is not None and int(cache.get_seq_length()) > 0:
            return args, {**kwargs, "mops_context": self._go_on(cache, inputs)}
        names = self.calling.adapter_names
        chosen = self.active_adapters if names is None else sorted({*names} & {*self.peft_config})
        adapters = self.adapters(chosen)
        request = open_request(adapters, inputs, self.calling)
        labels = hide_prefix(request, inputs.get("labels"))
        told = kwargs if labels is None else {**kwargs, "labels": labels}
        return args, {**told, "mops_context": request}

    def _go_on(self, cache: Any, inputs: Mapping[str, Any]) -> Request:
        """Recall the request of a cache; for a new turn, let the gate read again where it is to."""
        request = self.remembered.recall(cache)
        tokens = inputs.get("input_ids")
        if tokens is None or tokens.shape[1] == 1:
            return request
        again = {n: one for n, one in request.adapters.items() if one.config.regate_on_new_turn}
        if not again:
            return request
        turn = {"input_ids": tokens}
        fresh = open_request(request.adapters, turn, Calling(expert_ids=request.expert_ids))
        kept = {name: z for name, z in request.pooled.items() if name not in again}
        return replace(fresh, rows=request.rows, pooled=kept)

    def _remember(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Remember the request with the cache that was made for it."""
        request = kwargs.get("mops_context")
        cache = kwargs.get("past_key_values")
        if cache is None and isinstance(output, Mapping):
            cache = output.get("past_key_values")
        if isinstance(request, Request) and cache is not None:
            self.remembered.requests[cache] = request

    def _read(
        self, layer: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Let the gates before a block read, and prompts flow that start there."""
        request = kwargs.get("mops_context")
        hidden = args[0] if args else kwargs["hidden_states"]
        if isinstance(request, Below) and layer == request.layer:
            request.hidden = hidden
            raise GateRead
        if not isinstance(request, Request):
            return
        for one in request.read(layer, hidden):
            if one.config.injection == "token" and one.name not in request.flows:
                held = self.layers()[layer].mops_prompts[one.name]
                log_BE = request.weigh(one, hidden.shape[0], hidden.device)
                bias_BP = log_BE.repeat_interleave(one.config.prompts_per_expert, -1)
                start_PD = held.flatten(0, 1).to(hidden.dtype)
                flow = flow_prompts(self.blocks[layer:], start_PD, bias_BP, kwargs)
                request.flows[one.name] = flow

    @torch.no_grad()
    def read_gate(self, adapter_name: str | None = None, **inputs: Any) -> Tensor:
        """Give what the gate of an adapter reads of each row, [B, D]; blocks behind do not run."""
        name = self.active_adapters[0] if adapter_name is None else adapter_name
        request = open_request(self.adapters([name]), inputs, self.calling)
        request.only_gate = True
        if request.adapters[name].gate is None:
            raise ValueError(f"adapter {name!r} has no gate")
        known = {n: t for n, t in inputs.items() if n in ("input_ids", "attention_mask")}
        with suppress(GateRead):
            self.model(**known, use_cache=False, mops_context=request)
        return request.pooled[name]

    @torch.no_grad()
    def gate_weights(self, adapter_name: str | None = None, **inputs: Any) -> Tensor:
        """Give the experts' weights for each row, [B, E]."""
        name = self.active_adapters[0] if adapter_name is None else adapter_name
        z_BD = self.read_gate(name, **inputs)
        request = Request(self.adapters([name]), z_BD, z_BD, pooled={name: z_BD})
        return request.weigh(request.adapters[name], len(z_BD), z_BD.device).exp()
