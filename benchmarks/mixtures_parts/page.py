"""Turn the results into a page and a plot.

python -m benchmarks.mixtures_parts.page RESULTS.json PAGE.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.mixtures_parts import prose
from benchmarks.mixtures_parts.gate import Gate

PARTS = ("gate", "experts", "variances")


def table(head: list[str], rows: Iterable[list[Any]]) -> list[str]:
    """Lay out a table."""
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def gates(found: dict[str, Any]) -> list[str]:
    rows = [
        [
            gate["name"],
            gate["asked"],
            gate["measured"],
            Gate(**gate).state.replace("FALLS SHORT", "**falls short**"),
        ]
        for section in found.values()
        for gate in section["gates"]
    ]
    return ["## Gates", "", *table(["gate", "asked", "measured", ""], rows)]


def many(numbers: dict[str, Any]) -> list[str]:
    lines = [
        "## Ways of reducing",
        "",
        "Log-likelihood of training / test rows; fits left out in brackets. "
        "The maximum is -11,026.97 on S and -87,994.45 on P.",
        "",
    ]
    for name in ("S", "P"):
        counts = list(numbers[name])
        choices = [choice for choice in numbers[name][counts[0]] if "ledger" not in choice]
        rows = []
        for choice in choices:
            cells = []
            for count in counts:
                one = numbers[name][count][choice]
                left = f" ({one['dropped']})" if one.get("dropped") else ""
                cells.append(f"{one['train']:,.1f} / {one['test']:,.1f}{left}")
            rows.append([choice, *cells])
        lines += [f"Set {name}:", "", *table(["", *(f"M = {count}" for count in counts)], rows)]
    return lines


def consistency(numbers: dict[str, Any]) -> list[str]:
    names = list(numbers["slopes"])
    rows = [[name, *(f"{numbers['slopes'][name][part]:.3f}" for part in PARTS)] for name in names]
    lines = [
        "## Consistency",
        "",
        f"Set S, M = 4, {numbers['replications']} replications: "
        "slope of the log squared error on log N.",
        "",
        *table(["", *PARTS], rows),
        "The published recipe (posterior gate, variance without the spread of the means) has the "
        "default support of 2,000 rows here, so its gate does not improve with N; its authors draw "
        "N / (4 M) rows.",
        "",
        "![Squared error against rows](mixtures.png)",
        "",
        "N = 32,000, more machines: summed squared errors gate / experts / variances.",
        "",
    ]
    rows = [
        [count, *("/".join(f"{errors[name][part]:.4f}" for part in PARTS) for name in names)]
        for count, errors in numbers["by_machines"].items()
    ]
    return [*lines, *table(["M", *names], rows)]


def robust(numbers: dict[str, Any]) -> list[str]:
    rows = [
        [name, f"{one['train']:,.1f}", f"{one['cost']:.1f}", f"{one['dropped']} of {one['of']}"]
        for kind in ("gross", "moderate")
        for name, one in numbers[kind].items()
    ]
    return [
        "## One bad fit of eight",
        "",
        f"Set P; all fits good: {numbers['clean']:,.1f}, {numbers['clean_dropped'] or 'none'} "
        "left out. The worst of the machines whose fit was spoilt in turn, and how often the bad "
        "fit was left out.",
        "",
        *table(["the bad fit", "log-likelihood", "cost", "left out"], rows),
    ]


def shown(one: dict[str, float]) -> str:
    """Show log density, in brackets that without atoms where it differs, and RMSE."""
    apart = one.get("without_atoms", one["log_density"])
    beside = f" ({apart:.3f})" if abs(apart - one["log_density"]) > 5e-4 else ""
    return f"{one['log_density']:.3f}{beside} / {one['rmse']:.3f}"


def title(name: str, one: dict[str, Any]) -> str:
    return f"{name} (N = {one['rows']:,}, d = {one['covariates']}, K = {one['experts']})"


def real(numbers: dict[str, Any]) -> list[str]:
    lines = [
        "## Real data",
        "",
        "Held-out mean log density (higher is better) / RMSE (lower is better); "
        "standardised response. Linear regression and boosting predict a normal density with the "
        "spread of residuals on rows kept apart. In brackets the log density of the rows whose "
        "response fewer than a hundredth of all share: on the others a density means nothing.",
        "",
    ]
    sets = list(numbers)
    names = [key for key in numbers[sets[0]] if isinstance(numbers[sets[0]][key], dict)]
    rows = [
        [
            name,
            *(shown(numbers[s][name]) for s in sets),
        ]
        for name in names
    ]
    head = [title(s, numbers[s]) for s in sets]
    return [*lines, *table(["", *head], rows), *prose.REAL]


def optima(numbers: dict[str, Any]) -> list[str]:
    """Say what was fitted; the shares and times are gates."""
    return [
        "## Random problems",
        "",
        f"{len(numbers)} problems of 600 rows, two covariates and three normal experts, each drawn "
        "at random; the best optimum of a problem is the best that any run found, thirty starts "
        "among them. flexmix has the tolerance 1e-8 and drops no component; its times are without "
        "the start of R, and from given labels those of a second fit, as ours are. MoEClust is no "
        "rival here: it is not among the packages of R that Debian has.",
        "",
    ]


def families(numbers: dict[str, Any]) -> list[str]:
    rows = []
    for name, one in numbers.items():
        there, own = one["reduction"], one["one start"]
        rival = one.get("flexmix")
        beside = [f"{rival['log_likelihood']:,.3f}", f"{rival['cpu_s']:.2f}"] if rival else ["", ""]
        rows.append([
            name, f"{own['log_likelihood']:,.3f}", beside[0], f"{own['cpu_s']:.3f}", beside[1],
            f"{there['global']:.4f}", f"{there['reduced']:.4f}", f"{there['cpu_s']:.1f}",
        ])  # fmt: skip
    head = ["family", "log-likelihood", "flexmix", "CPU s", "flexmix", "global", "reduced", "CPU s"]
    return [
        "## Families",
        "",
        "Two experts on three covariates (2026-11-30). "
        "One start from the same labels on 2,000 rows, beside "
        "flexmix; then held-out mean log density of the fit of 8,000 rows and of one exchange of "
        "16 machines with 500 each. flexmix has no negative binomial and no t law, and its gamma "
        "law has another link and another shape, so that these stand alone (the tests hold their "
        "single fits against scipy's).",
        "",
        *table(head, rows),
    ]


def coverage(numbers: dict[str, Any]) -> list[str]:
    rows = [
        [name, one["replications"], *(f"{share:.3f}" for share in one["coefficients"]),
         f"{one['predictions']:.3f}"]
        for name, one in numbers.items()
    ]  # fmt: skip
    terms = [
        f"{place} {term}" for place in ("gate", "first", "second") for term in ("1", "x1", "x2")
    ]
    order = [0, 1, 2, 3, 5, 7, 4, 6, 8]  # coefficients are kept row by row
    rows = [[*row[:2], *(row[2 + at] for at in order), row[-1]] for row in rows]
    return [
        "## Coverage",
        "",
        "N = 600, two experts (2026-11-30): "
        "how often 95 % intervals hold each coefficient (of the observed "
        "information where the law is that of the family, of a sandwich where the noise is skewed "
        "and grows with x2), and 90 % intervals fresh responses. A share of 200 has a standard "
        "error of 0.015. Where the law is another the target is a fit to 200,000 rows.",
        "",
        *table(["", "replications", *terms, "predictions"], rows),
    ]


def skew(numbers: dict[str, Any]) -> list[str]:
    names = list(numbers)
    ways = [key for key, value in numbers[names[0]].items() if isinstance(value, dict)]
    rows = [["global", *(f"{numbers[name]['global']:.3f}" for name in names)]]
    for way in ways:
        cells = []
        for name in names:
            one = numbers[name][way]
            told = ", warned" if one["told"] else ""
            cells.append(f"{one['log_density']:.3f} ({one['rounds']}{told})")
        rows.append([way, *cells])
    head = [f"{name} (N = {one['rows']:,}, K = {one['experts']})" for name, one in numbers.items()]
    return [
        "## Unlike shards",
        "",
        "Held-out mean log density, rows of shared responses left out, of the default distributed "
        "fit; in brackets its refining rounds, and whether it warned. Rows are at most 6,000; one "
        "regime each: rows are sorted by the likeliest expert of the global fit.",
        "",
        *table(["", *head], rows),
        *prose.SKEW,
    ]


def plot(numbers: dict[str, Any], path: Path) -> None:
    """Draw squared error against rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    sizes = [int(rows) for rows in numbers["by_rows"]]
    for part, axis in zip(PARTS, axes, strict=True):
        for name in numbers["slopes"]:
            errors = [numbers["by_rows"][str(rows)][name][part] for rows in sizes]
            axis.loglog(sizes, errors, marker="o", markersize=3, label=name)
        axis.set_xticks(sizes, [f"{rows // 1000}k" for rows in sizes])
        axis.minorticks_off()
        axis.set(title=part, xlabel="rows, N", ylabel="summed squared error")
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)


WRITERS = {
    "many": many, "consistency": consistency, "robust": robust, "real": real, "optima": optima,
    "families": families, "coverage": coverage, "skew": skew,
}  # fmt: skip


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    found = json.loads(source.read_text())
    lines = [
        "# Mixtures of experts: what was asked and what was measured",
        "",
        *prose.HEAD,
        *gates(found),
    ]
    for name, write in WRITERS.items():
        if name in found and found[name]["numbers"]:
            lines += write(found[name]["numbers"])
    if "consistency" in found:
        plot(found["consistency"]["numbers"], target.with_suffix(".png"))
    target.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
