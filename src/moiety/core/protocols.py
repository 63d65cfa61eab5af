"""The shapes of the choices that make a method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from moiety.core.axes import Axes, Part
from moiety.core.fold import Precision
from moiety.core.objective import Objective
from moiety.core.rows import Rows
from moiety.core.solver import Solve
from moiety.core.state import Job, Reply, Share, State, Turn
from moiety.core.store import LocalStore, Store
from moiety.core.transfers import Transfers
from moiety.core.types import Batch, Memory, Params
from moiety.core.wire import PLAIN_WIRE, Wire

Kept = Mapping[str, Tensor]
"""Axis -> the indices at hand, [kept], for models that must know which they are."""


class Model(Protocol):
    """Initial parameters, their axes, and pure functions that run on any piece of them."""

    @property
    def params(self) -> Params: ...
    @property
    def axes(self) -> Axes: ...
    @property
    def buffers(self) -> Mapping[str, str]:
        """Entries of ``params`` that are not trained -> how they merge: ``mean`` or ``keep``."""
        ...

    @property
    def draws_noise(self) -> bool:
        """Whether ``forward`` draws noise, from the ``seed`` of the batch."""
        ...

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether rows of a batch see each other in ``forward`` (batch norm)."""
        ...

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Give outputs for use, [B, ..., O]: of classes, logits [B, C]."""
        ...

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        """Give outputs in training, [B, ..., O]; and new values of buffers."""
        ...


@runtime_checkable
class Calibratable(Protocol):
    """A model that knows how a whole is made good for use when parts of it learned apart."""

    def calibrate(self, params: Params, rows: Rows | None, held: Mapping[str, float], /) -> Params:
        """Calibrate.

        Args:
            params: the whole; nothing of it is changed.
            rows: some training rows, where there are any to be had.
            held: axis -> share of it that a part held in training; axes left out were whole.

        Returns:
            The parameters to use, with further entries (statistics of norms) where need be.
        """
        ...


class Split(Protocol):
    """Who gets what; the indices of a part are sorted.

    >>> import torch
    >>> def halve(state, turn):
    ...     subnets = torch.arange(4).chunk(len(turn.cohort))
    ...     return {w: Share(Part({"h": kept})) for w, kept in zip(turn.cohort, subnets)}
    >>> turn = Turn(0, (3, 8), {}, torch.Generator())
    >>> {w: share.part.axes["h"].tolist() for w, share in halve(State({}), turn).items()}
    {3: [0, 1], 8: [2, 3]}
    """

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]: ...


class OpenMerge(Protocol):
    """A merge under way: replies go in one by one, so that nobody need hold them all."""

    def add(self, reply: Reply, /) -> None: ...
    def close(self) -> Merged: ...


class Merge(Protocol):
    """How parts become a model.

    >>> import torch
    >>> class Fold:
    ...     def __init__(self, store):
    ...         self.store = store
    ...     def add(self, reply):
    ...         self.store.add(reply.share.part, reply.piece, reply.precision)
    ...     def close(self):
    ...         return Merged(*self.store.close())
    >>> class Mean:
    ...     def weigh(self, reply):
    ...         return reply.precision
    ...     def begin(self, store):
    ...         return Fold(store)
    >>> merge = Mean().begin(LocalStore({"w": torch.zeros(1)}, {}))
    >>> for value in (1.0, 3.0):
    ...     merge.add(Reply(0, Share(), {"w": torch.tensor([value])}))
    >>> merge.close().params
    {'w': tensor([2.])}
    """

    def weigh(self, reply: Reply, /) -> Precision:
        """Say how well a reply is known; travelling memory is folded by the same weight."""
        ...

    def begin(self, store: Store, /) -> OpenMerge:
        """Begin the merge of one round, into a store that is used by it alone."""
        ...


class ServerOptimizer(Protocol):
    """The server's optimiser; it moves only what somebody held."""

    def __call__(
        self, params: Params, merged: Params, held: Params, memory: Memory, /
    ) -> tuple[Params, Memory]: ...


