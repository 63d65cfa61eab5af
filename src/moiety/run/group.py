"""Runs on disk: one folder each, several beside each other in a group."""

from __future__ import annotations

from pathlib import Path

from moiety.core.errors import RunError
from moiety.core.files import add_digest, json_to_bytes, replace_file
from moiety.core.ledger import read_ledger
<<<<<<< HEAD
from moiety.engine.ranks import join_ranks
=======
from moiety.core.state import State
from moiety.core.types import Params
from moiety.engine.agreement import flatten_fields
from moiety.engine.choose import BLOCK_ENGINES, make_engine
from moiety.engine.collective import Collective
from moiety.engine.ranks import Ranks
>>>>>>> main
from moiety.recipes.build import RunInputs, build_run, resolve_path
from moiety.recipes.fields import override_fields
from moiety.recipes.record import Federation, write_read_fields
from moiety.run.folders import hold_folder, hold_folders, hold_for_all
<<<<<<< HEAD
from moiety.run.loop import LEDGER
from moiety.run.play import play_run
from moiety.run.same_ranks import join_recorded_ranks
from moiety.run.spec import RunSpec, read_settings, resolve_run
=======
from moiety.run.loop import CHECKPOINTS, LEDGER, Run, Watcher, execute_run
from moiety.run.same_ranks import check_rank_engine, join_recorded_ranks, scatter_pieces
from moiety.run.spec import RunSpec, make_recipe_start, read_settings, resolve_run
from moiety.run.together import compare_ranks
from moiety.run.watch import Progress, make_event_writers
from moiety.serve.input_spec import GraphAdapter, InputSpec, TextAdapter
from moiety.serve.predictor import Predictor, describe_model, make_predictor, write_model
from moiety.solve.sgd import LocalSGD
>>>>>>> main

CONFIG, GROUP, VERSION = "config.json", "group.json", 2


<<<<<<< HEAD
def start_run(spec: RunSpec, built: RunInputs, folder: Path) -> None:
    """Hold a run's folder, and play the run in it."""
    with hold_for_all(join_recorded_ranks(spec.record), hold_folder(folder)):
        begin_run(spec, built, folder)


def begin_run(spec: RunSpec, built: RunInputs, folder: Path) -> None:
    """Write down what a run is and play it, in a folder that is held."""
    if join_recorded_ranks(spec.record).leads:
        config = {**spec.to_json(), "data": built.data_fingerprint}
        replace_file(folder / CONFIG, json_to_bytes(add_digest(config)))
    play_run(spec, built, folder)
=======
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
) -> State:
    """Play one run in its folder, from its newest checkpoint if it has one, or that of a round."""
    record, ranks = spec.record, ranks or join_recorded_ranks(spec.record)
    if record.engine in BLOCK_ENGINES:
        return play_block_run(spec, built, folder, at, ranks)
    engine, stages = make_engine(record.engine, built.open), built.stages
    if isinstance(engine, Collective):
        engine, stages = scatter_pieces(replace(engine, ranks=ranks), stages)
    run = Run(
        stages=stages,
        engine=engine,
        cohort=make_run_cohort(record, built),
        groups=built.groups,
        start=make_recipe_start(spec, built),
        seed=spec.seed,
        evaluate_every=record.evaluate_every,
        checkpoint=record.checkpoint,
        fingerprint=spec.fingerprint,
        sample=built.sample,
        schedule=record.schedule,
        concurrency=make_run_concurrency(record, built),
        ranks=ranks,
    )
    watch = make_run_watchers(spec, built, folder, at) if ranks.leads else []
    try:
        state = execute_run(run, folder, watch, at)
    finally:
        engine.close()
    if not ranks.leads:
        return state
    params = built.stages[-1].method.calibrate(state.params, built.sample)
    write_model(make_run_predictor(spec, built, params, state.round), folder / "final")
    return state


def make_run_watchers(
    spec: RunSpec, built: RunInputs, folder: Path, at: int | None
) -> list[Watcher]:
    """Say who looks on: a bar, and TensorBoard where it is there."""
    done = [int(path.name) for path in checkpoints.list_checkpoints(folder / CHECKPOINTS)]
    begun = max(done, default=0) if at is None else at
    bar = Progress(f"{spec.method}, seed {spec.seed}", built.rounds, begun)
    return [bar, *make_event_writers(folder / "tensorboard", begun)]


