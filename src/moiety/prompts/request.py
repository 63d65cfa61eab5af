"""What one call of the model knows of its rows: it goes down to the layers as a keyword.

A request that a cache was made for is remembered with that cache, so that later tokens are read by
the gate's weights of the first call. Letters: B rows, T positions, D width, E experts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from moiety.prompts.config import MopsConfig
from moiety.prompts.gate import (
    find_instruction,
    find_prefix,
    open_experts,
    pool_hidden,
    weigh_experts,
)

BASE = "__base__"
"""How a row is named that no adapter changes, as PEFT does."""


@dataclass(frozen=True)
class Attached:
    """An adapter that is in the model: its choices, with numbers of this model in place."""

    name: str
    config: MopsConfig
    gate: nn.Module | None

    @property
    def gate_layer(self) -> int:
        assert self.config.gate_layer is not None
        return self.config.gate_layer

    @property
    def layers(self) -> Sequence[int]:
        assert self.config.injection_layers is not None
        return self.config.injection_layers


class GateRead(Exception):  # noqa: N818
    """Raised where only the gate was asked for, when it has read."""


@dataclass
class Recorder:
    """Goes down in place of a request: takes what each block's attention is given, [B, T, D]."""

    inputs: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class Request:
    """The rows of a call, and what the gate read of them.

    Args:
        adapters: those that are active, by name.
        attended: tokens that are not padding, nor generated, [B, T].
        instruction: tokens of the request, [B, T].
        rows: the adapter of each row, or None for all active ones.
        expert_ids: the expert of each row, for adapters without a gate, [B].
        only_gate: whether to stop when the gate has read.
        pooled: what the gate of an adapter reads, [B, D].
        flows: adapter -> block -> prompts that flowed there, [B, prompts, D].
        weights: adapter -> log of its experts' weights, where they come from elsewhere, [B, E].
        kept: adapter and block -> what was made of them, where no gradient is asked for.
    """

    adapters: Mapping[str, Attached]
    attended: Tensor
    instruction: Tensor
    rows: Sequence[str] | None = None
    expert_ids: Tensor | None = None
    only_gate: bool = False
    pooled: dict[str, Tensor] = field(default_factory=dict)
    flows: dict[str, Mapping[int, Tensor]] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[tuple[str, int], tuple[Any, Any]] = field(default_factory=dict)

    def choose_read(self, config: MopsConfig) -> Tensor:
        """Mark the tokens that a gate reads, [B, T]."""
        if config.gate_pooling == "prefix":
            return find_prefix(self.attended, config.gate_context)
        return self.attended if config.gate_pooling == "all" else self.instruction

    def read(self, layer: int, hidden_BTD: Tensor) -> list[Attached]:
        """Let the gates that stand before a block read; give the adapters that they are of."""
        here = [one for one in self.adapters.values() if one.gate_layer == layer]
        for one in here:
            if one.gate is not None and one.name not in self.pooled:
                read_BT = self.choose_read(one.config)
                last = one.config.gate_pooling == "last"
                self.pooled[one.name] = pool_hidden(hidden_BTD.detach(), read_BT, last=last)
        if self.only_gate and all(
            name in self.pooled for name, one in self.adapters.items() if one.gate is not None
        ):
            raise GateRead
        return here

    def weigh(self, one: Attached, rows: int, device: torch.device) -> Tensor:
        """Give the log of the experts' weights of an adapter, [B, E]."""
        if one.name in self.weights:
            return self.weights[one.name].to(device)
        if one.gate is not None:
            return weigh_experts(one.gate(self.pooled[one.name].to(device)), one.config)
        if one.config.gate_mode == "none":
            return torch.zeros(rows, one.config.num_experts, device=device)
        if self.expert_ids is None:
            raise ValueError(
                f"adapter {one.name!r} has gate_mode='oracle'; say expert_ids=, one for each row"
            )
        return open_experts(self.expert_ids.to(device), one.config.num_experts)

    def find_rows(self, name: str, device: torch.device) -> Tensor | None:
        """Mark the rows of an adapter, [B]; None for all."""
        if self.rows is None:
            return None
        return torch.tensor([row == name for row in self.rows], device=device)

    def keep(self, key: tuple[str, int], stamp: Any, make: Callable[[], Any]) -> Any:
        """Make something, or take it from before where its stamp is the same; no gradient flows."""
        if torch.is_grad_enabled():
            return make()
        if key not in self.kept or self.kept[key][0] != stamp:
            self.kept[key] = stamp, make()
        return self.kept[key][1]


@dataclass
class Calling:
    """What a caller said of its rows that the model's own arguments have no place for."""

    adapter_names: Sequence[str] | None = None
    expert_ids: Tensor | None = None
    instruction: Tensor | None = None


class Remembered:
    """Requests by the caches that were made for them, for as long as those live."""

    def __init__(self) -> None:
        self.requests: weakref.WeakKeyDictionary[Any, Request] = weakref.WeakKeyDictionary()

    def __deepcopy__(self, memo: dict[int, Any]) -> Remembered:
        return Remembered()

    def __reduce__(self) -> tuple[type[Remembered], tuple[()]]:
        return Remembered, ()

    def recall(self, cache: Any) -> Request:
        """Find the request of a cache.

        Raises:
            ValueError: if the gate never read what the cache holds.
        """
        if cache not in self.requests:
            raise ValueError(
                "the gate has not read the request in this cache, which another model (or a copy, "
                "or this one with its adapters off) made; run the request again from its start"
            )
        return self.requests[cache]


