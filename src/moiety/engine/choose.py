"""Which engine, by sizes and by what can be stacked, so that a run chooses alike everywhere."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, MutableMapping
from difflib import get_close_matches

from moiety.core.errors import UnknownNameError
from moiety.core.protocols import Engine, Method
from moiety.core.rows import OpenRows
from moiety.core.solver import Descent
from moiety.core.types import Memory

ENGINE_CLASSES: Mapping[str, tuple[str, str]] = {
    "serial": ("moiety.engine.serial", "Serial"),
    "vectorized": ("moiety.engine.vectorized", "Vectorized"),
    "pool": ("moiety.engine.pool", "Pool"),
    "collective": ("moiety.engine.collective", "Collective"),
}
"""Those that map jobs: module and class, imported when one is made."""

BLOCK_ENGINES = ("partitioned", "peers")
"""Those that play whole rounds on blocks (``run/blocks.py``)."""

ELSEWHERE: Mapping[str, str] = {
    "auto": ": it is resolved by choose_engine(method, device, num_workers)",
    "flower": ": flwr run plays an app of moiety flower new, also to go on with its run",
}
"""What is no engine to make, and where it is one."""

RANK_ENGINES = ("collective", *BLOCK_ENGINES)
"""Engines that use the processes of torchrun."""

MOST_STACKED_PARAMETERS = 16_384
"""Parameters up to which stacking pays on a CPU.

One core, batches of 20, time of ``pool`` over that of ``vectorized`` with 10 / 64 / 256 workers:
700 parameters 1.3 / 3.7 / 4.9; 3,500: 1.3 / 3.3 / 4.0; 9,000: 1.2 / 2.6 / 2.8; 26,000: 1.0 / 1.2
/ 1.3; 85,000: 0.5 / 0.7 / 0.3. Beyond it, stacked weights leave the cache at every step.
"""

LEAST_STACKED_WORKERS = 8
"""Workers from which stacking pays: four together take 1.6 times as long as one by one."""


def choose_engine(
    method: Method, device: str, num_workers: int, can_stack: Callable[[], bool] = lambda: True
) -> str:
    """Choose the engine that is expected to be the fastest.

    Cores are not counted: ``pool`` uses those there are, with the same numbers on any.

    Args:
        method: what is run; the size of the whole model stands for that of its parts.
        device: ``cpu``, ``cuda`` or ``cuda:0``.
        num_workers: workers in a round.
        can_stack: whether a step of workers runs stacked; asked only where stacking pays. A
            module of one's own must be tried (``engine/stackable.py``), networks of ours can.
    """
    stackable = isinstance(method.solve, Descent) and method.solve.stackable
    if not device.startswith("cpu"):
        return "vectorized" if stackable and can_stack() else "serial"
    params = method.model.params.values()
    size = sum(tensor.numel() for tensor in params)
    convolves = any(tensor.ndim >= 4 for tensor in params)
    stacks = (
        num_workers >= LEAST_STACKED_WORKERS and size <= MOST_STACKED_PARAMETERS and not convolves
    )
    return "vectorized" if stackable and stacks and can_stack() else "pool"


def make_engine(
    name: str, open_rows: OpenRows, memory: MutableMapping[int, Memory] | None = None
) -> Engine:
    """Build an engine by its name.

    Args:
        name: one of ``ENGINES``.
        open_rows: opens the rows of a worker.
        memory: what workers kept, in a run that goes on.

    >>> type(make_engine("serial", lambda worker: None)).__name__
    'Serial'
    """
    if name in BLOCK_ENGINES:
        raise ValueError(
            f"engine {name!r} plays whole rounds, not jobs: say moiety run --engine {name}, or see "
            "docs/cluster.md for its use from Python"
        )
    if name not in ENGINE_CLASSES:
        near = get_close_matches(name, ENGINE_CLASSES, n=3, cutoff=0) or list(ENGINE_CLASSES)
        raise UnknownNameError(
            f"no engine {name!r} here{ELSEWHERE.get(name, '')}; the nearest names are "
            f"{', '.join(near)}"
        )
    module, kind = ENGINE_CLASSES[name]
    make = getattr(importlib.import_module(module), kind)
    return make(open_rows, {} if memory is None else memory)
