"""When the server commits, and how long jobs take on a virtual clock.

Asynchrony is a choice of a run, not of a method: the same split, solve and merge serve a server
that waits for all (``sync``), for the first few replies (``buffered``: FedBuff, Nguyen et al.,
arXiv:2106.06639; with one reply FedAsync, Xie et al., arXiv:1903.03934) or for some seconds
(``windowed``). Nothing is measured: durations are drawn from a declared distribution, each at the
address of its job, so that a run repeats bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from moiety.core.errors import UnknownNameError
from moiety.core.state import Job
from moiety.core.streams import stream

SCHEDULE_KINDS = ("sync", "buffered", "windowed")

MOST_SIGMA = 10.0
"""Largest sigma of a logarithm: one job in three takes e^10 times the median, or a part of it."""


@dataclass(frozen=True)
class Speeds:
    """How many virtual seconds a job takes.

    Args:
        kind: ``levels`` (workers take ``values`` in turns), ``uniform`` (a worker's seconds lie
            evenly between two values) or ``lognormal`` (a median and the sigma of its logarithm).
        values: of the kind; none for no clock where the run is synchronous, else a second a job.
        jitter: sigma of a lognormal factor, drawn for every job; 10 at most.
        by_size: a job takes as much less as its piece is smaller than the whole.
    """

    kind: str = "levels"
    values: tuple[float, ...] = ()
    jitter: float = 0.0
    by_size: bool = False

    def worker(self, seed: int, worker: int) -> float:
        """Give the seconds that a worker takes for a job of the whole model."""
        return SECONDS[self.kind](self.values or (1.0,), seed, worker)

    def job(self, job: Job, whole: int) -> float:
        """Give the seconds that a job takes, of a model of ``whole`` parameters."""
        seconds = self.worker(job.seed, job.worker)
        if self.jitter:
            rng = stream(job.seed, job.round, job.worker, "jitter")
            seconds *= math.exp(self.jitter * float(torch.randn((), generator=rng).double()))
        if self.by_size:
            seconds *= sum(t.numel() for t in job.piece.values()) / whole
        return seconds


def pick_level_seconds(values: tuple[float, ...], seed: int, worker: int) -> float:
    """Give workers the values in turns.

    >>> [pick_level_seconds((1.0, 5.0), 0, worker) for worker in range(3)]
    [1.0, 5.0, 1.0]
    """
    del seed
    return values[worker % len(values)]


def draw_uniform_seconds(values: tuple[float, ...], seed: int, worker: int) -> float:
    """Draw a worker's seconds between two values."""
    low, high = values
    draw = torch.rand((), generator=stream(seed, worker, "speed"), dtype=torch.float64)
    return low + (high - low) * float(draw)


def draw_lognormal_seconds(values: tuple[float, ...], seed: int, worker: int) -> float:
    """Draw a worker's seconds around a median."""
    median, sigma = values
    draw = torch.randn((), generator=stream(seed, worker, "speed"), dtype=torch.float64)
    return median * math.exp(sigma * float(draw))


SECONDS: Mapping[str, Callable[[tuple[float, ...], int, int], float]] = {
    "levels": pick_level_seconds,
    "uniform": draw_uniform_seconds,
    "lognormal": draw_lognormal_seconds,
}


def weigh_equally(staleness: int, power: float, patience: float) -> float:
    """Weigh all replies alike."""
    del staleness, power, patience
    return 1.0


def weigh_by_power(staleness: int, power: float, patience: float) -> float:
    """Weigh by a power; 1/2 is FedBuff's.

    >>> weigh_by_power(3, 0.5, 0.0)
    0.5
    """
    del patience
    return float((1 + staleness) ** -power)


def weigh_by_hinge(staleness: int, power: float, patience: float) -> float:
    """Weigh alike for some rounds, then by one over the rounds beyond; section 5.2 of FedAsync.

    >>> weigh_by_hinge(4, 10.0, 4.0), weigh_by_hinge(6, 10.0, 4.0) == 1 / 21
    (1.0, True)
    """
    return 1.0 if staleness <= patience else 1 / (power * (staleness - patience) + 1)


STALENESS: Mapping[str, Callable[[int, float, float], float]] = {
    "constant": weigh_equally,
    "polynomial": weigh_by_power,
    "hinge": weigh_by_hinge,
}