def make_run_predictor(spec: RunSpec, built: RunInputs, params: Params, rounds: int) -> Predictor:
    """Make the finished model of a run ready for use."""
    input_spec = make_run_input_spec(spec.record, built)
    note: dict[str, Any] = {"recipe": spec.recipe, "method": spec.method, "seed": spec.seed}
    target = spec.record.target or None
    note = {**note, "round": rounds, "target": target, "own": list_own_parameters(built)}
    return make_predictor(built.stages[-1].method, params, input_spec, note)


def make_run_input_spec(record: Federation, built: RunInputs) -> InputSpec:
    """Say what the final model takes, from the data as their owner has them."""
    plain = InputSpec(built.shape, built.scale, built.classes, built.columns)
    if built.inputs:
        return replace(plain, adapter=GraphAdapter(built.inputs, record.graph.project))
    if NETS[record.net.kind].tokens:
        return replace(plain, adapter=TextAdapter(built.shape[0], built.classes))
    return plain


def play_block_run(
    spec: RunSpec, built: RunInputs, folder: Path, at: int | None, ranks: Ranks
) -> State:
    """Play one run in blocks; rank 0 alone looks on."""
    record = spec.record
    run = BlockRun(
        play=Partitioned(
            built.method, built.open, spec.seed, record.engine == "peers", built.cohort_size
        ),
        ranks=ranks,
        rounds=built.rounds,
        cohort=make_run_cohort(record, built),
        groups=built.groups,
        sample=built.sample,
        start=make_recipe_start(spec, built),
        evaluate_every=record.evaluate_every,
        checkpoint=record.checkpoint,
        fingerprint=spec.fingerprint,
        about=describe_model(make_run_predictor(spec, built, {}, built.rounds)),
    )
    label = f"{spec.method}, seed {spec.seed}"
    watch = [Progress(label, built.rounds, at or 0)] if ranks.leads else []
    return execute_blocks(run, folder, watch, at)


def list_own_parameters(built: RunInputs) -> list[str]:
    """Name the parameters that stayed with the workers, and so are not in the final model."""
    solve = built.method.solve
    return list(solve.own) if isinstance(solve, LocalSGD) else []


def start_run(spec: RunSpec, built: RunInputs, folder: Path, ranks: Ranks | None = None) -> State:
    """Hold a run's folder, and play the run in it."""
    ranks = ranks or join_recorded_ranks(spec.record)
    with hold_for_all(ranks, hold_folder(folder)):
        return begin_run(spec, built, folder, ranks)


def begin_run(spec: RunSpec, built: RunInputs, folder: Path, ranks: Ranks) -> State:
    """Write down what a run is and play it, in a folder that is held; all ranks play the same."""
    config = {**spec.to_json(), "data": built.data_fingerprint}
    compare_runs(ranks, spec, built)
    if ranks.leads:
        replace_file(folder / CONFIG, json_to_bytes(add_digest(config)))
    return play_run(spec, built, folder, ranks=ranks)
>>>>>>> main


def compare_runs(ranks: Ranks, spec: RunSpec, built: RunInputs) -> None:
    """Refuse at all ranks together where they are to play other runs, or on other data."""
    about = {**spec.to_json(), "fingerprint of the data": built.data_fingerprint}
    compare_ranks(ranks, flatten_fields(about))


def start_group(
    recipe: str, record: Federation, folder: Path, ranks: Ranks | None = None
) -> list[Path]:
    """Play a record in a folder that is held: a run for each method and seed, side by side."""
    ranks = ranks or join_recorded_ranks(record)
    record = override_fields(record, {"data": resolve_path(record.data)})
    names = [
        (method, record.seed + place) for place in range(record.seeds) for method in record.methods
    ]
    if len(names) == 1:
        spec, built = resolve_run(recipe, record, *names[0])
        begin_run(spec, built, folder, ranks)
        return [folder]
    # A choice that does not fit, or other data at a rank, ends here.
    data = {m: build_run(record, m, record.seed).data_fingerprint for m in record.methods}
    compare_ranks(
        ranks, {f"fingerprint of the data of {method}": found for method, found in data.items()}
    )
    runs = [f"{method}-seed{seed}" for method, seed in names]
<<<<<<< HEAD
    group = {
        "version": VERSION,
        "recipe": recipe,
        "fields": write_read_fields(record),
        "runs": runs,
    }
    if join_recorded_ranks(record).leads:
