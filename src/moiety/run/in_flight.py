"""Jobs under way as tensors and plain data, and back: what a checkpoint holds of a clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from moiety.core.axes import Part
from moiety.core.state import Clock, InFlight, Job, Share
from moiety.core.tensors import move_tensors

Tree = Mapping[Any, Any]


def list_job_tensors(job: Job) -> list[tuple[list[str | int], Tensor]]:
    """List every tensor of a job with its path; nobody has two jobs, so its worker names it."""
    here: list[str | int] = ["flight", job.worker]
    trees = {"piece": job.piece, "part": job.share.part.axes}
    found = [([*here, place, n], t) for place, tree in trees.items() for n, t in tree.items()]
    for place, sections in (("optimizer_state", job.optimizer_state), ("code", job.code)):
        for section, tree in sections.items():
            found += [([*here, place, section, name], t) for name, t in tree.items()]
    return found


def clock_to_json(clock: Clock) -> Mapping[str, Any]:
    """Write all of a clock but its tensors; JSON keeps every bit of a number."""
    return {
        "now": clock.now,
        "took": [[worker, seconds] for worker, seconds in clock.job_seconds.items()],
        "flight": [
            {
                "end": one.end,
                "seconds": one.seconds,
                "seed": one.job.seed,
                "round": one.job.round,
                "worker": one.job.worker,
                "role": one.job.share.role,
                "names": one.job.share.part.names,
                "known": sorted(one.job.known),
            }
            for one in clock.in_flight
        ],
    }


def clock_from_json(raw: Mapping[str, Any], trees: Tree) -> Clock:
    """Read what ``clock_to_json`` wrote, with the tensors by worker."""
    in_flight = tuple(
        InFlight(job_from_json(one, trees.get(one["worker"], {})), one["end"], one["seconds"])
        for one in raw["flight"]
    )
    job_seconds: Sequence[tuple[int, float]] = raw["took"]
    return Clock(raw["now"], in_flight, dict(job_seconds))


def job_from_json(raw: Mapping[str, Any], tree: Tree) -> Job:
    """Put one job together again."""
    names = None if raw["names"] is None else tuple(raw["names"])
    return Job(
        raw["seed"],
        raw["round"],
        raw["worker"],
        Share(Part(tree.get("part", {}), names), raw["role"]),
        tree.get("piece", {}),
        tree.get("optimizer_state", {}),
        frozenset(raw["known"]),
        tree.get("code", {}),
    )


def move_clock(clock: Clock, device: str) -> Clock:
    """Move the tensors of jobs under way to a device; the indices of parts stay where they are."""

    def moved(job: Job) -> Job:
        told, code = (
            {section: move_tensors(tree, device) for section, tree in sections.items()}
            for sections in (job.optimizer_state, job.code)
        )
        piece = move_tensors(job.piece, device)
        return replace(job, piece=piece, optimizer_state=told, code=code)

    in_flight = tuple(replace(one, job=moved(one.job)) for one in clock.in_flight)
    return replace(clock, in_flight=in_flight)