@dataclass(frozen=True)
class Schedule:
    """When the server commits, that is makes the next model of replies, and what late ones count.

    A round is a commit. Workers at a time are those of a round where all are waited for.

    Args:
        kind: of which replies the next model is made: of all of a round (``sync``), of the first
            ``size`` that come (``buffered``; 1: FedAsync, more: FedBuff), or of all that come
            within some seconds (``windowed``). Making it is a commit.
        size: replies of a commit, where it is ``buffered``.
        window: virtual seconds of a commit, where it is ``windowed``.
        rate: of the server: how far it goes towards what was merged (alpha of FedAsync).
        staleness: rule by which a reply counts less, the more commits there were since its worker
            was sent the model (that number is its staleness): ``constant`` (as much),
            ``polynomial`` or ``hinge``.
        power: of the rule (a); 0.5 with ``polynomial`` is FedBuff's.
        patience: commits that ``hinge`` forgives (b).
        change: apply what a worker changed, as FedBuff does, rather than move towards what it
            found, as FedAsync and AsyncDrop do.
        speeds: virtual seconds of a job.
    """

    kind: str = "sync"
    size: int = 1
    window: float = 1.0
    rate: float = 1.0
    staleness: str = "constant"
    power: float = 0.5
    patience: float = 4.0
    change: bool = False
    speeds: Speeds = field(default_factory=Speeds)

    @property
    def is_synchronous(self) -> bool:
        """Whether the server waits for all."""
        return self.kind == "sync"

    @property
    def has_clock(self) -> bool:
        """Whether the run has a virtual clock."""
        return not self.is_synchronous or bool(self.speeds.values)

    def weight(self, staleness: int) -> float:
        """Say how far the server follows a reply that is some commits late."""
        return self.rate * STALENESS[self.staleness](staleness, self.power, self.patience)

    def check(self, concurrency: int) -> None:
        """Refuse numbers that do not fit each other, or ``concurrency`` workers at a time.

        Raises:
            ValueError: with the value and the remedy.
        """
        check_speeds(self.speeds)
        if self.kind not in SCHEDULE_KINDS:
            raise UnknownNameError(f"schedule.kind={self.kind!r}; choose one of {SCHEDULE_KINDS}")
        if self.kind == "buffered" and not 1 <= self.size <= concurrency:
            raise ValueError(
                f"schedule.size={self.size} replies a commit of {concurrency} workers at a time "
                f"would never come; choose 1 to {concurrency}, or have more at a time "
                "(participation.size)"
            )
        if self.staleness not in STALENESS:
            raise UnknownNameError(
                f"schedule.staleness={self.staleness!r}; choose one of {[*STALENESS]}"
            )
        above, least = (self.window, self.rate), (self.power, self.patience)
        if not all(0 < one < math.inf for one in above) or not all(
            0 <= one < math.inf for one in least
        ):
            raise ValueError(
                f"schedule has window={self.window}, rate={self.rate}, power={self.power} and "
                f"patience={self.patience}; the first two must be above 0, the others at least 0, "
                "all finite"
            )


def check_speeds(speeds: Speeds) -> None:
    """Refuse a distribution that is none."""
    values, pair = speeds.values, speeds.kind in ("uniform", "lognormal")
    if speeds.kind not in SECONDS:
        raise UnknownNameError(f"schedule.speeds.kind={speeds.kind!r}; choose one of {[*SECONDS]}")
    if pair and len(values) != 2:
        raise ValueError(
            f"schedule.speeds.values={values}, but {speeds.kind!r} takes two: lowest and highest "
            "seconds, or their median and the sigma of their logarithm"
        )
    drawn = speeds.kind == "lognormal"
    seconds, sigmas = (values[:1], values[1:]) if drawn else (values, ())
    if not all(0 < one < math.inf for one in seconds) or not all(
        0 <= one <= MOST_SIGMA for one in (*sigmas, speeds.jitter)
    ):
        raise ValueError(
            f"schedule.speeds.values={values}, jitter={speeds.jitter}; seconds must be above 0 and "
            f"finite, the jitter and a sigma 0 to {MOST_SIGMA:g}"
        )
