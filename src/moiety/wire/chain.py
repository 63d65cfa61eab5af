"""A chain of stages, and the code of some tensors: by section, under the tensors' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Generator, Tensor

from moiety.core.state import CODED
from moiety.core.types import Memory, Params
from moiety.wire.stages import CodeStage, KeepLargest, check_form, refuse_not_finite

OpenStream = Callable[[str], Generator]
"""Opens the stream of a tensor by its name."""


@dataclass(frozen=True)
class Chain:
    """Stages in the order in which a sender goes through them.

    Args:
        stages: at least one.
        delta: whether what is coded is the difference to the piece that was sent.
    """

    stages: tuple[CodeStage, ...]
    delta: bool = False

    @property
    def drops(self) -> bool:
        """Whether entries are left out, so that what is left out must be remembered."""
        return any(isinstance(stage, KeepLargest) for stage in self.stages)

    def encode(self, tensor: Tensor, rng: Generator, /) -> Params:
        """Code a tensor; sections by name."""
        values, code = tensor.detach().flatten(), dict[str, Tensor]()
        for stage in self.stages:
            values, beside = stage.encode(values, rng)
            if beside is not None:
                code[stage.section] = beside
        return {**code, CODED: values}

    def decode(self, code: Params, like: Tensor, /) -> Tensor:
        """Give back a tensor with the shape and type of another.

        Raises:
            ValueError: for what is no such code.
        """
        sizes = [like.numel()]
        for stage in self.stages:
            sizes.append(stage.count(sizes[-1]))
        values = code[CODED]
        if not self.makes_numbers:
            values = check_form("the numbers", values, sizes[-1], like.dtype)
        for stage, size in zip(reversed(self.stages), reversed(sizes[:-1]), strict=True):
            values = stage.decode(values, code.get(stage.section), size)
        refuse_not_finite("the numbers", values)
        return values.view(like.shape).to(like.dtype)

    @property
    def makes_numbers(self) -> bool:
        """Whether the last stage gives the numbers a form of its own, which it checks itself."""
        return not isinstance(self.stages[-1], KeepLargest)

    @property
    def sections(self) -> frozenset[str]:
        """Name the sections of a code."""
        return frozenset({CODED, *(stage.section for stage in self.stages)} - {""})

    def shrinks(self, like: Tensor) -> bool:
        """Say whether the code of such a tensor is smaller than itself; others are not coded."""
        return like.is_floating_point() and self.measure(like.numel(), like.itemsize) < like.nbytes

    def measure(self, size: int, width: int) -> int:
        """Count the bytes of the code of so many numbers of a width in bytes.

        >>> from moiety.wire.stages import Quantise
        >>> Chain((Quantise(4),)).measure(128, 4)
        68
        """
        total, last = 0, size * width
        for stage in self.stages:
            beside, last = stage.measure(size, width)
            total, size = total + beside, stage.count(size)
        return total + last


def encode_tensors(chain: Chain, tensors: Params, open_stream: OpenStream) -> Memory:
    """Code some tensors."""
    code: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        for section, part in chain.encode(tensor, open_stream(name)).items():
            code.setdefault(section, {})[name] = part
    return code


def decode_tensors(chain: Chain, code: Memory, forms: Params) -> dict[str, Tensor]:
    """Give back tensors with the shapes and types of others.

    Raises:
        ValueError: for what is no such code, with the name of the tensor.
    """
    asked = chain.sections if forms else frozenset[str]()
    if code.keys() != asked:
        raise ValueError(f"its code has the sections {sorted(code)}, not {sorted(asked)}")
    for section, parts in code.items():
        if parts.keys() != forms.keys():
            raise ValueError(
                f"of its {section}, it lacks {sorted(forms.keys() - parts.keys())[:3]} and has "
                f"{sorted(parts.keys() - forms.keys())[:3]} besides"
            )
    found = {}
    for name, like in forms.items():
        try:
            found[name] = chain.decode(take_column(code, name), like)
        except ValueError as error:
            raise ValueError(f"of its code of {name}, {error}") from error
    return found


def take_column(code: Memory, name: str) -> Mapping[str, Tensor]:
    """Take what is of one tensor out of a code."""
    return {section: parts[name] for section, parts in code.items()}
