"""``moiety personalize``: a small model for one worker at once, from unlabelled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from moiety.core.errors import RunError
from moiety.core.ledger import read as read_ledger
from moiety.data.tables import Columns
from moiety.ops.text import columns
from moiety.run.commands.common import parse
from moiety.run.commands.predict import open_model
from moiety.run.echo import say, say_json
from moiety.run.loop import LEDGER
from moiety.serve.predictor import MODEL, Served, write


@dataclass(frozen=True)
class Words:
    """What can be said behind ``moiety personalize``.

    Args:
        run: folder of a finished run with gated experts.
        data: CSV, Parquet, npz, or a folder of images; labels are not read even if there are some.
        out: folder to write the personal model to.
        experts: how many experts it keeps.
        target: the column of labels, to leave it out where it has another name than in training.
        json: print as JSON.
    """

    run: tyro.conf.Positional[Path]
    data: Path
    out: Path
    experts: int = 2
    target: str = ""
    json: bool = False


ABOUT = """Make a small standalone model for one worker: the gate picks experts for its rows,
without labels and without training. moiety predict and moiety.load take the result.

examples:
  moiety personalize runs/quickstart/ddome-seed0 --data unlabelled.npz --experts 2 --out mine
  moiety predict mine --data rows.npz
"""


def main(words: Sequence[str]) -> int:
    """Personalize."""
    said = parse(Words, words, prog="personalize", about=ABOUT)
    served = open_model(said.run)
    if said.out.exists() and (not said.out.is_dir() or any(said.out.iterdir())):
        raise RunError(f"{said.out} already holds something; choose another --out")
    known = served.note.get("target")
    wanted = Columns(said.target or None, labels=False, likely=known)
    x = served.intake.read(said.data, wanted).x
    mine = served.personal(x, said.experts)
    write(mine, said.out)
    share_C = mine.predict_log_proba(x).exp().mean(0)
    routed = seen_by(said.run, mine.note["experts"])
    size = (said.out / MODEL).stat().st_size
    if said.json:
        say_json(
            {
                "out": str(said.out),
                "experts": mine.note["experts"],
                "bytes": size,
                "coverage": coverage(mine, share_C),
                "routed": routed,
            }
        )
        return 0
    say(f"experts {mine.note['experts']} of {len_of(served)}; {size} bytes in {said.out}\n")
    rows = [["class", "expected share", "rows routed to these experts in the last evaluation"]]
    for name, share in coverage(mine, share_C).items():
        rows.append([name, f"{share:.3f}", str(routed.get(name, "")) if routed else "unknown"])
    say(columns(rows))
    return 0


def len_of(served: Served) -> int:
    """Count the experts of a model."""
    return len(next(t for n, t in served.params.items() if n.startswith("expert.")))


def coverage(served: Served, share_C: torch.Tensor) -> Mapping[str, float]:
    """Give the expected share of each class among the rows: mean predicted probability."""
    return dict(zip(served.intake.classes, share_C.tolist(), strict=True))


def seen_by(run: Path, experts: Sequence[int]) -> Mapping[str, int]:
    """Count, from the run's ledger, the rows of each class that these experts answered."""
    if not (run / LEDGER).exists():
        return {}
    ledger = read_ledger(run / LEDGER)
    tables = [entry.routes for entry in ledger.evaluations if entry.routes]
    if not tables:
        return {}
    total = [sum(tables[-1][e][c] for e in experts) for c in range(len(ledger.start.classes))]
    return dict(zip(ledger.start.classes, total, strict=True))
