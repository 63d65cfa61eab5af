"""Independent subnet training: deal the axes of a network out afresh, train the hands alone.

Yuan et al., *Distributed Learning of Fully Connected Neural Networks using Independent Subnet
Training*, arXiv:1910.02120.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import Generator

from moiety.core.axes import lengths
from moiety.core.protocols import Method, as_it_is
from moiety.core.streams import stream
from moiety.methods.demo import Demo, two_classes
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.models.normed import normed
from moiety.split.dealt import (
    Bernoulli,
    Categorical,
    Chunk,
    Deal,
    Dealt,
    Quota,
    RoundRobin,
    Stratified,
)

DEALS: Mapping[str, Callable[[float], Deal]] = {
    "round_robin": lambda keep: RoundRobin(),
    "chunk": lambda keep: Chunk(),
    "stratified": lambda keep: Stratified(),
    "quota": Quota,
    "bernoulli": lambda keep: Bernoulli(keep or 0.5),
    "categorical": lambda keep: Categorical(),
}


def ist(
    task: Task,
    *,
    deal: str = "round_robin",
    keep: float = 0.0,
    shared: tuple[str, ...] = (),
    fresh: bool = True,
    calibrate: bool = True,
) -> Method:
    """Give each worker a disjoint hand of the units of every layer, another one each round.

    Args:
        task: what is to be learnt; the axes of its model are dealt.
        deal: ``round_robin``, ``chunk``, ``stratified``, ``quota``, ``bernoulli`` or
            ``categorical``.
        keep: share of an axis in a hand, for ``quota`` and ``bernoulli`` (0: a fair share, and
            one half).
        shared: patterns of axes that are not dealt, but whole at every worker and averaged.
        fresh: deal anew each round; without, the hands of the first round stay (an ablation).
        calibrate: make the whole good for use (statistics of norms, scale of branches); without,
            it is used as it was merged.
    """
    if deal not in DEALS:
        raise ValueError(f"{deal=}; choose one of {tuple(DEALS)}")
    how = DEALS[deal](keep)
    deals = dict.fromkeys(cut(task, shared), how)
    return dealt(task, "ist", deals, fresh=fresh, calibrate=calibrate)


def cut(task: Task, shared: Sequence[str] = ()) -> list[str]:
    """Name the axes of a task's model that are to be dealt.

    Raises:
        ValueError: if none is left.
    """
    sizes = lengths(task.model.params, task.model.axes)
    axes = [a for a in sizes if not any(fnmatchcase(a, pattern) for pattern in shared)]
    if not axes:
        raise ValueError(
            f"nothing to deal: the model has the axes {sorted(sizes)}, shared={tuple(shared)}; "
            "use a model with named axes (moiety list names them), or share fewer"
        )
    return axes


def dealt(
    task: Task,
    name: str,
    deals: Mapping[str, Deal],
    *,
    fresh: bool = True,
    calibrate: bool = True,
) -> Method:
    """Make a method of this family: some axes dealt, each in its way, the others shared."""
    sizes = lengths(task.model.params, task.model.axes)
    held = {axis: how.share(sizes[axis], max(1, task.workers)) for axis, how in deals.items()}
    return replace(
        fedavg(task),
        name=name,
        split=Dealt({axis: sizes[axis] for axis in deals}, deals, None if fresh else task.seed),
        calibrate=task.calibration(held) if calibrate else as_it_is,
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes, with hidden layers dealt to all."""
    task, data = two_classes(rng)
    model = normed((8, 24, 24, 6), stream(0, "net"))
    local = replace(task.local, epochs=4)
    task = replace(task, model=model, local=local, workers=len(data))
    return Demo(ist(task), data)
