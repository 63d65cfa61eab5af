"""Whether a reply is what was asked for: looked at before anything of it is merged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.core.axes import Part
from moiety.core.fold import Precision
from moiety.core.state import Job, Reply, measure_change
from moiety.core.types import Memory, Params

REMEDY = "lower the learning rates, of the workers (local.lr) and of the server"


@dataclass(frozen=True)
class Judging:
    """When a reply is refused.

    Args:
        change: a worker may change its piece by a vector of this norm at most, times 1 plus the
            norm of the piece that it was sent.
    """

    change: float = 1e4

    def __post_init__(self) -> None:
        if not 0 < self.change < math.inf:
            raise ValueError(f"judging.change={self.change}; choose a finite number above 0")


def find_fault(job: Job, reply: Reply, judging: Judging) -> str:
    """Say why a reply is refused; empty where it is not.

    Args:
        job: that was given.
        reply: to it.
        judging: what is plausible.

    Returns:
        What is wrong, with names and numbers.
    """
    return (
        reply.fault
        or describe_wrong_part(job, reply)
        or compare_piece(job.piece, reply)
        or compare_sections(job.optimizer_state, reply.optimizer_state)
        or describe_precision(reply.precision)
        or describe_numbers(reply.answer)
        or judge_change(job, reply, judging)
    )


def describe_wrong_part(job: Job, reply: Reply) -> str:
    """Say whether a reply is of another part or role than its job."""
    if reply.share is job.share:
        return ""
    if reply.share.role != job.share.role:
        return f"it plays the role {reply.share.role!r}, not {job.share.role!r}"
    asked, found = job.share.part, reply.share.part
    if is_same_part(asked, found):
        return ""
    return f"its part is {list_held(found)}, not the one asked, {list_held(asked)}"


def is_same_part(one: Part, other: Part) -> bool:
    """Say whether two parts hold the same."""
    return (
        one.names == other.names
        and one.axes.keys() == other.axes.keys()
        and all(torch.equal(kept.cpu(), other.axes[axis].cpu()) for axis, kept in one.axes.items())
    )


def list_held(part: Part) -> str:
    """Say in few letters what a part holds."""
    held = ", ".join(f"{len(kept)} of {axis}" for axis, kept in part.axes.items()) or "the whole"
    return held if part.names is None else f"{held} of {part.names}"


def compare_piece(asked: Params, reply: Reply) -> str:
    """Compare names and forms of a piece; one that only answers brings no piece."""
    if not asked or (not reply.piece and reply.answer):
        return ""
    return compare_forms(asked, reply.piece)


def compare_sections(asked: Memory, found: Memory) -> str:
    """Compare the sections of travelling memory, and their numbers."""
    if asked.keys() != found.keys():
        return f"its memory has the sections {sorted(found)}, not {sorted(asked)}"
    for section, tensors in asked.items():
        wrong = compare_forms(tensors, found[section]) or describe_numbers(found[section])
        if wrong:
            return f"of its {section}, {wrong}"
    return ""


def compare_forms(asked: Params, found: Params) -> str:
    """Compare names, shapes and types of tensors."""
    if asked.keys() != found.keys():
        return (
            f"it lacks {sorted(asked.keys() - found.keys())[:3]} and has "
            f"{sorted(found.keys() - asked.keys())[:3]} besides"
        )
    for name, tensor in asked.items():
        other = found[name]
        if tensor.shape != other.shape or tensor.dtype != other.dtype:
            return f"{name} is {describe_form(other)}, not {describe_form(tensor)}"
    return ""


def describe_form(tensor: Tensor) -> str:
    """Write the type and shape of a tensor.

    >>> describe_form(torch.zeros(2, 3))
    'float32 [2, 3]'
    """
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def describe_precision(know: Precision) -> str:
    """Refuse weights that are no weights."""
    given: Mapping[str, Tensor] = {**know.axes, **know.diagonal}
    if not 0 <= know.scalar < math.inf:
        return f"its weight is {know.scalar}"
    for name, tensor in given.items():
        if not tensor.is_meta and not bool(((tensor >= 0) & tensor.isfinite()).all()):
            return f"its weights of {name} are below 0 or not finite"
    return ""


def describe_numbers(tensors: Params) -> str:
    """Say which tensor has numbers that are not finite, and how many; empty where none has."""
    for name, tensor in tensors.items():
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        count = int((~tensor.isfinite()).sum())
        if count:
            return f"{count} of {tensor.numel()} numbers of {name} are not finite; {REMEDY}"
    return ""


def judge_change(job: Job, reply: Reply, judging: Judging) -> str:
    """Refuse a change that is not finite, or too large to be learnt.

    Where nothing was sent there is nothing from which a piece could be far.
    """
    change = measure_change(job.piece, reply.piece) if reply.change is None else reply.change
    if not math.isfinite(change):
        return describe_numbers(reply.piece) or f"the norm of what it changed is {change}; {REMEDY}"
    if change <= judging.change or not job.piece:
        return ""
    most = judging.change * (1 + measure_change({}, job.piece))
    if change <= most:
        return ""
    return (
        f"the norm of what it changed is {change:.3g}, above {most:.3g} (judging.change="
        f"{judging.change:g}); {REMEDY}"
    )


def find_odd_answers(answers: Mapping[int, Params], size: int | None) -> dict[int, str]:
    """Find the answers of a round that are not of the form that most have, or name no index.

    Args:
        answers: worker -> its answer.
        size: length of the axis whose indices are named; None where none is.

    Returns:
        Worker -> what is wrong with its answer.
    """
    forms = {worker: describe_answer(answer) for worker, answer in answers.items()}
    usual = Counter(forms.values()).most_common(1)[0][0] if forms else ""
    odd = {w: f"it answers {form}, not {usual}" for w, form in forms.items() if form != usual}
    for worker, answer in answers.items():
        whole = [t for t in answer.values() if not t.is_floating_point() and t.numel()]
        if size is not None and any(bool(((t < 0) | (t >= size)).any()) for t in whole):
            odd.setdefault(worker, f"it names an index that is not one of 0 to {size - 1}")
        elif any(len(t.unique()) < t.numel() for t in whole):
            odd.setdefault(worker, "it names an index twice")
    return odd


def describe_answer(answer: Params) -> str:
    """Write the names and forms of an answer.

    >>> describe_answer({"ids": torch.zeros(2, dtype=torch.int32)})
    'ids: int32 [2]'
    """
    return ", ".join(f"{name}: {describe_form(t)}" for name, t in sorted(answer.items()))
