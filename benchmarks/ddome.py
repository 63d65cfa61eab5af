"""What DDOME reaches: ``python -m benchmarks.ddome [--quick] [--check] [--json FILE]``.

Gates are margins and the gate's health on the recipe ``ddome-modes``, Theorem 1 in simulation, and
the quickstart's margin, all set before the code was written; accuracies are means over three seeds,
on workers that training never saw. A full run takes about an hour on a shared core, and goes on
where it stopped if it keeps a file.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise

from benchmarks import theorem
from benchmarks.ddome_trials import ALL, MAP, finals, known, score, scores, seeds
from benchmarks.gates import NOT_RUN, Book, Gate, at_least, machine, not_run, options, report, shown
from benchmarks.trial import Figures, Trial, played

SEEDS = (0, 1, 2)
EXPERT_BYTES, GATE_BYTES, INDEX_BYTES = 4 * 1250, 4 * (64 * 8 + 64 + 5 * 64 + 5), 4
"""Of ``ddome-modes``: float32 experts 144-8-10, a float32 gate 8-64-5, int32 indices."""

QUICK = Trial("DDOME", "ddome", changes={"rounds": 60, "evaluate_every": 60}, seeds=(0,))
QUICK_FLOOR = 40.0
"""Percent that seed 0 must reach on unseen workers in 60 rounds of ``ddome-modes``."""


def listed(values: Sequence[float], form: str = "{:.1f}") -> str:
    """Write a mean and what it is the mean of.

    >>> listed([1.0, 2.0])
    '1.5 (1.0, 2.0)'
    """
    each = ", ".join(form.format(value) for value in values)
    return f"{form.format(statistics.mean(values))} ({each})"


def above(name: str, floor: float, high: Sequence[float], low: Sequence[float]) -> Gate:
    """Ask that one mean lie above another by so many points; seeds are paired in what is shown."""
    apart = [one - other for one, other in zip(high, low, strict=True)]
    good = statistics.mean(apart) >= floor
    return Gate(name, f"at least {floor:+g} points", f"{listed(apart, '{:+.1f}')}", good)


def below(name: str, ceiling: float, one: Sequence[float], other: Sequence[float]) -> Gate:
    """Ask that one mean lie no more than so many points above another."""
    apart = [a - b for a, b in zip(one, other, strict=True)]
    good = statistics.mean(apart) <= ceiling
    return Gate(name, f"at most {ceiling:+g} points", f"{listed(apart, '{:+.1f}')}", good)


def rising(name: str, steps: Sequence[Sequence[float]]) -> Gate:
    """Ask that means rise from step to step."""
    means = [statistics.mean(step) for step in steps]
    good = all(low < high for low, high in pairwise(means))
    return Gate(name, "rising", ", ".join(f"{mean:.1f}" for mean in means), good)


def exact_bytes(anchors: int, normals: int, k: int) -> tuple[int, int]:
    """Give the bytes of a round, down and up, as docs/methods/ddome.md says.

    Both ways a worker moves the gate and its experts, an anchor one of them; up go K indices too.

    >>> exact_bytes(5, 5, 2)
    (111040, 111080)
    """
    moved = (anchors + normals) * GATE_BYTES + (anchors + k * normals) * EXPERT_BYTES
    return moved, moved + k * normals * INDEX_BYTES


def bytes_gate(found: Sequence[tuple[int, Figures]]) -> Gate:
    """Ask that every round of some runs, each with its K, moved what the formula says."""
    wrong = [
        (anchors, normals, k, down, up)
        for k, figures in found
        for anchors, normals, down, up in figures["traffic"]
        if (down, up) != exact_bytes(anchors, normals, k)
    ]
    kinds = sorted({(k, down + up) for k, run in found for _, _, down, up in run["traffic"]})
    said = "; ".join(f"K = {k}: {total:,} bytes a round" for k, total in kinds)
    asked = "N_c (2 P_r + 2 K P_e + K e) + N_a (2 P_r + 2 P_e)"
    return Gate("bytes of every round", asked, f"differs: {wrong}" if wrong else said, not wrong)


def health_gates(healthy: Sequence[Figures], bare: Sequence[Figures]) -> list[Gate]:
    """Ask that the gate use all experts and know the anchors' blocks, and not without anchors."""
    least = [100 * min(found["gate"]["share"]) for found in healthy]
    block = [found["gate"]["block"] for found in healthy]
    none = [found["gate"]["block"] for found in bare]
    used = [float(sum(one > 0.01 for one in found["gate"]["share"])) for found in bare]
    return [
        Gate("test rows won by the expert that wins least", "at least 5 %, every seed",
             f"{listed(least)} %", min(least) >= 5),
        Gate("gate names the anchor's block of labels", "at least 0.50",
             listed(block, "{:.2f}"), statistics.mean(block) >= 0.5),
        Gate("the same without anchors", "at most 0.30",
             listed(none, "{:.2f}"), statistics.mean(none) <= 0.3),
        shown("experts that win more than 1 % of the rows, without anchors", used),
    ]  # fmt: skip


