"""The tables of DDOME and its rivals, of the cells that were played."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.ddome_cells import SETTINGS, Cell
from benchmarks.gates import Book

OPTIONS: Mapping[str, str] = {
    "ddome-three": "`--ddome.k 3`",
    "ddome-cover": "`--ddome.k 5 --ddome.cover 0.9`",
    "ddome-rows": "`--ddome.serve-k 5`",
    "ddome-balanced": "`--ddome.capacity 4`",
    "ddome-even": "`--ddome.capacity 2`",
    "ddome-explore": "`--ddome.explore 0.2`",
    "ddome-common": "`--ddome.from-common`",
    "ddome-gate-rows": "`--ddome.gate-input rows`",
    "ddome-gate-rows-8": "`--ddome.gate-input rows --ddome.gate-hidden 8`",
    "ddome-gate-answers": "`--ddome.gate-input answers`",
    "ddome-gate-raw": "`--ddome.gate-input raw`",
    "ddome-late": "`--ddome.opens 50 100`",
    "ddome-blind": "`--population.anchors 0`",
    "ddome-blind-late": "`--population.anchors 0 --ddome.opens 50 100`",
    "ddome-blind-lend": "`--population.anchors 0 --ddome.lend-idle`",
}
"""Variant -> how it is said; of the table of options, and of no other."""


def write_table(book: Book, setting: str) -> str:
    """Write the table of a setting: a line for each method and local prior."""
    head = (
        "method", "local prior", "unseen", "unseen, em", "worst tenth, em",
        "one set of all classes", "unseen, 200 labels", "MB in all", "seeds",
    )  # fmt: skip
    lines = [head, ("---",) * len(head)]
    played = [cell for cell in find_cells(book, setting) if cell.method not in OPTIONS]
    for method, prior in sorted({(cell.method, cell.prior) for cell in played}):
        cells = [cell for cell in played if (cell.method, cell.prior) == (method, prior)]
        found = [book.figures[cell.key] for cell in cells]
        lines.append((
            method, prior,
            write_mean([one["none"]["unseen"] for one in found]),
            write_mean([one["em"]["unseen"] for one in found]),
            write_mean([one["em"]["worst_tenth"] for one in found]),
            write_mean([one["none"]["test"] for one in found]),
            write_mean([one["labels"] for one in found if "labels" in one and prior == "none"]),
            write_mean([(one["down_bytes"] + one["up_bytes"]) / 1e6 for one in found
                        if "down_bytes" in one]),
            str(len(found)),
        ))  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_gates(book: Book) -> str:
    """Write what the gate finds, beside the oracle: a line for each setting and local prior."""
    names = {
        "gate_names_owner": "gate names the right expert of all",
        "owner_is_held": "the right one is held",
        "routed_to_owner": "rows routed to it",
        "routed": "accuracy, as routed",
        "any_held": "accuracy, best of those held",
        "oracle": "accuracy, right expert always",
    }
    lines = [["setting", "method", "local prior", *names.values(), "seeds"], ["---"] * 10]
    for setting in SETTINGS:
        cells = [cell for cell in find_cells(book, setting) if book.figures[cell.key].get("gate")]
        for method, prior in sorted({(cell.method, cell.prior) for cell in cells}):
            told = [
                book.figures[cell.key]["gate"]
                for cell in cells
                if (cell.method, cell.prior) == (method, prior)
            ]
            means = [write_mean([one[name] for one in told]) for name in names]
            lines.append([setting, method, prior, *means, str(len(told))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def find_cells(book: Book, setting: str) -> list[Cell]:
    """Find the cells of a setting that were played."""
    cells = [Cell(s, m, p, int(n)) for s, m, p, n in (key.split() for key in book.figures)]
    return [cell for cell in cells if cell.setting == setting]


def write_mean(values: Sequence[float], sign: str = "") -> str:
    """Write a mean and the sample standard deviation over seeds.

    >>> write_mean([1.0, 3.0]), write_mean([1.0], sign="+")
    ('2.0 ± 1.4', '+1.0')
    """
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):{sign}.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def write_options(book: Book) -> str:
    """Write what options do to DDOME as it is by default, in points, pairs by seed."""
    lines = [
        ["setting", "option", "unseen", "less the default", "unseen, em", "less the default, em",
         "merged into one", "MB in all", "seeds"],
        ["---"] * 9,
    ]  # fmt: skip
    for setting in SETTINGS:
        cells = [one for one in find_cells(book, setting) if one.prior == "none"]
        found = {(one.method, one.seed): book.figures[one.key] for one in cells}
        told = [name for name in OPTIONS if any(one.method == name for one in cells)]
        for name in ["ddome", *told] if told else []:
            seeds = [one.seed for one in cells if one.method == name]
            mine = [found[name, seed] for seed in seeds]
            paired = [seed for seed in seeds if ("ddome", seed) in found]
            line = [setting, OPTIONS.get(name, "the default")]
            for prior in ("none", "em"):
                more = [gain(found, name, seed, prior) for seed in paired if name in OPTIONS]
                mean = write_mean([one[prior]["unseen"] for one in mine])
                line += [mean, write_mean(more, sign="+")]
            merged = [one["merged"] for one in mine if one.get("merged") is not None]
            sent = [(one["down_bytes"] + one["up_bytes"]) / 1e6 for one in mine]
            lines.append([*line, write_mean(merged), write_mean(sent), str(len(mine))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def gain(
    found: Mapping[tuple[str, int], Mapping[str, Any]], name: str, seed: int, prior: str
) -> float:
    """Say by how many points a variant is better than the default on a seed."""
    return found[name, seed][prior]["unseen"] - found["ddome", seed][prior]["unseen"]