def open_request(
    adapters: Mapping[str, Attached], inputs: Mapping[str, Any], calling: Calling
) -> Request:
    """Open the request of a call without a cache of old tokens.

    Args:
        adapters: those that are active.
        inputs: the model's arguments by name.
        calling: what else the caller said.

    Raises:
        ValueError: if it cannot be told which tokens are the request.
    """
    given = inputs.get("input_ids")
    given = inputs.get("inputs_embeds") if given is None else given
    if given is None:
        raise ValueError("give input_ids or inputs_embeds")
    shape, mask = given.shape[:2], inputs.get("attention_mask")
    if mask is not None and (not isinstance(mask, Tensor) or mask.ndim != 2):
        mask = calling.instruction
        if mask is None:
            raise ValueError(
                "the attention mask is not of shape [batch, tokens], so padding cannot be told; "
                "say instruction_mask= [batch, tokens] as well"
            )
    attended_BT = torch.ones(shape, dtype=torch.bool, device=given.device)
    if mask is not None:
        attended_BT = spread_rows(mask, shape[0])[:, -shape[1] :].to(given.device).bool()
    if calling.instruction is None:
        instruction_BT = find_instruction(attended_BT, inputs.get("labels"))
    else:
        told_BT = spread_rows(calling.instruction, shape[0]).to(given.device).bool()
        attended_BT = instruction_BT = attended_BT & fit_length(told_BT, shape[1])
    rows = calling.adapter_names
    if rows is not None:
        rows = [name for name in rows for _ in range(shape[0] // len(rows))]
        check_rows(rows, shape[0], adapters)
    return Request(
        adapters,
        attended_BT,
        instruction_BT,
        rows,
        spread_experts(calling.expert_ids, shape[0], adapters),
    )


def spread_experts(
    ids: Tensor | None, rows: int, adapters: Mapping[str, Attached]
) -> Tensor | None:
    """Repeat the experts that were said for beams.

    Raises:
        ValueError: if no active adapter reads them.
    """
    if ids is None:
        return None
    if not any(one.config.gate_mode == "oracle" for one in adapters.values()):
        raise ValueError("expert_ids is read with gate_mode='oracle' alone; leave it out")
    return spread_rows(ids, rows)


def describe_request(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Mark the tokens that are given to ``generate``, [B, T]; None where it cannot be told.

    Args:
        args: of the call.
        kwargs: likewise, by name.
    """
    mask = kwargs.get("attention_mask")
    if mask is not None:
        return mask if mask.ndim == 2 else None
    named = (kwargs.get(name) for name in ("inputs", "input_ids", "inputs_embeds"))
    given = next((one for one in (*args[:1], *named) if isinstance(one, Tensor)), None)
    return None if given is None else torch.ones(given.shape[:2], device=given.device)


def fit_length(instruction_BT: Tensor, length: int) -> Tensor:
    """Say that tokens behind a request (generated ones, without a cache) are none of it, [B, T].

    Raises:
        ValueError: if more tokens were described than there are.
    """
    more = length - instruction_BT.shape[1]
    if more < 0:
        raise ValueError(
            f"the request has {instruction_BT.shape[1]} tokens, but {length} came; give them "
            "together (no prefill_chunk_size), and instruction_mask the shape of input_ids"
        )
    return pad(instruction_BT, (0, more))


def spread_rows(given: Tensor, rows: int) -> Tensor:
    """Repeat what was said of requests for their beams.

    Raises:
        ValueError: if the number of rows does not fit.
    """
    if rows % len(given):
        raise ValueError(f"{len(given)} rows were described, but the batch has {rows}")
    return given.repeat_interleave(rows // len(given), 0)


def check_rows(rows: Sequence[str], count: int, adapters: Mapping[str, Attached]) -> None:
    """Refuse names that are no adapters, or too few of them."""
    unknown = sorted(set(rows) - {BASE, *adapters})
    if unknown:
        raise ValueError(f"adapter_names has {unknown}; choose from {[*adapters]} and {BASE!r}")
    if len(rows) != count:
        raise ValueError(f"adapter_names names {len(rows)} rows, but the batch has {count}")


def hide_prefix(request: Request, labels: Tensor | None) -> Tensor | None:
    """Take the labels off the tokens that a gate reads as a prefix.

    Raises:
        ValueError: if no label is left.
    """
    lengths = [
        one.config.gate_context
        for one in request.adapters.values()
        if one.config.gate_pooling == "prefix" and one.gate is not None
    ]
    if labels is None or not lengths:
        return labels
    hidden = labels.masked_fill(find_prefix(request.attended, max(lengths)), -100)
    if not bool((hidden != -100).any()):
        raise ValueError(f"no row is longer than gate_context={max(lengths)}; choose a smaller one")
    return hidden
