"""From a recipe's record to a run, and its play in a folder."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from moiety.blocks.partitioned import BlockRounds
from moiety.blocks.shards import Shards
from moiety.core.checkpoints import list_checkpoints
from moiety.core.ledger import Round
from moiety.core.protocols import Engine, Method
from moiety.core.solver import KeepsParameters
from moiety.core.state import State
from moiety.core.types import Params
from moiety.engine.choose import BLOCK_ENGINES, make_engine
from moiety.engine.collective import Collective
from moiety.engine.ranks import Ranks
from moiety.recipes.build import RunInputs
from moiety.recipes.record import Federation, write_read_fields
from moiety.rounds.asynchronous import Concurrency
from moiety.rounds.cohort import CohortRule
from moiety.rounds.staged import stage_rounds
from moiety.run.cohort import choose_cohort_rule
from moiety.run.display import PLAIN, Display
from moiety.run.evaluate import fit_serve
from moiety.run.loop import CHECKPOINTS, Run, S, choose_interval, execute_run
from moiety.run.privacy import play_privately
from moiety.run.same_ranks import join_recorded_ranks, scatter_pieces
from moiety.run.spec import RunSpec, describe_crowd, make_recipe_start
from moiety.run.trackers import RunAbout, make_trackers
from moiety.run.watch import make_event_writers
from moiety.run.whole import WholeCheckpoints, WholeEvaluation, check_state
from moiety.serve.input_spec import InputSpec
from moiety.serve.predictor import Predictor, describe_model, make_predictor, write_model


def make_run_cohort(record: Federation, built: RunInputs) -> CohortRule:
    """Choose who takes part."""
    return choose_cohort_rule(record.participation, built.num_seen, built.anchors)


def make_run_concurrency(record: Federation, built: RunInputs) -> Concurrency:
    """Choose who may work where the server does not wait for all."""
    size = min(record.participation.size, built.num_seen)
    return Concurrency(size if record.participation.fixed else built.num_seen, size)


def play_run(
    spec: RunSpec,
    built: RunInputs,
    folder: Path,
    at: int | None = None,
    ranks: Ranks | None = None,
    display: Display = PLAIN,
) -> None:
    """Play one run in its folder, from its newest checkpoint if it has one, or that of a round."""
    ranks = ranks or join_recorded_ranks(spec.record)
    done = [int(path.name) for path in list_checkpoints(folder / CHECKPOINTS)]
    begun = max(done, default=0) if at is None else at
    label, watch = f"{spec.method}, seed {spec.seed}", []
    if ranks.leads:
        writers = make_event_writers(folder / "tensorboard", begun)
        about = RunAbout(f"{spec.recipe}, {label}", folder, write_read_fields(spec.played))
        others = make_trackers(spec.record.log, about)
        watch = [*display.watch(label, built.rounds, begun), *writers, *others]
    if spec.record.engine in BLOCK_ENGINES:
        execute_run(make_block_run(spec, built, folder, ranks), folder, watch, at)
        return
    engine = make_engine(spec.record.engine, built.open)
    try:
        execute_run(make_whole_run(spec, built, folder, engine, ranks), folder, watch, at)
    finally:
        engine.close()


def measure_rounds(spec: RunSpec, built: RunInputs, ranks: Ranks, count: int) -> list[Round]:
    """Play the first rounds of a run and give what its ledger would say; nothing is written."""
    if not built.rounds:
        raise ValueError(f"{spec.method} plays no rounds; choose a method that trains")
    with tempfile.TemporaryDirectory() as empty:
        return measure_in_folder(spec, built, ranks, count, Path(empty))


def measure_in_folder(
    spec: RunSpec, built: RunInputs, ranks: Ranks, count: int, nowhere: Path
) -> list[Round]:
    """Play the first rounds of a run whose folder is empty, and stays so."""
    if spec.record.engine in BLOCK_ENGINES:
        return advance_rounds(make_block_run(spec, built, nowhere, ranks), built.rounds, count)
    engine = make_engine(spec.record.engine, built.open)
    try:
        run = make_whole_run(spec, built, nowhere, engine, ranks)
        return advance_rounds(run, built.rounds, count)
    finally:
        engine.close()


def advance_rounds(run: Run[S], limit: int, count: int) -> list[Round]:
    """Play some rounds of a run, from its beginning."""
    state, found = run.checkpoints.restore(None).state, []
    for _ in range(min(limit, count)):
        state, entry = run.rounds.advance(state)
        sent = int(run.ranks.add_up(torch.tensor(entry.sent_bytes)))
        found.append(replace(entry, sent_bytes=sent))
    return found


def make_whole_run(
    spec: RunSpec, built: RunInputs, folder: Path, engine: Engine, ranks: Ranks
) -> Run[State]:
    """Put together a run whose model every rank has whole."""
    record, stages = spec.record, built.stages
    if isinstance(engine, Collective):
        engine, stages = scatter_pieces(replace(engine, ranks=ranks), stages)
    cohort, concurrency = make_run_cohort(record, built), make_run_concurrency(record, built)

    def finish(state: State) -> None:
        if ranks.leads:
            method = built.stages[state.stage].method  # of an earlier one, where that was best
            params = method.calibrate(state.params, built.sample)
            served = make_run_predictor(spec, built, method, params, state.round)
            fitted = fit_serve(method, params, {}, built.groups)
            write_model(replace(served, serve=fitted.serve), folder / "final")

    rounds = stage_rounds(stages, engine, cohort, spec.seed, record.schedule, concurrency)
    rounds = replace(rounds, rounds=replace(rounds.rounds, judging=record.judging))
    kept, last = folder / CHECKPOINTS, record.checkpoint.last
    count, ending = built.rounds, ""
    if record.privacy.is_on:
        crowd = describe_crowd(built, cohort, spec.seed)
        rounds, count, ending = play_privately(rounds, record.privacy, crowd, folder)
    return Run(
        rounds=rounds,
        count=count,
        check=check_state,
        evaluate=WholeEvaluation(rounds, built.groups, built.sample, ranks),
        checkpoints=WholeCheckpoints(kept, rounds, ranks, spec.fingerprint, record.device, last),
        finish=finish,
        start=make_recipe_start(spec, built),
        evaluate_every=choose_interval(record.evaluate_every, built.rounds),
        checkpoint=record.checkpoint,
        metric=built.objective.metrics[0],
        ranks=ranks,
        keep=record.keep,
        ending=ending,
    )


def make_block_run(spec: RunSpec, built: RunInputs, folder: Path, ranks: Ranks) -> Run[Shards]:
    """Put together a run in blocks."""
    from moiety.run.blocks import (  # torch's distributed checkpoints: slow, and for blocks alone
        BlockCheckpoints,
        BlockEvaluation,
        leave_check_to_saving,
        write_block_model,
    )

    record, kept = spec.record, folder / CHECKPOINTS
    rounds = BlockRounds(
        built.method,
        built.open,
        make_run_cohort(record, built),
        spec.seed,
        record.engine == "peers",
        built.cohort_size,
    )
    evaluate = BlockEvaluation(rounds, built.groups, built.sample)

    def finish(shards: Shards) -> None:
        about = describe_model(make_run_predictor(spec, built, built.method, {}, shards.round))
        write_block_model(shards, evaluate.calibrate(shards), about, folder)

    return Run(
        rounds=rounds,
        count=built.rounds,
        check=leave_check_to_saving,
        evaluate=evaluate,
        checkpoints=BlockCheckpoints(kept, rounds, ranks, spec.fingerprint, record.checkpoint.last),
        finish=finish,
        start=make_recipe_start(spec, built),
        evaluate_every=choose_interval(record.evaluate_every, built.rounds),
        checkpoint=record.checkpoint,
        metric=built.objective.metrics[0],
        ranks=ranks,
        keep=record.keep,
    )


def make_run_predictor(
    spec: RunSpec, built: RunInputs, method: Method, params: Params, rounds: int
) -> Predictor:
    """Make the finished model of a run ready for use, as the method of its stage serves it."""
    names = built.objective.names
    input_spec = InputSpec(built.shape, built.scale, names, built.columns, built.adapter)
    note: dict[str, Any] = {"recipe": spec.recipe, "method": spec.method, "seed": spec.seed}
    target = spec.record.target or None
    group = spec.record.group or None
    note = {
        **note,
        "round": rounds,
        "target": target,
        "group": group,
        "own": list_own_parameters(built.method),
    }
    return make_predictor(method, params, input_spec, note)


def list_own_parameters(method: Method) -> list[str]:
    """Name the parameters that stayed with the workers, and so are not in the final model."""
    solve = method.solve
    return list(solve.own) if isinstance(solve, KeepsParameters) else []
