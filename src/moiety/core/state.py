"""What survives a round, and what passes between server and worker within one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from moiety.core.axes import Part
from moiety.core.fold import Precision
from moiety.core.types import Memory, Params

CODED = "coded"
"""The section of a code that has the numbers; it names the tensors that are coded."""


@dataclass(frozen=True)
class InFlight:
    """A job under way: its reply is there at ``end`` of the virtual clock, after ``seconds``."""

    job: Job
    end: float
    seconds: float


@dataclass(frozen=True)
class Clock:
    """Where a run stands in virtual time; all at nothing where it has no clock.

    Args:
        now: seconds since the run began.
        in_flight: jobs under way, in the order in which they were sent.
        job_seconds: worker -> seconds that the last job of it took that was done.
    """

    now: float = 0.0
    in_flight: tuple[InFlight, ...] = ()
    job_seconds: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """All that survives a round at the server; a value.

    Args:
        params: the whole model, buffers included.
        server: memory of the server's optimiser, by section.
        optimizer_state: memory of the workers' optimiser that travels, by section; it lies on the
            same axes as the parameters, is cut with them, told to workers with their pieces, and
            moved by what they send back: moments, or a control variate.
        round: commits so far.
        stage: which stage of the run is being played.
        clock: virtual time, and the jobs under way in it.
    """

    params: Params
    server: Memory = field(default_factory=dict)
    optimizer_state: Memory = field(default_factory=dict)
    round: int = 0
    stage: int = 0
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True)
class Share:
    """What a split gives a worker: a part, and the role it plays with it.

    ``holders`` is what all workers of the round hold, where they must know it of each other.
    """

    part: Part = field(default_factory=Part)
    role: str = ""
    holders: Mapping[int, Part] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """What a split may look at besides the state: who is there, what they answered, its stream.

    ``concurrency`` is how many work at a time, where those of the cohort may be fewer.
    """

    round: int
    cohort: tuple[int, ...]
    answers: Mapping[int, Params]
    rng: Generator
    concurrency: int = 0


@dataclass(frozen=True)
class Job:
    """One worker's work of one round; ``(seed, round, worker)`` addresses its randomness.

    Args:
        piece: the tensors of the part, as the server has them.
        optimizer_state: the optimiser's memory of the piece, where it travels, by section; a
            control variate is one.
        known: parameter names that the worker already has from the query, not sent again.
        code: what is sent in place of some tensors of the piece, by section; none if empty.
        beside_bytes: of what passes to the worker besides: keys and shares of a secure sum.
    """

    seed: int
    round: int
    worker: int
    share: Share
    piece: Params
    optimizer_state: Memory = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    code: Memory = field(default_factory=dict)
    beside_bytes: int = 0

    @property
    def down_bytes(self) -> int:
        """Bytes that this job costs on the way to its worker."""
        sent = count_sent(self.piece, self.code, self.known) + self.beside_bytes
        return sent + count_section_bytes(self.optimizer_state)


@dataclass(frozen=True)
class Record:
    """What every reply tells about its making; losses are means over a batch, NaN if unknown.

    ``work_s`` is a reading of a clock, for the ledger alone: NaN where the engine works for several
    workers at once.
    """

    steps: int = 0
    rows: int = 0
    loss_first: float = float("nan")
    loss_last: float = float("nan")
    loss_mean: float = float("nan")
    model_version: int = 0
    work_s: float = field(default=float("nan"), compare=False)


@dataclass(frozen=True)
class Update:
    """What a solver makes of a job: absolute piece, new memory, precision, answer for the server.

    ``memory`` stays at the worker, ``optimizer_state`` travel with the piece, and ``code`` in place
    of tensors that are missing in it. ``beside_bytes`` pass besides: keys and shares.
    """

    piece: Params
    memory: Memory = field(default_factory=dict)
    precision: Precision = field(default_factory=Precision)
    answer: Params = field(default_factory=dict)
    optimizer_state: Memory = field(default_factory=dict)
    code: Memory = field(default_factory=dict)
    beside_bytes: int = 0


@dataclass(frozen=True)
class Reply:
    """What a worker sends back.

    ``fault`` says why there is nothing in it, where its worker could not do the job or did not
    answer in time. ``change`` is the norm of what the worker changed, measured where the piece is,
    if that is elsewhere. ``code`` stands for tensors that the piece lacks until it is read.
    ``beside_bytes`` passed besides: keys and shares of a secure sum.
    """

    worker: int
    share: Share
    piece: Params
    precision: Precision = field(default_factory=Precision)
    answer: Params = field(default_factory=dict)
    record: Record = field(default_factory=Record)
    optimizer_state: Memory = field(default_factory=dict)
    fault: str = ""
    change: float | None = None
    code: Memory = field(default_factory=dict)
    beside_bytes: int = 0

    @property
    def up_bytes(self) -> int:
        """Bytes that this reply costs on the way to the server; a scalar weight counts as none."""
        know = self.precision
        beside = self.answer, know.axes, know.diagonal, *self.optimizer_state.values()
        passed = [count_bytes(some) for some in beside if some]
        return count_sent(self.piece, self.code, frozenset()) + sum(passed) + self.beside_bytes


@dataclass(frozen=True)
class Refusal:
    """A reply that was not merged, and why; of a question or of a job."""

    worker: int
    reason: str


NO_SEEDS = torch.zeros(0, dtype=torch.long)
"""The seeds of steps that draw no noise."""


@dataclass(frozen=True)
class Plan:
    """All randomness of a job, as tensors.

    Args:
        rows: positions of the rows of each step, [steps, batch].
        weights: weight of each row in its step, [steps, batch]; sums to 1 in a step. Rows of
            weight 0 pad a short batch; they stand at its end.
        lr: factor on the learning rates, [steps].
        seeds: seed of the noise inside a step, e.g. dropout, [steps]; [0] where none is drawn.
        size: rows of the worker, where a solver that is wrapped asks for them; else 0.
    """

    rows: Tensor
    weights: Tensor
    lr: Tensor
    seeds: Tensor
    size: int = 0

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.lr.shape[0]  # the len of a tensor is slow


def require_rows(size: int) -> None:
    """Refuse a job of a worker that has no rows."""
    if size == 0:
        raise ValueError("the worker has no rows; leave it out of the cohort or give it data")


def make_empty_plan() -> Plan:
    """Plan no step at all, as a query does that only looks."""
    none = torch.zeros(0, 1)
    return Plan(none.long(), none, torch.zeros(0), NO_SEEDS)


def count_bytes(params: Params) -> int:
    """Count the bytes of some tensors.

    >>> count_bytes({"w": torch.zeros(3, 2), "i": torch.zeros(2, dtype=torch.int32)})
    32
    """
    return sum([tensor.nbytes for tensor in params.values()])


def count_sent(piece: Params, code: Memory, known: frozenset[str]) -> int:
    """Count the bytes of a piece of which some tensors are sent as a code, and some not at all."""
    if not (code or known):
        return count_bytes(piece)
    coded = code.get(CODED, {})
    plain = [t.nbytes for name, t in piece.items() if name not in known and name not in coded]
    parts = [t.nbytes for tree in code.values() for name, t in tree.items() if name not in known]
    return sum(plain) + sum(parts)


def measure_change(before: Params, after: Params) -> float:
    """Measure how far tensors of floats went, as one norm; of what was not there, its own norm.

    What is on the device ``meta`` is left out. The norm is finite only if all numbers are.

    >>> measure_change({"w": torch.ones(2)}, {"w": torch.tensor([4.0, 5.0])})
    5.0
    """
    moved = [
        t - before[name] if name in before and before[name].shape == t.shape else t
        for name, t in after.items()
        if t.is_floating_point() and not t.is_meta
    ]
    if not moved:
        return 0.0
    norms = [torch.linalg.vector_norm(t.detach().flatten()).double() for t in moved]
    return float(torch.linalg.vector_norm(torch.stack(norms)))  # read once: a GPU is waited for


def count_section_bytes(memory: Memory) -> int:
    """Count the bytes of some sections of tensors."""
    return sum([count_bytes(tensors) for tensors in memory.values()])