class Calibrate(Protocol):
    """Makes a good whole of what parts learned apart.

    For evaluation and use alone: what it gives never goes on training. It may add entries that
    the model's ``logits`` uses where they are there (statistics of norms).
    """

    def __call__(self, params: Params, rows: Rows | None, /) -> Params:
        """Calibrate on some training rows, where there are any to be had."""
        ...


def skip_calibration(params: Params, rows: Rows | None, /) -> Params:
    """Leave the whole as it is."""
    del rows
    return params


class Serve(Protocol):
    """How a worker, new or known, uses the whole: no labels, no training."""

    @property
    def objective(self) -> Objective:
        """What answers are, and how they are scored."""
        ...

    def choose(self, params: Params, rows: Rows, /) -> Part:
        """Choose the part that serves these rows; inputs only are looked at."""
        ...

    def scores(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Give the objective's answers, [B, ...]: log-probabilities [B, C] of classes."""
        ...

    def routes(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor | None:
        """Say which index of the gated axis answered for each row, [B], if any axis is gated."""
        ...


class Engine(Protocol):
    """Runs jobs where the data live; knows no method.

    >>> class Echo:
    ...     memory = {}
    ...     def map(self, solve, jobs):
    ...         for job in jobs:
    ...             yield Reply(job.worker, job.share, job.piece)
    ...     def close(self):
    ...         pass
    >>> [reply.worker for reply in Echo().map(None, [Job(0, 0, 7, Share(), {})])]
    [7]
    """

    @property
    def memory(self) -> MutableMapping[int, Memory]:
        """What workers keep between rounds; part of a checkpoint."""
        ...

    @property
    def transfers(self) -> Transfers:
        """What it sent to other processes and waited for, since it was made."""
        ...

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        """Carry out jobs; replies come one by one, in job order, and jobs are taken as needed."""
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...


@dataclass(frozen=True)
class Merged:
    """The outcome of a merge; ``held`` masks broadcast against the parameters somebody held."""

    params: Params
    held: Params


@dataclass(frozen=True)
class Query:
    """A question to workers before the split.

    Args:
        solve: answers in the ``answer`` of its update.
        part: what it needs; by name, or the whole model would travel.
        exempt: workers that are not asked, because their part is fixed.
    """

    solve: Solve
    part: Part
    exempt: frozenset[int] = frozenset()


def adopt_merged(
    params: Params, merged: Params, held: Params, memory: Memory, /
) -> tuple[Params, Memory]:
    """Move all the way to what was merged: the server's step of FedAvg."""
    del params, held
    return merged, memory


@dataclass(frozen=True)
class Method:
    """A method is a record of choices; the round is written once, for all.

    Args:
        name: what the ledger and the reports call it.
        model: parameters, axes, functions.
        split: who gets what.
        solve: what a worker does.
        merge: how parts become a model.
        serve: how a worker uses the result.
        server: the server's optimiser.
        calibrate: makes the whole good for use; identity where parts are whole.
        query: asked before the split.
        transform: adds frozen columns to rows, once per worker, e.g. embeddings.
        first: where the parameters start, if not where the model says.
        gated: the axis whose load the ledger shows.
        store: where the whole lives during a round.
        worker_means: sections of the travelling memory that are the mean, over all workers, of a
            term that each of them keeps (a control variate) -> how many workers there are. They
            begin at zero; a reply brings the change of its worker's term.
        constants: what every worker downloads once and nobody trains.
        wire: how pieces pass; the worker's end of it is in ``solve``.
    """

    name: str
    model: Model
    split: Split
    solve: Solve
    merge: Merge
    serve: Serve
    server: ServerOptimizer = adopt_merged
    calibrate: Calibrate = skip_calibration
    query: Query | None = None
    transform: Transform | None = None
    gated: str | None = None
    first: Params | None = None
    store: Callable[[Params, Axes], Store] = LocalStore
    worker_means: Mapping[str, int] = field(default_factory=dict)
    constants: Params = field(default_factory=dict)
    wire: Wire = PLAIN_WIRE


class Transform(Protocol):
    """A frozen function of a row."""

    def __call__(self, batch: Batch, /) -> Batch: ...


Cohort = Sequence[int]
