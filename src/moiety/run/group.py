"""Runs on disk: one folder each, several beside each other in a group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from moiety.blocks.partitioned import Partitioned
from moiety.core.errors import RunError
from moiety.core.files import read_json, replace_file, to_json
from moiety.core.ledger import read
from moiety.core.state import State
from moiety.core.types import Params
from moiety.engine.choose import BLOCKS, make
from moiety.engine.collective import Collective
from moiety.engine.ranks import join
from moiety.recipes.build import Built, build, located
from moiety.recipes.fields import override, to_plain
from moiety.recipes.nets import NETS
from moiety.recipes.record import Federation
from moiety.rounds.asynchronous import Crew
from moiety.run import checkpoint as checkpoints
from moiety.run.blocks import BlockRun, execute_blocks
from moiety.run.cohort import Roster, chosen
from moiety.run.loop import CHECKPOINTS, LEDGER, Keep, Run, execute
from moiety.run.same_ranks import folding, ranks_of
from moiety.run.spec import Spec, resolve, start_of
from moiety.run.watch import Progress, boards
from moiety.serve.input_spec import Intake, Letters, Nodes
from moiety.serve.predictor import Served, about, serve_method, write
from moiety.solve.sgd import LocalSGD

CONFIG, GROUP, VERSION = "config.json", "group.json", 1


def roster_of(record: Federation, built: Built) -> Roster:
    """Choose who takes part."""
    return chosen(record.turnout, built.num_seen, built.anchors)


def crew_of(record: Federation, built: Built) -> Crew:
    """Choose who may work where the server does not wait for all."""
    size = min(record.turnout.size, built.num_seen)
    return Crew(size if record.turnout.fixed else built.num_seen, size)


def play_run(spec: Spec, built: Built, folder: Path, at: int | None = None) -> State:
    """Play one run in its folder, from its newest checkpoint if it has one."""
    record = spec.record
    if record.engine in BLOCKS:
        return play_blocks(spec, built, folder, at)
    engine, ranks, stages = make(record.engine, built.open), ranks_of(record), built.stages
    if isinstance(engine, Collective):
        engine, stages = folding(engine, stages)
    run = Run(
        stages=stages,
        engine=engine,
        roster=roster_of(record, built),
        groups=built.groups,
        start=start_of(spec, built),
        seed=spec.seed,
        evaluate_every=record.evaluate_every,
        keep=Keep(record.keep.every, record.keep.last),
        mark=spec.mark,
        sample=built.sample,
        pace=record.pace,
        crew=crew_of(record, built),
        ranks=ranks,
    )
    done = [int(path.name) for path in checkpoints.found(folder / CHECKPOINTS)]
    begun = max(done, default=0) if at is None else at
    label = f"{spec.method}, seed {spec.seed}"
    watch = [Progress(label, built.rounds, begun), *boards(folder / "tensorboard", begun)]
    watch = watch if ranks.leads else []
    try:
        state = execute(run, folder, watch, at)
    finally:
        engine.close()
    if not ranks.leads:
        return state
    params = built.stages[-1].method.calibrate(state.params, built.sample)
    write(served(spec, built, params, state.round), folder / "final")
    return state


def served(spec: Spec, built: Built, params: Params, rounds: int) -> Served:
    """Make the finished model of a run ready for use."""
    intake = intake_of(spec.record, built)
    note: dict[str, Any] = {"recipe": spec.recipe, "method": spec.method, "seed": spec.seed}
    target = spec.record.target or None
    note = {**note, "round": rounds, "target": target, "own": own(built)}
    return serve_method(built.stages[-1].method, params, intake, note)


def intake_of(record: Federation, built: Built) -> Intake:
    """Say what the final model takes, from the data as their owner has them."""
    plain = Intake(built.shape, built.scale, built.classes, built.columns)
    if built.inputs:
        return replace(plain, medium=Nodes(built.inputs, record.graph.project))
    if NETS[record.net.kind].tokens:
        return replace(plain, medium=Letters(built.shape[0], built.classes))
    return plain


def play_blocks(spec: Spec, built: Built, folder: Path, at: int | None) -> State:
    """Play one run in blocks; rank 0 alone looks on."""
    record, ranks = spec.record, ranks_of(spec.record)
    run = BlockRun(
        play=Partitioned(
            built.method, built.open, spec.seed, record.engine == "peers", built.per_round
        ),
        ranks=ranks,
        rounds=built.rounds,
        roster=roster_of(record, built),
        groups=built.groups,
        sample=built.sample,
        start=start_of(spec, built),
        evaluate_every=record.evaluate_every,
        keep=Keep(record.keep.every, record.keep.last),
        mark=spec.mark,
        about=about(served(spec, built, {}, built.rounds)),
    )
    label = f"{spec.method}, seed {spec.seed}"
    watch = [Progress(label, built.rounds, at or 0)] if ranks.leads else []
    return execute_blocks(run, folder, watch, at)


def own(built: Built) -> list[str]:
    """Name the parameters that stayed with the workers, and so are not in the final model."""
    solve = built.method.solve
    return list(solve.own) if isinstance(solve, LocalSGD) else []


def start_run(spec: Spec, built: Built, folder: Path) -> State:
    """Make a run's folder and play it."""
    if not ranks_of(spec.record).leads:
        return play_run(spec, built, folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {**spec.to_json(), "data": built.fingerprint}
    replace_file(folder / CONFIG, to_json(config))
    return play_run(spec, built, folder)


def fresh_folder(out: Path | None, name: str) -> Path:
    """Choose a folder that holds nothing yet.

    Raises:
        RunError: if the one that was asked for holds something.
    """
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(
                f"{out} already holds something; choose another --out, or go on with it: "
                f"moiety resume {out}"
            )
        return out
    number = 1
    while (folder := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def start_group(recipe: str, record: Federation, folder: Path) -> list[Path]:
    """Play a record: one run for each method and seed, in folders beside each other."""
    record = override(record, {"data": located(record.data)})
    names = [
        (method, record.seed + place) for place in range(record.seeds) for method in record.methods
    ]
    if len(names) == 1:
        spec, built = resolve(recipe, record, *names[0])
        start_run(spec, built, folder)
        return [folder]
    for method in record.methods:  # a choice that does not fit ends here
        build(record, method, record.seed)
    runs = [f"{method}-seed{seed}" for method, seed in names]
    group = {"version": VERSION, "recipe": recipe, "fields": to_plain(record), "runs": runs}
    if ranks_of(record).leads:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / GROUP, to_json(group))
    for (method, seed), name in zip(names, runs, strict=True):
        spec, built = resolve(recipe, record, method, seed)
        start_run(spec, built, folder / name)
    return [folder / name for name in runs]


def members(folder: Path) -> list[Path]:
    """List the runs of a folder: itself, or those of the group it is."""
    if (folder / GROUP).exists():
        return [folder / name for name in read_json(folder / GROUP)["runs"]]
    if not (folder / CONFIG).exists() and not (folder / LEDGER).exists():
        raise RunError(f"{folder} is no run: it has neither {CONFIG} nor {GROUP}")
    return [folder]


def read_spec(folder: Path) -> Spec:
    """Read what the run in a folder is."""
    return Spec.from_json(read_json(folder / CONFIG), folder / CONFIG)


def finished(folder: Path) -> bool:
    """Say whether a run is over."""
    if not (folder / LEDGER).exists() or not (folder / "final").is_dir():
        return False
    end = read(folder / LEDGER).end
    return end is not None and end.status == "finished"


def resume_run(folder: Path, at: int | None) -> State:
    """Go on with the run in a folder, bit for bit as if it had not stopped."""
    spec = read_spec(folder)
    ranks_of(spec.record)
    built = build(spec.record, spec.method, spec.seed)
    before = read_json(folder / CONFIG).get("data", built.fingerprint)
    if before != built.fingerprint:
        raise RunError(
            f"the data of {folder} ({spec.record.data}) are not those it began with; bring them "
            "back, or start a run anew"
        )
    return play_run(spec, built, folder, at)


def resume(folder: Path, at: int | None = None) -> list[Path]:
    """Go on with a run, or with every run of a group that is not over.

    Returns:
        The runs that were played.
    """
    played, ranks, runs = [], join(), members(folder)
    if not any((folder / name).exists() for name in (CONFIG, GROUP)):
        raise RunError(
            f"{folder} was made by moiety.train(); call that again with the same method, workers "
            "and folder, and it goes on"
        )
    if at is not None and len(runs) > 1:
        raise RunError(f"--at needs one run, but {folder} holds {len(runs)}; name one of them")
    over = ranks.share([finished(run) if at is None else False for run in runs])
    begun = ranks.share([(run / CONFIG).exists() for run in runs])
    for run, done, known in zip(runs, over, begun, strict=True):
        if done:
            continue
        if known:
            resume_run(run, at)
        else:
            begin_member(folder, run)
        played.append(run)
    return played


def begin_member(folder: Path, run: Path) -> None:
    """Start a run of a group that had not started when the group was stopped."""
    group = read_json(folder / GROUP)
    method, _, seed = run.name.rpartition("-seed")
    whole = Spec.from_json({**group, "method": method, "seed": int(seed)}, folder / GROUP)
    spec, built = resolve(group["recipe"], whole.record, method, int(seed))
    start_run(spec, built, run)
