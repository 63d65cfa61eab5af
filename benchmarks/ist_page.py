"""Write docs/results/ist.md from the figures that the benchmarks of independent subnets kept.

python -m benchmarks.ist_page
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gates import Gate, table

RESULTS = Path(__file__).parents[1] / "docs" / "results"


@dataclass(frozen=True)
class Section:
    """One benchmark: its title, its module (and file), and what to know of its figures."""

    title: str
    module: str
    text: str


SECTIONS = (
    Section(
        "Perceptrons on Fashion-MNIST",
        "ist",
        "First 12,000 training rows dealt evenly, 10,000 test rows, 600 local steps of 64 rows, "
        "H = 20, three seeds. Of the paper (thesis, 2020; speech, other data and machines): IST "
        "reaches 63 % 1.9x / 4.6x / 9.8x as fast as local SGD with 2 / 4 / 8 workers (two "
        "layers), and ends above it (.8153 against .7998 with 2 workers). Here it ends *below* "
        "local SGD at equal local steps, and is cheaper to a moderate accuracy.",
    ),
    Section(
        "What parts cost in steps",
        "ist_steps",
        "Local steps of IST over those of local SGD to one accuracy, 784-512-512-10, both with "
        "rounds of one length H; what `moiety plan` assumes. Looked for every 40 steps, or after "
        "each round of 80.",
    ),
    Section(
        "Wall time over shaped links",
        "ist_links",
        "Network namespaces and `tc tbf`; four processes on two cores, so their seconds of "
        "computing are those of a shared machine. Seconds to a target are seconds of a round on "
        "the link times the rounds counted in a run without one (seed 0, looked for after rounds, "
        "so a longer round finds it later); the race is run on the link. Averages that equal "
        "`serial` bit for bit take 1.1 to 1.2 times as long as a ring's all-reduce would here.",
    ),
    Section(
        "The largest model under one limit of memory",
        "ist_widest",
        "Eight ranks in blocks beside one lean data-parallel rank; bytes of live tensors, held to "
        "the limit by an error. Published for GIST: 8 times the width with 8 workers.",
    ),
    Section(
        "Measured against the cost model",
        "ist_cost",
        "Rounds of 784-w-w-10, of a GCN on Cora and of GraphSAGE on clusters of Coauthor CS beside "
        "`moiety plan`; one process, median of five.",
    ),
    Section(
        "Residual and VGG-like networks on CIFAR-10",
        "ist_images",
        "10,000 training and 4,000 test images, 16x16, 400 local steps; figures by seed. Published "
        "on full CIFAR-10 with ResNet101: ResIST 91.95 / 92.35 / 91.45 % against local SGD 92.36 / "
        "92.90 / 92.00 % with 2 / 4 / 8 workers.",
    ),
    Section(
        "Graph networks",
        "ist_graphs",
        "Cora, standard split, three seeds. Published: baseline 81.52 %, GIST 80.82 / 81.18 / "
        "79.58 % with 2 / 4 / 8 workers.",
    ),
    Section(
        "Character transformer",
        "ist_text",
        "Tiny Shakespeare, 4 blocks of width 64, 600 local steps; nats per character. Published "
        "for the nearest method (TwIST, other data, abstract only): perplexity 23.14 at half the "
        "network against 31.64 for the nearest baseline.",
    ),
    Section(
        "Workers of unequal speed",
        "ist_async",
        "Fashion-MNIST, two classes a worker, 20 workers, 8 at a time, speeds 1 to 5, virtual "
        "seconds. Published (104 clients, MLP): hetero AsyncDrop 61.90 ± 6.39 %, random 60.85 ± "
        "9.78, async FedAvg 61.59 ± 10.02, FedBuff 59.96 ± 7.64.",
    ),
    Section(
        "Rows streamed from Parquet",
        "ist_stream",
        "Four workers with a file each.",
    ),
    Section("Theory", "ist_theory", "Claims checked by number; curves in `ist_theory.svg`."),
)


def told(section: Section) -> str:
    """Write a section."""
    head = f"## {section.title}\n\n{section.text}\n"
    path = RESULTS / f"{section.module}.json"
    command = f"`python -m benchmarks.{section.module} --check --json docs/results/{path.name}`"
    if not path.exists():
        return f"{head}\n{command}: not run.\n"
    kept = json.loads(path.read_text())
    facts = ", ".join(f"{key} {value}" for key, value in kept.get("machine", {}).items())
    gates = [Gate(**gate) for gate in kept.get("gates", [])]
    body = table(gates) if gates else "The run was not over; the figures so far are in the file."
    return f"{head}\n{command} ({facts})\n\n{body}\n"


def main() -> int:
    page = (
        "# Independent subnets: asked and measured\n\nWritten by `python -m benchmarks.ist_page`. "
        "A bold **no** is a gate that was not reached.\n\n"
    )
    (RESULTS / "ist.md").write_text(page + "\n".join(told(section) for section in SECTIONS))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