=======
    group = {"version": VERSION, "recipe": recipe, "fields": to_plain(record), "runs": runs}
    if ranks.leads:
>>>>>>> main
        replace_file(folder / GROUP, json_to_bytes(add_digest(group)))
    for (method, seed), name in zip(names, runs, strict=True):
        spec, built = resolve_run(recipe, record, method, seed)
        start_run(spec, built, folder / name, ranks)
    return [folder / name for name in runs]


def list_members(folder: Path) -> list[Path]:
    """List the runs of a folder: itself, or those of the group it is."""
    if (folder / GROUP).exists():
        return [folder / name for name in read_settings(folder / GROUP)["runs"]]
    if not (folder / CONFIG).exists() and not (folder / LEDGER).exists():
        raise RunError(f"{folder} is no run: it has neither {CONFIG} nor {GROUP}")
    return [folder]


def read_spec(folder: Path) -> RunSpec:
    """Read what the run in a folder is."""
    return RunSpec.from_json(read_settings(folder / CONFIG), folder / CONFIG)


def is_finished(folder: Path) -> bool:
    """Say whether a run is over."""
    if not (folder / LEDGER).exists() or not (folder / "final").is_dir():
        return False
    end = read_ledger(folder / LEDGER).end
    return end is not None and end.status == "finished"


<<<<<<< HEAD
def resume_run(folder: Path, at: int | None = None) -> None:
    """Hold a run's folder, and go on with the run."""
    with hold_for_all(join_ranks(), hold_folder(folder)):
        continue_run(folder, at)


def continue_run(folder: Path, at: int | None) -> None:
=======
def resume_run(folder: Path, at: int | None = None, ranks: Ranks | None = None) -> State:
    """Hold a run's folder, and go on with the run."""
    ranks = ranks or join_recorded_ranks(read_spec(folder).record)
    with hold_for_all(ranks, hold_folder(folder)):
        return continue_run(folder, at, ranks)


def continue_run(folder: Path, at: int | None, ranks: Ranks) -> State:
>>>>>>> main
    """Go on with the run in a folder that is held, bit for bit as if it had not stopped."""
    spec = read_spec(folder)
    check_rank_engine(spec.record, ranks)
    built = build_run(spec.record, spec.method, spec.seed)
    compare_runs(ranks, spec, built)
    before = read_settings(folder / CONFIG).get("data", built.data_fingerprint)
    if before != built.data_fingerprint:
        raise RunError(
            f"the data of {folder} ({spec.record.data}) are not those it began with; bring them "
            "back, or start a run anew"
        )
<<<<<<< HEAD
    play_run(spec, built, folder, at)
=======
    return play_run(spec, built, folder, at, ranks)
>>>>>>> main


def resume_runs(folder: Path, ranks: Ranks, at: int | None = None) -> list[Path]:
    """Go on with a run, or with every run of a group that is not over.

    Args:
        folder: of the run or of the group.
        ranks: who plays.
        at: resume from the checkpoint of this round instead of the newest.

    Returns:
        The runs that were played.
    """
    runs = list_members(folder)
    if not any((folder / name).exists() for name in (CONFIG, GROUP)):
        raise RunError(
            f"{folder} was made by moiety.train(); call that again with the same method, workers "
            "and folder, and it goes on"
        )
    if at is not None and len(runs) > 1:
        raise RunError(f"--at needs one run, but {folder} holds {len(runs)}; name one of them")
    played, known = [], [run for run in runs if (run / CONFIG).exists()]
    with hold_for_all(ranks, hold_folders(folder, known)):
        over = ranks.share([is_finished(run) if at is None else False for run in runs])
        begun = ranks.share([run in known for run in runs])
        for run, done, resumed in zip(runs, over, begun, strict=True):
            if done:
                continue
            if resumed:
                continue_run(run, at, ranks)
            else:
                begin_member(folder, run, ranks)
            played.append(run)
    return played


def begin_member(folder: Path, run: Path, ranks: Ranks) -> None:
    """Start a run of a group that had not started when the group was stopped."""
    group = read_settings(folder / GROUP)
    method, _, seed = run.name.rpartition("-seed")
    whole = RunSpec.from_json({**group, "method": method, "seed": int(seed)}, folder / GROUP)
    spec, built = resolve_run(group["recipe"], whole.record, method, int(seed))
    start_run(spec, built, run, ranks)
