"""Which codes a run uses: names in a recipe, and the method that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from moiety.core.errors import UnknownNameError
from moiety.core.protocols import Method
from moiety.core.solver import Descent
from moiety.solve.wrapped import Wrapped
from moiety.wire.chain import Chain
from moiety.wire.ends import CodedSender, CodedWire
from moiety.wire.stages import CodeStage, KeepLargest, Quantise, RoundToBfloat16

DELTA, LARGEST = "delta", "topk"

NUMBER_STAGES: Mapping[str, CodeStage] = {
    "bf16": RoundToBfloat16(),
    "int8": Quantise(8),
    "int4": Quantise(4),
    "int2": Quantise(2),
}
"""Stages that write numbers in fewer bits; one of them ends a chain."""

KNOWN = (DELTA, LARGEST, *NUMBER_STAGES)

ORDER = "delta, topk, then one of bf16, int8, int4, int2"


@dataclass(frozen=True)
class WireConfig:
    """How what is sent is coded (see docs/wire.md).

    Args:
        up: stages of what workers send, in order: ``delta`` (the difference to the piece that they
            were sent), ``topk`` (its largest entries; a worker remembers the others), and how
            numbers are written: ``bf16``, or at random to levels of 8, 4 or 2 bits, ``int8``,
            ``int4``, ``int2``. As they are if empty.
        down: how the numbers that workers are sent are written; as they are if empty.
        keep: share of the entries that ``topk`` sends.
    """

    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    keep: float = 0.01

    def check(self) -> None:
        """Refuse stages that make no chain, and a number that they do not read.

        Raises:
            ValueError: with the value and the remedy.
        """
        check_chain("wire.up", self.up, KNOWN)
        check_chain("wire.down", self.down, tuple(NUMBER_STAGES))
        if LARGEST in self.up and not 0 < self.keep < 1:
            raise ValueError(f"wire.keep={self.keep}; choose a share above 0 and below 1")
        if LARGEST not in self.up and self.keep != WireConfig().keep:
            raise ValueError(
                f"wire.keep={self.keep} is read by the stage topk alone, and wire.up is "
                f"{list(self.up)}; leave it out, or say --wire.up delta topk"
            )

    def make_chain(self, names: Sequence[str]) -> Chain | None:
        """Make a chain of checked names."""
        stages: Mapping[str, CodeStage] = {LARGEST: KeepLargest(self.keep), **NUMBER_STAGES}
        made = tuple(stages[name] for name in names if name != DELTA)
        return Chain(made, DELTA in names) if made else None


def check_chain(where: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names that make no chain.

    Raises:
        ValueError: with the remedy.
    """
    for name in names:
        if name not in known:
            raise UnknownNameError(f"{where} has {name!r}; choose of {list(known)}")
    ranks = [0 if name == DELTA else 1 if name == LARGEST else 2 for name in names]
    flag = f"--{where} "
    if ranks != sorted(set(ranks)):
        best = [name for _, name in sorted(dict(zip(ranks, names, strict=True)).items())]
        raise ValueError(
            f"{where} is {list(names)}, but each kind of stage stands there once, in the order "
            f"{ORDER}; say {flag}{' '.join(best)}"
        )
    if LARGEST in names and DELTA not in names:
        raise ValueError(
            f"{where} is {list(names)}, but the largest of the parameters themselves are always "
            f"the same ones; say {flag}{' '.join([DELTA, *names])}"
        )
    if list(names) == [DELTA]:
        raise ValueError(
            f"{where} is ['delta'], which has as many bytes as the piece; say how it is written: "
            f"{flag}delta int8"
        )


def apply_wire(method: Method, config: WireConfig) -> Method:
    """Code what a method sends.

    Raises:
        ValueError: for stages that make no chain, or a method whose replies cannot be coded.
    """
    config.check()
    if not (config.up or config.down):
        return method
    solve, params = method.solve, method.first or method.model.params
    up, down = config.make_chain(config.up), config.make_chain(config.down)
    descends = isinstance(solve, Descent)
    if not descends:
        raise ValueError(
            f"wire.up={list(config.up)}, wire.down={list(config.down)}, but workers of "
            f"{method.name} send sums that must be exact, not parameters that they trained; leave "
            "wire out"
        )
    whole = {n: torch.empty(t.shape, dtype=t.dtype, device="meta") for n, t in params.items()}
    trained = frozenset({*params} - {*method.model.buffers})
    wire = CodedWire(up, down, whole, method.model.axes, trained)
    if up is None:
        return replace(method, wire=wire)
    sender = CodedSender(wire, up)
    coded = Wrapped(solve, sender.begin, end=sender.end, keeps=up.drops)
    return replace(method, wire=wire, solve=coded)
