"""Independent subnets of transformers: every figure asked for beside the figure measured.

    python -m benchmarks.ist_text [--quick] [--check] [--json FILE]

Tiny Shakespeare by characters, its last tenth for testing; 600 local steps of 12 windows; every
run is a variant of ``moiety run ist-shakespeare``. Losses are nats a character on the test part.
A quick run takes 60 steps of two variants, and the formulas.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.gates import Book, Gate, machine, not_run, options, report
from benchmarks.ist_text_parts.size import sizes
from benchmarks.ist_text_parts.vit import head
from moiety.core.protocols import Calibratable, Method, skip_calibration
from moiety.core.state import State, Turn
from moiety.core.streams import SERVER, stream
from moiety.core.types import Params
from moiety.engine.pool import Pool
from moiety.recipes import RECIPES
from moiety.recipes.build import RunInputs, build_run
from moiety.recipes.fields import override_fields
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.synchronous import SynchronousRounds, initialise_state, make_jobs
from moiety.run.evaluate import evaluate_groups
from moiety.serve.personal import deploy_subnet

STEPS, H = 600, 20
SEEDS = (0, 1, 2)

Figures = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One line of the table.

    Args:
        asked: the loss of the specification's own measurement, by how the whole is used.
        method: which.
        workers: in a round.
        optimizer_state: what becomes of the optimiser's memory.
        every: local steps of a round.
        net: fields of the network.
        how: options of ``ist``.
    """

    asked: Mapping[str, float]
    method: str = "ist"
    workers: int = 4
    optimizer_state: str = "reset"
    every: int = H
    net: Mapping[str, Any] = field(default_factory=lambda: {"shared_blocks": []})
    how: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = {
    "ist n = 4": Variant({"1": 2.537, "f": 2.457}),
    "first and last shared, carry": Variant({"f": 2.279}, optimizer_state="send", net={}),
    "single": Variant({"1": 2.328}, "local_sgd", 1, "send"),
    "ist n = 2, carry": Variant({"f": 2.385}, workers=2, optimizer_state="send"),
    "ist n = 4, carry": Variant({"f": 2.460}, optimizer_state="send"),
    "quota 0.5, H = 15, carry": Variant(
        {"f": 2.384}, optimizer_state="send", every=15, how={"assignment": "quota", "keep": 0.5}
    ),
    "ist n = 4, training x n": Variant(
        {"1": 2.526},
        net={"shared_blocks": [], "lift": 4.0},
        how={"calibrate": False},
    ),
    "local SGD n = 4": Variant({"1": 2.298}, "local_sgd"),
    "local SGD n = 4, carry": Variant({"1": 2.242}, "local_sgd", optimizer_state="send"),
    "diloco n = 4": Variant({}, "diloco"),
}


def made(what: Variant, seed: int, steps: int) -> RunInputs:
    """Build a run as the command line would."""
    changes = {
        "rounds": steps // what.every,
        "population": {"workers": what.workers},
        "participation": {"size": what.workers},
        "gpt": what.net,
        "local": {"steps": what.every, "optimizer_state": what.optimizer_state},
        "ist": dict(what.how),
    }
    record = override_fields(RECIPES["ist-shakespeare"].record, changes)
    return build_run(record, what.method, seed)


def loss(method: Method, params: Params, built: RunInputs) -> float:
    """Score the test part, in nats a character."""
    told = evaluate_groups(method, State(params), {}, built.groups)
    return told.groups["test"].metrics["loss"][0]


def pieces(method: Method, state: State, built: RunInputs, seed: int, at: int) -> list[float]:
    """Score the sub-networks of a round's subnets, each used as a model of its own, unscaled."""
    turn = Turn(at, tuple(range(built.cohort_size)), {}, stream(seed, at, SERVER, "split"))
    found = []
    model: Any = method.model
    serve: Any = method.serve
    for share in method.split(state, turn).values():
        small: Any = deploy_subnet(model, state.params, share.part)
        alone = replace(method, model=small, serve=replace(serve, model=small))
        found.append(loss(alone, small.params, built))
    return found


def played(what: Variant, seed: int, steps: int = STEPS) -> Figures:
    """Play a run and take its figures: losses as the whole is used, of pieces, and bytes."""
    built = made(what, seed, steps)
    method, engine = built.method, Pool(built.open, processes=1)
    cohort = tuple(range(built.cohort_size))
    rounds = SynchronousRounds(method, engine, FixedCohort(cohort), seed)
    state, sent, begun = initialise_state(method), set(), time.perf_counter()
    for _ in range(built.rounds):
        state, entry = rounds.advance(state)
        sent |= {size for work in entry.workers for size in (work.down_bytes, work.up_bytes)}
    seconds = time.perf_counter() - begun
    found = {"1": loss(method, state.params, built)}
    whole = what.method != "ist"
    if (
        not whole
        and isinstance(method.model, Calibratable)
        and method.calibrate is not skip_calibration
    ):
        found["f"] = loss(method, dict(method.calibrate(state.params, built.sample)), built)
    subnets = (
        {}
        if whole
        else {
            "last hands": pieces(method, state, built, seed, built.rounds - 1),
            "fresh hands": pieces(method, state, built, seed, built.rounds),
        }
    )
    held = [job.down_bytes for job in make_jobs(method, state, list(cohort), {}, seed)]
    return {"loss": found, "pieces": subnets, "bytes": sorted(sent | set(held)), "seconds": seconds}


