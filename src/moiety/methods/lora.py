"""Federated LoRA: low-rank parts of a frozen model, of unequal ranks, merged exactly.

Wang et al., *FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank
Adaptations*, arXiv:2409.05976; Bai et al. (FlexLoRA), arXiv:2402.11505.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Generator

from moiety.core.fold import Precision
from moiety.core.protocols import Merge, Method
from moiety.core.state import Reply
from moiety.core.streams import stream
from moiety.merge.overlap import Overlap, read_precision, weigh_by_rows
from moiety.merge.stack import Padded, Stack
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.models.base import find_constants
from moiety.models.low_rank import RANK, Adaptable, Factored, low_rank
from moiety.split.nested import Nested, Widths

Weigh = Callable[[Reply], Precision]

MERGES: Mapping[str, Callable[[Factored, Weigh], Merge]] = {
    "stack": lambda model, weigh: Stack(model.pairs, model.axes, RANK, weigh),
    "holders": lambda _, weigh: Overlap(weigh),
    "padded": lambda model, weigh: Padded(model.axes, weigh),
}

CANNOT = {
    "one_reply_is_the_result": (
        "the product is what the worker sent, but its factors are others: a product has many, and "
        "the merge gives those whose first columns are the nearest of a lower rank"
    ),
    "the_merge_is_the_obvious_fold": (
        "the mean of factors is not a factor of the mean; products are averaged, by stacks"
    ),
}


def lora(
    task: Task,
    *,
    ranks: tuple[int, ...] = (8,),
    rank: int = 0,
    scale: float = 1.0,
    targets: tuple[str, ...] = (),
    merge: str = "stack",
) -> Method:
    """Train low-rank parts of a frozen model at workers of unequal means; the base is a constant.

    The base is where the task starts (a common expert, say), or a language model.

    Args:
        task: what is to be learnt.
        ranks: columns that workers train, given to them in turns.
        rank: columns that the server keeps; 0 for the largest of ``ranks``.
        scale: of what is added to a matrix (alpha over r, as LoRA says it).
        targets: patterns of the matrices; by default all, of a language model those that PEFT
            chooses.
        merge: ``stack`` averages products, exactly where ``rank`` is large enough; ``holders`` and
            ``padded`` average factors, over those who held a column, or over all with 0 for the
            others.
    """
    if merge not in MERGES:
        raise ValueError(f"lora.merge={merge!r}; choose one of {tuple(MERGES)}")
    if not ranks or min(ranks) < 1 or not (rank == 0 or rank >= max(ranks)):
        raise ValueError(
            f"lora.ranks={ranks}, lora.rank={rank}; choose ranks of at least 1, and a rank at the "
            "server no smaller than any of them, or 0"
        )
    if not 0 < scale < float("inf"):
        raise ValueError(f"lora.scale={scale}; choose a finite number above 0")
    if merge == "stack" and task.local.optimizer_state != "reset":
        raise ValueError(
            f"local.optimizer_state={task.local.optimizer_state!r} keeps moments of factors, but "
            "lora.merge='stack' finds other factors each round; take 'reset', or merge 'holders'"
        )
    size = rank or max(ranks)
    model = adapt(task, size, scale, targets)
    weigh = weigh_by_rows if task.local.by_rows else read_precision
    return replace(
        fedavg(replace(task, model=model, start=None)),
        name="lora",
        split=Nested({RANK: size}, Widths(tuple(one / size for one in ranks))),
        merge=MERGES[merge](model, weigh),
        constants=find_constants(model),
    )


def adapt(task: Task, rank: int, scale: float, targets: tuple[str, ...]) -> Factored:
    """Freeze the model of a task where it starts, and put low-rank parts into it."""
    rng = stream(task.seed, "lora")
    if isinstance(task.model, Adaptable):
        return task.model.make_low_rank(rank, scale, targets, rng)
    base = task.start or task.model.params
    return low_rank(task.model, base, rng, rank=rank, scale=scale, targets=targets)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes, with parts of three ranks."""
    task, data = make_two_class_workers(rng)
    task = replace(task, local=replace(task.local, lr=0.05))
    return Demo(lora(task, ranks=(1, 2, 4)), data)
