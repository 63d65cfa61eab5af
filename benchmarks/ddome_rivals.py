"""DDOME and its rivals on images, with and without labels: ``python -m benchmarks.ddome_rivals``.

A cell is a setting, a method, a local prior and a seed. Its final model is scored on workers that
training never saw, as it is and corrected for their mix of classes (``serve.prior``); on all test
rows as one worker's; and where new workers have labels, after the method's own local work on half
of their rows, judged on the other half. ``--json FILE`` keeps cells and goes on where it stopped;
``--minutes M`` begins no cell after so many; ``--only SETTING ...`` plays these settings.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.ddome_cells import (
    PLACES,
    PLAIN,
    SEEDS,
    SETTINGS,
    VARIANTS,
    Cell,
    draw_inputs,
    list_cells,
)
from benchmarks.ddome_gate import judge_gate
from benchmarks.ddome_page import RESULTS, fill
from benchmarks.ddome_tables import write_gates, write_options, write_table
from benchmarks.gates import Book
from moiety.core.axes import Part, take_piece
from moiety.core.checkpoints import list_checkpoints
from moiety.core.ledger import read_ledger
from moiety.core.protocols import Method
from moiety.core.rows import JoinedRows, Rows, TableRows, take_all_rows
from moiety.core.state import State
from moiety.core.streams import stream
from moiety.core.types import Params
from moiety.engine.serial import Serial
from moiety.models.gated import EXPERT
from moiety.recipes.build import RunInputs
from moiety.rounds.synchronous import initialise_state, make_jobs, query_jobs
from moiety.run.checkpoint import read_checkpoint
from moiety.run.evaluate import evaluate_groups
from moiety.run.group import start_run
from moiety.run.loop import CHECKPOINTS, LEDGER
from moiety.run.spec import RunSpec, resolve_run
from moiety.serve.adapt import appoint_judges
from moiety.serve.cards import cut_experts
from moiety.serve.choose import Routed, average_gate_scores
from moiety.serve.prior import Serving
from moiety.serve.single import average_experts
from moiety.solve.sgd import OWN

PAGE = RESULTS / "ddome.md"
TESTED, ADAPTED = 500, 200
"""Rows of an unseen worker that are scored, and those that come with labels where some do."""


def play_cell(cell: Cell) -> dict[str, Any]:
    """Play a cell and score its final model."""
    method, _ = VARIANTS.get(cell.method, (cell.method, {}))
    spec, built = resolve_run(PLACES[cell.setting].recipe, cell.record, method, cell.seed)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(place)
        start_run(spec, replace(built, groups={}), folder)  # scored once, at the end, below
        state = read_end(folder, spec, built)
        told = read_ledger(folder / LEDGER)
    built = replace(built, method=built.stages[-1].method, later_stages=())
    found: dict[str, Any] = {"seconds": round(time.perf_counter() - begun, 1)}
    found["down_bytes"] = sum(one.down_bytes for one in told.rounds)
    found["up_bytes"] = sum(one.up_bytes for one in told.rounds)
    found["common"] = round(100 * (built.common_score or 0.0), 2)
    groups = choose_rows(built)
    found["gate"] = judge_gate(built, state.params, groups["unseen"])
    found["merged"] = score_merged(built, state.params, groups["unseen"])
    for prior in ("none", "em"):
        uniform = spec.record.local.adjusts and method != "common"
        served = Serving(prior).apply(built.method, validation=True, uniform=uniform)
        known, workers = groups["validation"], range(built.num_seen)
        served = appoint_judges(served, known, built.open, workers)
        found[prior] = score_groups(served, state, groups)
    if built.rounds and not spec.record.local.adjusts:
        found["labels"] = score_with_labels(built, state, groups["unseen"], spec)
    return found


def read_end(folder: Path, spec: RunSpec, built: RunInputs) -> State:
    """Read the state that a run ended with; of one without rounds, that it began with."""
    found = list_checkpoints(folder / CHECKPOINTS)
    if not found:
        return initialise_state(built.method)
    return read_checkpoint(found[-1], spec.fingerprint).state


def choose_rows(built: RunInputs) -> dict[str, dict[int, Rows]]:
    """Choose the rows that are scored: of each unseen worker some, and a global test set."""
    unseen = {w: pick_rows(rows, TESTED, w) for w, rows in built.groups["unseen"].items()}
    every = JoinedRows(list(unseen.values()), [torch.arange(rows.size) for rows in unseen.values()])
    known = {w: pick_rows(rows, 100, w) for w, rows in built.groups["validation"].items()}
    return {"validation": known, "unseen": unseen, "test": {-1: pick_rows(every, 2 * TESTED, -1)}}


def pick_rows(rows: Rows, count: int, address: int) -> Rows:
    """Pick some rows at random."""
    order = torch.randperm(rows.size, generator=stream(0, "picked", address + 1))[:count]
    batch = rows.take(order)
    return TableRows(batch, torch.arange(len(order)))


def score_groups(
    method: Method, state: State, groups: Mapping[str, Mapping[int, Rows]]
) -> dict[str, Any]:
    """Score unseen workers and the global test set, in percent and nats."""
    params = method.calibrate(state.params, None)
    told = evaluate_groups(method, replace(state, params=params), {}, groups)
    each = [100 * one for one in told.groups["unseen"].metrics["accuracy"]]
    worst = sorted(each)[: max(1, round(len(each) / 10))]
    return {
        "unseen": round(statistics.fmean(each), 2),
        "worst_tenth": round(statistics.fmean(worst), 2),
        "loss": round(statistics.fmean(told.groups["unseen"].metrics["loss"]), 4),
        "test": round(100 * told.groups["test"].metrics["accuracy"][0], 2),
    }


def score_merged(built: RunInputs, params: Params, unseen: Mapping[int, Rows]) -> float | None:
    """Score workers who merge the experts that they hold into one model, in percent."""
    model: Any = built.method.model
    if not isinstance(built.method.serve, Routed):
        return None
    right = []
    for rows in unseen.values():
        batch = take_all_rows(rows)
        batch = batch if "embed" in batch else model.common(batch)
        kept = built.method.serve.choose(params, rows).axes[EXPERT]
        piece = cut_experts(params, model.axes, kept)
        with torch.no_grad():
            one = average_experts(piece, average_gate_scores(model, piece, rows))
            told_BC = model.expert.logits(one, batch, {})
        right.append(float((told_BC.argmax(-1) == batch["y"]).double().mean()))
    return round(100 * statistics.fmean(right), 2)


def score_with_labels(
    built: RunInputs, state: State, unseen: Mapping[int, Rows], spec: RunSpec
) -> float:
    """Let each unseen worker do the method's own work on labelled rows, and score the others."""
    method, right = built.method, []
    for worker, rows in unseen.items():
        cut = min(ADAPTED, rows.size // 2)
        mine: Any = rows
        known, held = replace(mine, index=mine.index[:cut]), replace(mine, index=mine.index[cut:])
        engine = Serial({worker: known}.__getitem__, {})
        asked = query_jobs(method, state, [worker], spec.seed)
        query = method.query
        answers = {} if query is None else {
            reply.worker: reply.answer for reply in engine.map(query.solve, asked)
        }  # fmt: skip
        job = next(iter(make_jobs(method, state, [worker], answers, spec.seed)))
        reply = next(iter(engine.map(method.solve, [job])))
        own = engine.memory.get(worker, {}).get(OWN, {})
        piece = take_piece(state.params, method.model.axes, Part(job.share.part.axes))
        with torch.no_grad():
            batch = take_all_rows(held)
            piece = {**piece, **reply.piece, **own}
            log_NC = method.serve.scores(piece, batch, job.share.part.axes)
        right.append(float((log_NC.argmax(-1) == batch["y"]).double().mean()))
    return round(100 * statistics.fmean(right), 2)


def main(words: Sequence[str] | None = None) -> int:
    """Play what is lacking, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep cells; go on from them")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no cell after so many")
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--methods", nargs="+", default=list(PLAIN))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--priors", nargs="+", default=["none", "adjust"], help="of local losses")
    parser.add_argument("--kept", action="store_true", help="play nothing, print what is there")
    parser.add_argument("--page", action="store_true", help="write the tables into the page")
    said = parser.parse_args(words)
    torch.set_num_threads(1)
    draw_inputs()
    book, begun = Book.open(said.json), time.monotonic()
    for cell in list_cells(said.methods, said.seeds):
        late = said.kept or time.monotonic() - begun > 60 * said.minutes
        if cell.setting in said.only and cell.prior in said.priors and not late:
            book.measure(cell.key, partial(play_cell, cell))
    found = {f"rivals {setting}": write_table(book, setting) for setting in SETTINGS}
    found["rivals gates"] = write_gates(book)
    found["rivals options"] = write_options(book)
    for name, table in found.items():
        print(f"\n{name}\n\n{table}")
    if said.page:
        PAGE.write_text(fill(PAGE.read_text(), found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
