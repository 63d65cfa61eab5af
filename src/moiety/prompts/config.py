"""What a user chooses of a mixture of prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from numbers import Real
from typing import Any

from peft import PeftConfig

from moiety.core.typed import check_types, fits_kind


class MopsType(StrEnum):
    """The method's name where PEFT reads a member of its own enum, whose ``value`` it asks for."""

    MOPS = "MOPS"


PEFT_TYPE = MopsType.MOPS

CHOICES = {
    "injection": ("deep", "token"),
    "prompt_space": ("hidden", "kv"),
    "gate_mode": ("log_bias", "post_softmax", "separate", "none", "oracle"),
    "gate_activation": ("softmax", "sigmoid"),
    "gate_pooling": ("instruction", "prefix", "last", "all"),
    "prompt_init": ("vocabulary", "text", "normal"),
}

LISTS = {"injection_layers": int, "expert_names": str, "base_shape": object, "base_means": float}
"""Fields that are lists -> of what."""

OF_GATES = (
    "gate_activation", "gate_temperature", "gate_pooling", "gate_context", "train_gate",
    "regate_on_new_turn", "gate_taught",
)  # fmt: skip
"""What nothing reads where there is no gate."""


@dataclass
class MopsConfig(PeftConfig):
    """A mixture of prompts with a gate (Dun et al., arXiv:2310.02842).

    What the paper leaves open is our choice; ``docs/methods/mops.md`` says which is which.

    Args:
        num_experts: groups of prompts.
        prompts_per_expert: prompts of a group, in each layer where they are injected.
        gate_layer: blocks that run before the gate reads; None for ten of every 32.
        injection_layers: blocks that prompts are given to, from 0; None for all behind the gate.
        injection: ``deep`` trains prompts for each layer; ``token`` trains them for the first
            layer alone, and they flow upwards as positions in front of the text.
        prompt_space: ``hidden`` trains what goes into a block's projections, ``kv`` keys and
            values themselves.
        gate_mode: ``log_bias`` adds the log of an expert's weight to the scores of its prompts,
            before the softmax; ``post_softmax`` multiplies behind it, without renormalising;
            ``separate`` adds a second softmax over prompts alone, times a scalar that starts at 0;
            ``none`` has no gate; ``oracle`` takes ``expert_ids`` in place of a gate.
        gate_activation: ``softmax``, or ``sigmoid`` of each expert.
        gate_temperature: divides the gate's scores.
        top_k: experts that are open for a row; None for all.
        gate_hidden_size: hidden units of the gate.
        gate_pooling: the tokens that the gate reads: the ``instruction`` (what has no label, and
            stands before what has one); the ``prefix`` of ``gate_context`` tokens, which is not
            scored then; the ``last`` token of the instruction; or ``all``, which in training lets
            the gate see answers.
        gate_context: tokens of a ``prefix``.
        train_gate: whether the gate learns with the prompts.
        gate_taught: whether ``pretrain_gate`` taught it, as it notes here.
        regate_on_new_turn: read the gate again where several new tokens meet an old cache.
        prompt_init: first values: hidden states of random tokens of the ``vocabulary``, those of
            ``init_text``, or ``normal`` noise of their deviation.
        init_text: a text, or one for each expert.
        tokenizer_name_or_path: of the tokenizer that reads it.
        expert_names: for reports.
        seed: of first values.
        target_modules: found from the model.
        base_shape: of the model that the adapter was made for; found from it.
        base_means: of its embeddings, by which another model of this shape is told; found likewise.
    """

    num_experts: int = field(default=8)
    prompts_per_expert: int = field(default=10)
    gate_layer: int | None = field(default=None)
    injection_layers: list[int] | None = field(default=None)
    injection: str = field(default="deep")
    prompt_space: str = field(default="hidden")
    gate_mode: str = field(default="log_bias")
    gate_activation: str = field(default="softmax")
    gate_temperature: float = field(default=1.0)
    top_k: int | None = field(default=None)
    gate_hidden_size: int = field(default=128)
    gate_pooling: str = field(default="instruction")
    gate_context: int = field(default=32)
    train_gate: bool = field(default=True)
    gate_taught: bool = field(default=False)
    regate_on_new_turn: bool = field(default=False)
    prompt_init: str = field(default="vocabulary")
    init_text: str | list[str] | None = field(default=None)
    tokenizer_name_or_path: str | None = field(default=None)
    expert_names: list[str] | None = field(default=None)
    seed: int = field(default=0)
    target_modules: list[str] | None = field(default=None)
    base_shape: list[str | int] | None = field(default=None)
    base_means: list[float] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PEFT_TYPE  # pyright: ignore[reportAttributeAccessIssue]
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}; choose one of {choices}")
        counts = ("num_experts", "prompts_per_expert", "gate_hidden_size", "gate_context")
        for name in counts:
            count = getattr(self, name)
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name}={count!r}; choose a whole number of at least 1")
        check_types(self, "MopsConfig")
        for name, kind in LISTS.items():
            check_list(name, getattr(self, name), kind)
        self.check_task()
        self.check_gate()
        self.check_starts()

    def check_task(self) -> None:
        """Refuse tasks that are not those of a causal language model."""
        if self.task_type not in (None, "CAUSAL_LM"):
            raise ValueError(
                f"task_type={self.task_type!r}, but a mixture of prompts is for causal language "
                "models; choose 'CAUSAL_LM'"
            )

    def check_gate(self) -> None:
        """Refuse numbers of the gate that do not fit, and those that would not be read."""
        if not 0 < self.gate_temperature < math.inf:
            raise ValueError(f"gate_temperature={self.gate_temperature}; choose a number above 0")
        if self.top_k is not None and not 1 <= self.top_k <= self.num_experts:
            raise ValueError(
                f"top_k={self.top_k} of num_experts={self.num_experts}; choose from 1 to as many"
            )
        if self.top_k is not None and not self.has_gate:
            raise ValueError(f"top_k={self.top_k}, but gate_mode={self.gate_mode!r} has no gate")
        unread = list_unset(OF_GATES if not self.has_gate else ("gate_context",))
        said = [name for name, unset in unread.items() if getattr(self, name) != unset]
        if said and (not self.has_gate or self.gate_pooling != "prefix"):
            raise ValueError(
                f"{said[0]}={getattr(self, said[0])!r} is not read with "
                f"gate_mode={self.gate_mode!r}, gate_pooling={self.gate_pooling!r}; leave it out"
            )
        if self.injection == "token" and self.prompt_space == "kv":
            raise ValueError("injection='token' lets hidden states flow; use prompt_space='hidden'")

    def check_starts(self) -> None:
        """Refuse first values that cannot be made."""
        if self.init_text is not None and not isinstance(self.init_text, str):
            check_list("init_text", self.init_text, str)
        if (self.prompt_init == "text") != (self.init_text is not None):
            raise ValueError(
                f"prompt_init={self.prompt_init!r} with init_text={self.init_text!r}; give a text "
                "with prompt_init='text', and only then"
            )
        if self.tokenizer_name_or_path is not None and self.prompt_init != "text":
            raise ValueError(
                f"tokenizer_name_or_path={self.tokenizer_name_or_path!r} is not read with "
                f"prompt_init={self.prompt_init!r}; leave it out, or start from a text"
            )
        texts = self.init_text if isinstance(self.init_text, list) else None
        for name, given in (("init_text", texts), ("expert_names", self.expert_names)):
            if given is not None and len(given) != self.num_experts:
                raise ValueError(
                    f"{name} has {len(given)} entries, but num_experts={self.num_experts}; give "
                    "one for each"
                )

    @property
    def has_gate(self) -> bool:
        """Whether a gate is learnt."""
        return self.gate_mode not in ("none", "oracle")

    def texts(self) -> list[str]:
        """Give the text that each expert starts from."""
        assert self.init_text is not None
        one = self.init_text
        return [one] * self.num_experts if isinstance(one, str) else one


def list_unset(names: Sequence[str]) -> dict[str, Any]:
    """List what fields are where nobody says anything of them."""
    return {name: MopsConfig.__dataclass_fields__[name].default for name in names}


def check_list(name: str, given: Any, kind: type) -> None:
    """Refuse what is no list of a kind, or has numbers that are not finite; None is left out.

    Raises:
        ValueError: with the field and its value.
    """
    if given is None:
        return
    sound = isinstance(given, Sequence) and not isinstance(given, str)
    if not sound or not all(fits_kind(one, kind) for one in given):
        wanted = "" if kind is object else f" of {kind.__name__}"
        raise ValueError(f"{name}={given!r}; give a list{wanted}")
    if not all(math.isfinite(one) for one in given if isinstance(one, Real)):
        raise ValueError(f"{name}={given!r} has numbers that are not finite; take a sound copy")