def runs(book: Book) -> dict[str, list[Figures]]:
    """Play the seeds of all variants, first seeds first, and last what nothing is asked of."""
    found: dict[str, list[Figures]] = {name: [] for name in VARIANTS}
    order = [(not what.asked, seed, name) for name, what in VARIANTS.items() for seed in SEEDS]
    for _, seed, name in sorted(order, key=lambda item: item[:2]):
        run = VARIANTS[name], seed
        found[name].append(book.measure(f"{name}, seed {seed}", lambda run=run: played(*run)))
    return found


def losses(found: Sequence[Figures], use: str) -> list[float]:
    """Give the losses of some seeds."""
    return [one["loss"][use] for one in found]


def told(values: Sequence[float]) -> str:
    """Write a mean and its range."""
    if len(values) == 1:
        return f"{values[0]:.3f} (one seed)"
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def margin(name: str, floor: float, worse: Sequence[float], better: Sequence[float]) -> Gate:
    """Ask that one be better than another by a margin, in the mean over equal seeds."""
    gaps = [a - b for a, b in zip(worse, better, strict=False)]
    gap = statistics.fmean(gaps)
    ok = gap >= floor if floor else gap > 0
    return Gate(name, f"at least {floor}" if floor else "above 0", told(gaps), ok)


def gates(found: Mapping[str, list[Figures]]) -> list[Gate]:
    """Hold the runs against the gates of section 8.5."""
    plain, shared = found["ist n = 4"], found["first and last shared, carry"]
    carried, two = found["ist n = 4, carry"], found["ist n = 2, carry"]
    return [
        margin("scale f against no scale, n = 4", 0.04, losses(plain, "1"), losses(plain, "f")),
        margin(
            "first and last block shared against none, carry", 0.08,
            losses(carried, "f"), losses(shared, "f"),
        ),
        margin("n = 2 against n = 4, carry", 0.0, losses(carried, "f"), losses(two, "f")),
        margin(
            "shared against a single worker, equal local steps", 0.0,
            losses(found["single"], "1"), losses(shared, "f"),
        ),
    ]  # fmt: skip


def lines(found: Mapping[str, list[Figures]]) -> list[Gate]:
    """Show every run beside the specification's, and sub-networks beside the whole."""
    shown = []
    for name, figures in found.items():
        scaled = VARIANTS[name].how.get("calibrate", True)
        for use in figures[0]["loss"] if scaled else ("1",):
            asked = VARIANTS[name].asked.get(use)
            before = "-" if asked is None else f"{asked} there"
            kind = "scale f" if use == "f" else "as merged"
            shown.append(Gate(f"{name}, {kind}: loss", before, told(losses(figures, use))))
        for kind in figures[0]["pieces"] if scaled else ():  # they were never used unscaled
            values = [value for one in figures for value in one["pieces"][kind]]
            shown.append(Gate(f"{name}, sub-networks of {kind}: loss", "-", told(values)))
    return shown


def traffic(found: Mapping[str, list[Figures]]) -> list[Gate]:
    """Compare the bytes of pieces with section 9.1, for disjoint subnets without travelling memory.

    P_s = P_shared + P_dealt / n, with 12 d^2 + 7 d dealt numbers a block.
    """
    width, blocks, whole = 64, 4, 208_320
    dealt = blocks * (12 * width**2 + 7 * width)
    asked = 4 * (whole - dealt + dealt // 4)
    sent = found["ist n = 4"][0]["bytes"]
    return [Gate("bytes of a piece, n = 4", f"{asked}", f"{sent}", sent == [asked])]


def full(book: Book) -> list[Gate]:
    """Measure everything."""
    heads, found = head(book), runs(book)
    return [*gates(found), *traffic(found), *sizes(), *lines(found), *heads]


def quick(book: Book) -> list[Gate]:
    """Measure the formulas, and that 60 steps of the dealt and the shared variant learn."""
    found = {
        name: [book.measure(f"quick, {name}", lambda n=name: played(VARIANTS[n], 0, 60))]
        for name in ("ist n = 4", "first and last shared, carry")
    }
    plain, shared = found.values()
    return [
        *traffic(found),
        *sizes(),
        Gate("60 steps: loss, shared", "at most 3.2", told(losses(shared, "f")),
             losses(shared, "f")[0] <= 3.2),
        Gate("60 steps: loss, scale f / as merged", "-",
             f"{losses(plain, 'f')[0]:.3f} / {losses(plain, '1')[0]:.3f}"),
        *(not_run(name, "-", "needs a full run") for name in ("gates of 8.5", "ViT")),
    ]  # fmt: skip


def main() -> int:
    said = options(__doc__ or "")
    torch.set_num_threads(1)
    book = Book() if said.quick else Book.open(said.json, closed=said.kept)
    return report(quick(book) if said.quick else full(book), book, said, machine())


if __name__ == "__main__":
    raise SystemExit(main())
