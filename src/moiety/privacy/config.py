"""What a run promises, and the method that keeps it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from moiety.core.errors import UnknownNameError
from moiety.core.protocols import Method, skip_calibration
from moiety.merge.overlap import overlap
from moiety.merge.private import PrivateMean
from moiety.merge.robust import MEANS
from moiety.privacy.accountant import MOST_NOISE
from moiety.split.whole import Whole

KNOWN_COHORT, SECRET_COHORT = "known", "secret"


@dataclass(frozen=True)
class PrivacyConfig:
    """What everybody who sees the models may learn of a worker (see docs/privacy.md).

    Args:
        clip: the largest norm of what a worker changes; 0 for no promise to workers.
        noise: standard deviation of the noise on the sum of changes, over ``clip``; 0 finds the
            least that keeps ``epsilon`` in all rounds.
        delta: the chance for which epsilon does not answer; below 1 over the number of workers.
        epsilon: a run ends before it costs more; 0 for no limit.
        cohort: ``known``, everybody may know who takes part; or ``secret``, each worker takes part
            by a coin that only the server sees, ``participation.size`` of them on average.
        row_clip: the largest norm of the gradient of a row, in every step of a worker; 0 for no
            promise to rows. With one, workers need trust nobody.
        row_noise: standard deviation of the noise on the sum of a step's gradients, over how far
            one row moves it.
    """

    clip: float = 0.0
    noise: float = 0.0
    delta: float = 1e-5
    epsilon: float = 0.0
    cohort: str = KNOWN_COHORT
    row_clip: float = 0.0
    row_noise: float = 0.0

    @property
    def guards_workers(self) -> bool:
        """Whether anything is promised to workers."""
        return self.clip > 0

    @property
    def guards_rows(self) -> bool:
        """Whether anything is promised to rows."""
        return self.row_clip > 0

    @property
    def is_on(self) -> bool:
        """Whether anything is promised."""
        return self.guards_workers or self.guards_rows

    @property
    def said(self) -> str:
        """Name the choice that is on, for messages."""
        clip, row_clip = f"privacy.clip={self.clip}", f"privacy.row_clip={self.row_clip}"
        return clip if self.guards_workers else row_clip

    @property
    def is_secret(self) -> bool:
        """Whether nobody is to know who takes part."""
        return self.cohort == SECRET_COHORT

    def check(self) -> None:
        """Refuse numbers that promise nothing.

        Raises:
            ValueError: with the value and the remedy.
        """
        if self.cohort not in (KNOWN_COHORT, SECRET_COHORT):
            raise UnknownNameError(
                f"privacy.cohort={self.cohort!r}; choose {KNOWN_COHORT!r} or {SECRET_COHORT!r}"
            )
        about_workers = self.noise, self.epsilon, self.cohort
        if not self.guards_workers and about_workers != (0, 0, KNOWN_COHORT):
            raise ValueError(
                f"privacy.clip={self.clip}, but noise is told by the largest norm of a worker's "
                "change; choose one above 0, e.g. --privacy.clip 1, or leave noise, epsilon and "
                "cohort out"
            )
        numbers = self.clip, self.noise, self.epsilon, self.row_clip, self.row_noise
        if not all(0 <= one < math.inf for one in numbers):
            raise ValueError(f"{self}: choose finite numbers, of at least 0")
        if max(self.noise, self.row_noise) > MOST_NOISE:
            raise ValueError(
                f"privacy.noise={self.noise}, privacy.row_noise={self.row_noise}: multiples of the "
                f"clip, above {MOST_NOISE:g} nothing of any model is left; choose less, e.g. 1.1"
            )
        if (self.row_clip > 0) != (self.row_noise > 0):
            raise ValueError(
                f"privacy.row_clip={self.row_clip}, privacy.row_noise={self.row_noise}: a clip "
                "without noise keeps nothing secret, and noise is told by the clip; say both, e.g. "
                "--privacy.row-clip 1 --privacy.row-noise 1.1"
            )
        if not 0 < self.delta < 1:
            raise ValueError(f"privacy.delta={self.delta}; choose a chance above 0, e.g. 1e-5")
        if self.guards_workers and not (self.noise or self.epsilon):
            raise ValueError(
                f"privacy.clip={self.clip} without noise keeps nothing secret; say --privacy.noise "
                "1.1, or --privacy.epsilon to have the noise found; merge.kind clip clips alone"
            )

    def check_delta(self, workers: int) -> None:
        """Refuse a delta that would let a mechanism tell all of one worker of so many."""
        if self.guards_workers and self.delta * workers >= 1:
            raise ValueError(
                f"privacy.delta={self.delta}, but with {workers} workers it must be below "
                f"{1 / workers:.3g}: giving away one of them whole would keep that promise"
            )


def apply_privacy(method: Method, config: PrivacyConfig) -> Method:
    """Clip what workers change, and merge it with noise.

    Raises:
        ValueError: for numbers that promise nothing, and a method whose workers tell more than is
            clipped and given noise.
    """
    config.check()
    if not config.guards_workers:
        return method
    reason = find_leak(method) or find_shared_leak(method)
    if not reason and config.is_secret and not isinstance(method.split, Whole):
        reason = "which parts are held tells who takes part; take privacy.cohort known"
    if reason:
        raise ValueError(f"{config.said}, but of {method.name}, {reason}")
    params = method.first or method.model.params
    shapes = {n: t.to("meta") for n, t in params.items()}
    trained = frozenset(
        n for n, t in params.items() if t.is_floating_point() and n not in method.model.buffers
    )
    merge = PrivateMean(shapes, method.model.axes, trained, config.clip)
    return replace(method, merge=merge)


def find_leak(method: Method) -> str:
    """Say what workers of a method tell, or its server makes, without noise; empty if nothing."""
    told = sorted(name for name, rule in method.model.buffers.items() if rule != "keep")
    if method.query is not None:
        return (
            "workers answer a question before they are given parts, and the answers tell of their "
            "rows: who holds what is then no secret; choose a method that does not ask"
        )
    if method.solve.needs_statistics:
        return (
            "workers send sums over their rows besides, which are neither clipped nor given noise; "
            "choose another method"
        )
    if told or method.model.uses_batch_statistics:
        which = f" ({', '.join(told[:3])})" if told else ""
        return (
            f"norms are over the rows of a batch{which}, so that rows are not apart and their "
            "statistics are told; choose a network without such norms, e.g. --net mlp or "
            "--normed.norm none"
        )
    if method.calibrate is not skip_calibration:
        return (
            "the finished model is calibrated on training rows, which then show in it; switch that "
            "off (--ist.no-calibrate), or choose another network or method"
        )
    return ""


def find_shared_leak(method: Method) -> str:
    """Say what a server would merge that is not clipped; empty if nothing."""
    sent = method.first or method.model.params
    if method.merge not in MEANS:
        return (
            f"the merge is {type(method.merge).__name__}, no mean over holders: nobody knows how "
            "far one worker moves it; leave merge.kind and privacy apart, or choose another method"
        )
    if method.merge is not overlap:
        return "workers weigh by their rows, which nothing bounds; leave local.by_rows out"
    if method.worker_means or method.solve.first_optimizer_state(sent):
        return (
            "workers send memory besides, which is neither clipped nor given noise; take "
            "local.optimizer_state reset or keep, or another method"
        )
    return ""
