"""``moiety export``: a finished model as one file for torch.export or ONNX, or for PEFT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moiety.core.errors import RunError
from moiety.run.commands.arguments import parse_words
from moiety.run.commands.common import check_writable
from moiety.run.commands.predict import open_model
from moiety.run.commands.words import POSITIONAL
from moiety.run.echo import echo, echo_json
from moiety.serve.export import export_model


@dataclass(frozen=True)
class ExportArguments:
    """What can be said behind ``moiety export``.

    Args:
        run: folder of a finished run or of a personal model.
        out: the file to write, of ``peft`` the folder; FILE.json beside a file says what goes in
            and comes out.
        format: ``torch`` (a program of torch.export) or ``onnx`` (needs the extra ``onnx``); of
            what was learnt beside a language model ``peft``, its adapter.
        json: print as JSON.
    """

    run: Path = field(metadata=POSITIONAL)
    out: Path
    format: str = "torch"
    json: bool = False


ABOUT = """Write a finished model as one file that runs without moiety: it scales its inputs, and
gives log-probabilities of classes, labels or tokens, or numbers in the target's unit. Columns of a
table come encoded, in the order that FILE.json lists. The file is tried on drawn rows before the
command ends. A model that looks at all rows of a worker first (ddome, serve.prior em) is made
personal before. Prompts and low-rank parts of a language model are an adapter, which PEFT opens
beside that model.

examples:
  moiety export runs/mine/fedavg-seed0 --out model.pt2
  moiety export personal --format onnx --out model.onnx
  moiety export runs/mops/mops-seed0 --format peft --out adapter
"""


def do_export(words: Sequence[str]) -> int:
    """Export."""
    said = parse_words(ExportArguments, words, prog="export", about=ABOUT)
    check_writable(said.out)
    if said.out.exists():
        raise RunError(f"{said.out} is there already; choose another --out")
    gap = export_model(open_model(said.run), said.out, said.format)
    files = [said.out, *said.out.rglob("*")]
    size = sum(path.stat().st_size for path in files if path.is_file())
    if said.json:
        echo_json({"out": str(said.out), "format": said.format, "bytes": size, "difference": gap})
        return 0
    tried = f"; answers differ by {gap:.1g} at most on rows that were drawn"
    echo(f"{size} bytes in {said.out}{tried if said.out.is_file() else ''}")
    return 0