def modes_gates(book: Book) -> list[Gate]:
    """Hold DDOME against its baselines and controls where small experts should win."""
    best, fedavg, common = (scores(book, name) for name in ("ddome", "fedavg", "common"))
    runs = {name: seeds(book, name) for name in ("ddome", "k1", "k3", "no anchors")}
    counted = [(k, one) for k, n in ((1, "k1"), (2, "ddome"), (3, "k3")) for one in runs[n]]
    return [
        above("DDOME over FedAvg", 8, best, fedavg),
        above("DDOME over the common expert", 5, best, common),
        below("FedAvg over the common expert", 2, fedavg, common),
        above("DDOME over random routing", 1.5, best, scores(book, "random")),
        *health_gates(runs["ddome"], runs["no anchors"]),
        above("what teaching the gate is worth", 5, best, scores(book, "untaught")),
        above("what teaching the gate is worth, both with sumloss", 5,
              scores(book, "sumloss"), scores(book, "sumloss untaught")),
        rising("accuracy with K = 1, 2, 3", [scores(book, name) for name in ("k1", "ddome", "k3")]),
        bytes_gate(counted),
    ]  # fmt: skip


def theorem_gates(book: Book, numbers: Sequence[int], key: str) -> list[Gate]:
    """Ask that fitting experts and router apart fail, and jointly succeed, on every seed."""

    def each(name: str, take: Callable[[int], float]) -> list[float]:
        return book.measure(f"{key}, {name}", lambda: [take(seed) for seed in numbers])

    apart = each("apart", lambda seed: theorem.apart(20, 5, seed))
    joint = each("joint", lambda seed: theorem.together(20, 5, seed))
    far = each("distance", lambda seed: theorem.distance(100, 5, seed))
    name = "Theorem 1, {}: loss left, over that of answering 0"
    return [
        Gate(name.format("fitted apart"), "at least 0.45, every seed",
             listed(apart, "{:.2f}"), min(apart) >= 0.45),
        Gate(name.format("fitted jointly"), "at most 0.15, every seed",
             listed(joint, "{:.2f}"), max(joint) <= 0.15),
        Gate("Theorem 1: least squared distance of an expert to a true one", "at least 0.5",
             listed(far, "{:.2f}"), min(far) >= 0.5),
    ]  # fmt: skip


def mixed_answer(book: Book) -> Gate:
    """Show joint fitting with the loss of the mixed answer, which sticks on some seeds."""
    take = theorem.together
    found = book.measure(
        "theorem, mixed", lambda: [take(20, 5, seed, theorem.of_mixture) for seed in SEEDS]
    )
    name = "Theorem 1, fitted jointly on the mixed answer: loss left"
    return Gate(name, "-", listed(found, "{:.2f}"))


def quickstart_gate(book: Book) -> Gate:
    """Ask that DDOME lead the quickstart by more than the spread over seeds."""
    best = finals(book, "quickstart ddome")
    others = [finals(book, f"quickstart {name}") for name in ("fedavg", "fedprox", "common")]
    rival = max(others, key=statistics.mean)
    margin = statistics.mean(best) - statistics.mean(rival)
    doubt = max(statistics.stdev(best), statistics.stdev(rival))
    name = "quickstart: DDOME over the best of FedAvg, FedProx and the common expert"
    said = f"{margin:+.1f} points, spread {doubt:.1f}"
    return Gate(name, "more than the spread over seeds", said, margin > doubt)


def rows(book: Book) -> list[Gate]:
    """Show the accuracy of every trial that was measured, and name the others."""
    shown_rows = []
    for name, trial in ALL.items():
        title = f"{trial.recipe}: {trial.name}"
        found = known(book, name)
        said = f"{listed([score(one) for one in found])} %" if found else f"{NOT_RUN} yet"
        shown_rows.append(Gate(title, "-", said))
    return shown_rows


def judged(book: Book) -> list[Gate]:
    """Take everything of which something is asked."""
    return [*modes_gates(book), *theorem_gates(book, SEEDS, "theorem"), quickstart_gate(book)]


def quick(book: Book) -> list[Gate]:
    """Check bytes, learning and Theorem 1 on one seed."""
    found = book.measure("quick", lambda: played(QUICK, 0))
    name = "60 rounds of ddome-modes, seed 0: accuracy on unseen workers"
    return [
        at_least(name, QUICK_FLOOR, [score(found)], " %"),
        bytes_gate([(2, found)]),
        *theorem_gates(book, (0,), "theorem, quick"),
        not_run("gates on ddome-modes over three seeds", "see the full run", "quick"),
        not_run("quickstart", "more than the spread over seeds", "quick"),
        not_run(f"map of {len(MAP)} cells", "-", "quick"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, keep."""
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json, closed=told.kept)
    if told.quick:
        return report(quick(book), book, told, machine())
    gates = [*judged(book), mixed_answer(book)]
    for name in ALL:
        seeds(book, name)
    return report([*gates, *rows(book)], book, told, machine())


if __name__ == "__main__":
    raise SystemExit(main())
