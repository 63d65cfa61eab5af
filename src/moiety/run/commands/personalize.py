"""``moiety personalize``: a small model for one worker at once, from unlabelled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from moiety.core.errors import RunError
from moiety.core.files import holds_anything
from moiety.core.keep import find_final_evaluation
from moiety.core.ledger import read_ledger as read_ledger
from moiety.data.roles import Columns
from moiety.ops.text import align_columns
from moiety.run.commands.arguments import parse_words
from moiety.run.commands.predict import open_model
from moiety.run.commands.words import POSITIONAL
from moiety.run.echo import echo, echo_json
from moiety.run.loop import LEDGER
from moiety.serve.predictor import MODEL, Predictor, write_model
from moiety.serve.single import merge_experts


@dataclass(frozen=True)
class PersonalizeArguments:
    """What can be said behind ``moiety personalize``.

    Args:
        run: folder of a finished run of a method with gated experts: ``ddome``; or of any method,
            if it was played with ``serve.prior=em``.
        data: CSV, Parquet, npz, or a folder of images; labels are not read even if there are some.
        out: folder to write the personal model to.
        experts: how many experts it keeps; by default two. Only of a method that has experts.
        merged: average these experts into one plain model of the size of one, weighed by what the
            gate says of the rows; for experts that began at the same values.
        target: the column of labels, to leave it out where it has another name than in training.
        json: print as JSON.
    """

    run: Path = field(metadata=POSITIONAL)
    data: Path
    out: Path
    experts: int | None = None
    merged: bool = False
    target: str = ""
    json: bool = False


ABOUT = """Make a standalone model for one worker from its rows, without labels and without
training: the gate picks experts for them (ddome); and where the run was played with serve.prior
em, of any method, answers are corrected for the worker's own mix of classes. Other runs have
nothing to choose. moiety predict and moiety.load_model take the result.

examples:
  moiety personalize runs/quickstart/ddome-seed0 --data unlabelled.npz --experts 2 --out mine
  moiety predict mine --data rows.npz
"""


def do_personalize(words: Sequence[str]) -> int:
    """Personalize."""
    said = parse_words(PersonalizeArguments, words, prog="personalize", about=ABOUT)
    served = open_model(said.run)
    if holds_anything(said.out):
        raise RunError(f"{said.out} already holds something; choose another --out")
    known = served.note.get("target")
    wanted = Columns(said.target or None, labels=False, usual_target=known)
    x = served.input_spec.read(said.data, wanted).x
    mine = served.personalize(x, said.experts)
    mine = merge_experts(mine, x) if said.merged else mine
    write_model(mine, said.out)
    told = mine.predict_answer(x)
    kept = mine.note.get("experts", [])
    share_C = (told.exp() if mine.objective.log_probabilities else told).mean(0)
    routed = count_answered_rows(said.run, kept) if kept else {}
    size = (said.out / MODEL).stat().st_size
    if said.json:
        echo_json(
            {
                "out": str(said.out),
                "experts": kept,
                "bytes": size,
                "coverage": estimate_coverage(mine, share_C),
                "routed": routed,
            }
        )
        return 0
    whole = f"experts {kept} of {count_experts(served)}" if kept else "the whole model"
    if said.merged:
        parts = ", ".join(f"{one:.0%}" for one in mine.note["merged"])
        whole = f"{whole}, merged into one model ({parts})"
    echo(f"{whole}; {size} bytes in {said.out}\n")
    echo(write_coverage(mine, share_C, routed, chosen=bool(kept)))
    return 0


ROUTED = "rows routed to these experts in the last evaluation"


def write_coverage(
    mine: Predictor, share_C: torch.Tensor, routed: Mapping[str, int], *, chosen: bool
) -> str:
    """Write the mean answer, and which rows of the run's evaluation these experts answered.

    Those are told apart by class, or of other targets by the kinds of rows that the objective has.
    """
    mean = "expected share" if mine.objective.log_probabilities else "expected mean"
    found = estimate_coverage(mine, share_C)
    rows = [[mine.objective.name, mean], *([name, f"{one:.3f}"] for name, one in found.items())]
    if not chosen:
        return align_columns(rows)
    if mine.objective.categorical:
        known = [str(routed.get(name, 0)) if routed else "unknown" for name in found]
        return align_columns([[*row, one] for row, one in zip(rows, [ROUTED, *known], strict=True)])
    kinds = [[f"{ROUTED}, by {mine.objective.names[0]}", ""]]
    kinds += [[name, str(count)] for name, count in routed.items()] or [["unknown", ""]]
    return f"{align_columns(rows)}\n\n{align_columns(kinds)}"


def count_experts(served: Predictor) -> int:
    """Count the experts of a model."""
    return len(next(t for n, t in served.params.items() if n.startswith("expert.")))


def estimate_coverage(served: Predictor, share_C: torch.Tensor) -> Mapping[str, float]:
    """Give the mean answer: of each class or label its probability, of each number its value."""
    return dict(zip(served.input_spec.classes, share_C.tolist(), strict=True))


def count_answered_rows(run: Path, experts: Sequence[int]) -> Mapping[str, int]:
    """Count, from the run's ledger, the rows of each class that these experts answered."""
    if not (run / LEDGER).exists():
        return {}
    ledger = read_ledger(run / LEDGER)
    table = find_final_evaluation(ledger).routes if ledger.evaluations else ()
    if not table:
        return {}
    total = [sum(table[e][c] for e in experts) for c in range(len(ledger.start.classes))]
    return dict(zip(ledger.start.classes, total, strict=True))
