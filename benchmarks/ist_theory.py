"""The theory of independent subnets by numbers: fixed points, floors and directions of bounds.

    python -m benchmarks.ist_theory [--quick] [--check] [--json FILE]

A full run also draws its tables beside the file. The problems are in ``benchmarks/ist_parts``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.gates import Book, Gate, machine, options, report
from benchmarks.ist_parts.directions import iterates, residual
from benchmarks.ist_parts.masked import Setting, distance, floor
from benchmarks.ist_parts.quadratic import w_bar
from moiety.split.assigned import Bernoulli, CategoricalAssignment

PARTS, TAUS, WIDTHS = (1, 2, 4, 8), (1, 5, 15), (100, 200, 400, 800, 1600)
LINKS = tuple(1.4 + 0.05 * step for step in range(10))
ITERATES = {
    "omega": ((1.0, 0.0, 1.0), (0.98, 0.0, 1.0), (0.9, 0.0, 1.0)),
    "noise": ((1.0, 0.0, 1.0), (1.0, 0.1, 1.0), (1.0, 1.0, 1.0)),
    "far": ((0.9, 0.0, 0.0), (0.9, 0.0, 1.0), (0.9, 0.0, 2.0)),
}


def signs() -> list[float]:
    """Give det W of [[1, c], [c, 4]] for some c; it changes its sign at c = 1.6."""
    found = []
    for link in LINKS:
        curve = torch.tensor([[1.0, link], [link, 4.0]], dtype=torch.float64)
        found.append(float(torch.linalg.det(w_bar(curve, 2))))
    return found


def falls(name: str, values: Sequence[float]) -> Gate:
    """Ask that figures fall one after the other."""
    good = all(a > b for a, b in pairwise(values))
    return Gate(name, "falls", ", ".join(f"{value:.3g}" for value in values), good)


def rises(name: str, values: Sequence[float]) -> Gate:
    """Ask that figures rise one after the other."""
    good = all(a < b for a, b in pairwise(values))
    return Gate(name, "rises", ", ".join(f"{value:.3g}" for value in values), good)


def told(name: str, values: Sequence[float]) -> Gate:
    """Show figures of which nothing is asked."""
    return Gate(name, "-", ", ".join(f"{value:.3g}" for value in values))


def masked_gates(book: Book, *, quick: bool) -> list[Gate]:
    """Measure 5.5: floors by parts, local steps and width."""
    seeds, gates = 1 if quick else 3, []
    for tau in (5,) if quick else TAUS:
        row = book.measure(
            f"categorical tau={tau}",
            lambda t=tau: [
                floor(Setting(CategoricalAssignment(), p, steps=t), seeds) for p in PARTS
            ],
        )
        zero = Gate(f"tau={tau}, p=1: floor", "below 1e-6", f"{row[0]:.2g}", row[0] < 1e-6)
        gates += [zero, rises(f"tau={tau}: floor over p = {PARTS}", row)]
    widths = WIDTHS[:4] if quick else WIDTHS
    row = book.measure(
        "width",
        lambda: [floor(Setting(CategoricalAssignment(), 4, width=m), seeds) for m in widths],
    )
    gates.append(falls(f"p=4, tau=5: floor over m = {widths}", row))
    row = book.measure(
        "bernoulli", lambda: [floor(Setting(Bernoulli(0.5), p), seeds) for p in PARTS]
    )
    return [*gates, falls(f"Bernoulli 0.5: floor over p = {PARTS}", row)]


def other_gates(book: Book, *, quick: bool) -> list[Gate]:
    """Measure the directions of 5.3 and 5.6."""
    gates = []
    for what, cases in ITERATES.items():
        row = book.measure(f"iterates {what}", lambda c=cases: [iterates(*case) for case in c])
        zero = Gate(f"iterates, {what}: none", "below 1e-9", f"{row[0]:.2g}", row[0] < 1e-9)
        gates += [zero, rises(f"iterates: floor with {what}", row)]
    for target, ask in ((0.0, falls), (1.0, told)):
        row = book.measure(f"kappa targets={target}", partial(kappas, target))
        gates.append(ask(f"graph net, targets {target:g}: floor over kappa = 1, .5, .25", row))
    widths = (100, 400) if quick else (100, 400, 1600)
    row = book.measure(
        "loft", lambda: [distance(Setting(Bernoulli(0.5), 4, width=m), 0) for m in widths]
    )
    gates.append(told(f"distance to descent on the whole over m = {widths}", row))
    paths = book.measure("residual", lambda: [residual(m, rounds=80) for m in (256, 1024)])
    gates.append(falls("residual net: floor over m = 256, 1024", [min(p[-20:]) for p in paths]))
    early = paths[1][:20:4]
    gates.append(Gate("residual net, m = 1024: loss every 4 rounds", "a factor of 1.5 each",
                      ", ".join(f"{v:.3g}" for v in early),
                      all(a > 1.5 * b for a, b in pairwise(early))))  # fmt: skip
    return gates


def kappas(target: float) -> list[float]:
    """Give floors of a graph net dealt to four, by the size of its first weights."""
    setting = partial(Setting, CategoricalAssignment(), 4, graph=True, targets=target)
    return [floor(setting(kappa=kappa)) for kappa in (1.0, 0.5, 0.25)]


def draw(book: Book, path: Path) -> None:
    """Draw the tables."""
    from matplotlib.figure import Figure

    figure, kept = Figure(figsize=(11, 3.4), layout="constrained"), book.figures
    one, two, three = figure.subplots(1, 3)
    for tau in TAUS:
        one.plot(PARTS[1:], kept[f"categorical tau={tau}"][1:], marker="o", label=f"dealt, {tau}")
    one.plot(PARTS, kept["bernoulli"], marker="s", ls="--", label="Bernoulli 0.5, 5")
    one.set(xscale="log", yscale="log", xticks=PARTS, xticklabels=PARTS, xlabel="parts p")
    one.set(title="floor over parts (m = 400)", ylabel="mean squared error")
    one.minorticks_off()
    one.legend(title="deal, local steps", fontsize=7, title_fontsize=7)
    two.plot(WIDTHS, kept["width"], marker="o")
    two.set(xscale="log", yscale="log", xlabel="hidden units m", ylabel="mean squared error")
    two.set(title="floor over width (p = 4, 5 steps)")
    for width, values in zip((256, 1024), kept["residual"], strict=True):
        three.plot(values, label=f"m = {width}")
    three.set(yscale="log", xlabel="round", ylabel="loss", title="residual blocks dealt to two")
    three.legend(fontsize=7)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure."""
    asked = options(__doc__ or "", arguments)
    book = Book.open(asked.json, closed=asked.kept)
    found = book.measure("determinants", signs)
    turn = [link for link, value in zip(LINKS, found, strict=True) if value < -1e-9]
    gates = [
        Gate("W of [[1, c], [c, 4]] turns indefinite", "above c = 1.6",
             f"first at c = {turn[0]:.2f}", abs(turn[0] - 1.65) < 1e-6)
    ]  # fmt: skip
    gates += masked_gates(book, quick=asked.quick) + other_gates(book, quick=asked.quick)
    if asked.json and not asked.quick:
        draw(book, asked.json.with_suffix(".svg"))
    return report(gates, book, asked, machine())


if __name__ == "__main__":
    sys.exit(main())
