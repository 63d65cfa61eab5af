"""Jobs under way as tensors and plain data, and back: what a checkpoint holds of a clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from moiety.core.axes import Part
from moiety.core.files import to_device
from moiety.core.state import Clock, Flight, Job, Share

Tree = Mapping[Any, Any]


def under_way(job: Job) -> list[tuple[list[str | int], Tensor]]:
    """List every tensor of a job with its path; nobody has two jobs, so its worker names it."""
    here: list[str | int] = ["flight", job.worker]
    trees = {"piece": job.piece, "brief": job.brief, "part": job.share.part.axes}
    found = [([*here, place, n], t) for place, tree in trees.items() for n, t in tree.items()]
    for section, tree in job.slots.items():
        found += [([*here, "slots", section, name], t) for name, t in tree.items()]
    return found


def clock_to_json(clock: Clock) -> Mapping[str, Any]:
    """Write all of a clock but its tensors; JSON keeps every bit of a number."""
    return {
        "now": clock.now,
        "took": [[worker, seconds] for worker, seconds in clock.took.items()],
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
            for one in clock.flight
        ],
    }


def clock_from_json(raw: Mapping[str, Any], trees: Tree) -> Clock:
    """Read what ``clock_to_json`` wrote, with the tensors by worker."""
    flight = tuple(
        Flight(job_of(one, trees.get(one["worker"], {})), one["end"], one["seconds"])
        for one in raw["flight"]
    )
    took: Sequence[tuple[int, float]] = raw["took"]
    return Clock(raw["now"], flight, dict(took))


def job_of(raw: Mapping[str, Any], tree: Tree) -> Job:
    """Put one job together again."""
    names = None if raw["names"] is None else tuple(raw["names"])
    return Job(
        raw["seed"],
        raw["round"],
        raw["worker"],
        Share(Part(tree.get("part", {}), names), raw["role"]),
        tree.get("piece", {}),
        tree.get("brief", {}),
        tree.get("slots", {}),
        frozenset(raw["known"]),
    )


def clock_to(clock: Clock, device: str) -> Clock:
    """Move the tensors of jobs under way to a device; the indices of parts stay where they are."""

    def moved(job: Job) -> Job:
        slots = {section: to_device(tree, device) for section, tree in job.slots.items()}
        piece, brief = to_device(job.piece, device), to_device(job.brief, device)
        return replace(job, piece=piece, brief=brief, slots=slots)

    flight = tuple(replace(one, job=moved(one.job)) for one in clock.flight)
    return replace(clock, flight=flight)
