"""Runs on disk: one folder each, several beside each other in a group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from moiety.core.checkpoints import find_checkpoint, list_checkpoints
from moiety.core.errors import RunError
from moiety.core.files import add_digest, json_to_bytes, replace_file
from moiety.core.ledger import read_ledger
from moiety.engine.agreement import flatten_fields
from moiety.engine.ranks import Ranks
from moiety.recipes.build import RunInputs, build_run
from moiety.recipes.common import EpochWatcher, ignore_epoch
from moiety.recipes.fields import override_fields
from moiety.recipes.options import get_options
from moiety.recipes.prepare import prepare_seed_data
from moiety.recipes.record import Federation, write_read_fields
from moiety.recipes.source import resolve_files, resolve_options
from moiety.run.display import PLAIN, Display
from moiety.run.folders import hold_folder, hold_folders, hold_for_all
from moiety.run.loop import CHECKPOINTS, LEDGER
from moiety.run.play import play_run
from moiety.run.same_ranks import check_rank_engine, join_recorded_ranks
from moiety.run.spec import RunSpec, read_settings, resolve_run
from moiety.run.together import compare_ranks

CONFIG, GROUP, VERSION = "config.json", "group.json", 2


def start_run(
    spec: RunSpec,
    built: RunInputs,
    folder: Path,
    ranks: Ranks | None = None,
    display: Display = PLAIN,
) -> None:
    """Hold a run's folder, and play the run in it."""
    ranks = ranks or join_recorded_ranks(spec.record)
    with hold_for_all(ranks, hold_folder(folder)):
        begin_run(spec, built, folder, ranks, display)


def begin_run(
    spec: RunSpec, built: RunInputs, folder: Path, ranks: Ranks, display: Display
) -> None:
    """Write down what a run is and play it, in a folder that is held; all ranks play the same."""
    config = {**spec.to_json(), "data": built.data_fingerprint}
    compare_runs(ranks, spec, built)
    if ranks.leads:
        replace_file(folder / CONFIG, json_to_bytes(add_digest(config)))
    play_run(spec, built, folder, ranks=ranks, display=display)


def compare_runs(ranks: Ranks, spec: RunSpec, built: RunInputs) -> None:
    """Refuse at all ranks together where they are to play other runs, or on other data."""
    about = {**spec.to_json(), "fingerprint of the data": built.data_fingerprint}
    compare_ranks(ranks, flatten_fields(about))


def watch_common(display: Display, ranks: Ranks) -> EpochWatcher:
    """Make one who looks on while a common expert is trained, at the rank that leads."""
    return display.watch_common() if ranks.leads else ignore_epoch


def say_lines(lines: Sequence[str], display: Display, ranks: Ranks) -> None:
    """Say lines, at the rank that leads."""
    for line in lines if ranks.leads else ():
        display.say(line)


def start_group(
    recipe: str,
    record: Federation,
    folder: Path,
    ranks: Ranks | None = None,
    display: Display = PLAIN,
) -> list[Path]:
    """Play a record in a folder that is held: a run for each method and seed, side by side."""
    ranks = ranks or join_recorded_ranks(record)
    record = override_fields(record, {**resolve_files(record), **resolve_options(record)})
    names = [
        (method, record.seed + place) for place in range(record.seeds) for method in record.methods
    ]
    about = prepare_seed_data(record, record.seed).about  # said before a common expert is trained
    say_lines(about, display, ranks)
    # A choice that does not fit, or other data at a rank, ends here, before the first run.
    build = partial(resolve_run, watch=watch_common(display, ranks))
    first = {method: build(recipe, record, method, record.seed) for method in record.methods}
    say_lines(next(iter(first.values()))[1].about[len(about) :], display, ranks)
    if len(names) == 1:
        begin_run(*first[record.methods[0]], folder, ranks, display)
        return [folder]
    data = {method: built.data_fingerprint for method, (_, built) in first.items()}
    compare_ranks(
        ranks, {f"fingerprint of the data of {method}": found for method, found in data.items()}
    )
    runs = [f"{method}-seed{seed}" for method, seed in names]
    group = {
        "version": VERSION,
        "recipe": recipe,
        "fields": write_read_fields(record),
        "runs": runs,
    }
    if ranks.leads:
        replace_file(folder / GROUP, json_to_bytes(add_digest(group)))
    for (method, seed), name in zip(names, runs, strict=True):
        known = seed == record.seed
        spec, built = first.pop(method) if known else build(recipe, record, method, seed)
        start_run(spec, built, folder / name, ranks, display)
    return [folder / name for name in runs]


def list_members(folder: Path) -> list[Path]:
    """List the runs of a folder: itself, or those of the group it is.

    Raises:
        RunError: if it is neither, or names a run that does not lie in it.
    """
    if (folder / GROUP).exists():
        names = read_settings(folder / GROUP).get("runs")
        if not isinstance(names, list) or not all(is_own_name(folder, name) for name in names):
            raise RunError(
                f"{folder / GROUP} lists {names!r} as runs; each must be one in its own folder"
            )
        return [folder / name for name in names]
    if not (folder / CONFIG).exists() and not (folder / LEDGER).exists():
        raise RunError(f"{folder} is no run: it has neither {CONFIG} nor {GROUP}")
    return [folder]


def is_own_name(folder: Path, name: object) -> bool:
    """Say whether a name is that of a folder in a folder, and leads nowhere else."""
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
        return False
    return (folder / name).resolve() == folder.resolve() / name


def read_spec(folder: Path) -> RunSpec:
    """Read what the run in a folder is."""
    return RunSpec.from_json(read_settings(folder / CONFIG), folder / CONFIG)


def is_finished(folder: Path) -> bool:
    """Say whether a run is over."""
    if not (folder / LEDGER).exists() or not (folder / "final").is_dir():
        return False
    end = read_ledger(folder / LEDGER).end
    return end is not None and end.status == "finished"


def resume_run(folder: Path, at: int | None = None, ranks: Ranks | None = None) -> None:
    """Hold a run's folder, and go on with the run."""
    ranks = ranks or join_recorded_ranks(read_spec(folder).record)
    with hold_for_all(ranks, hold_folder(folder)):
        continue_run(folder, at, ranks, PLAIN)


def continue_run(folder: Path, at: int | None, ranks: Ranks, display: Display) -> None:
    """Go on with the run in a folder that is held, bit for bit as if it had not stopped."""
    spec, kept = read_spec(folder), folder / CHECKPOINTS
    check_rank_engine(spec.record, ranks)
    find_checkpoint(kept, ranks.broadcast(list_checkpoints(kept)), at)  # before all that is slow
    built = build_run(spec.record, spec.method, spec.seed, watch_common(display, ranks))
    compare_runs(ranks, spec, built)
    before = read_settings(folder / CONFIG).get("data", built.data_fingerprint)
    if before != built.data_fingerprint:
        raise RunError(
            f"the data of {folder} ({spec.record.data}{name_models(spec.record)}) are not those it "
            "began with; bring them back, or start a run anew"
        )
    play_run(spec, built, folder, at, ranks, display)


def name_models(record: Federation) -> str:
    """Name the models that a run takes from elsewhere, where there are some."""
    folder = get_options(record.options, record.net).get("folder")
    named = {"common.model": record.common.model, f"{record.net}.folder": folder}
    return "".join(f", or {field} {where}" for field, where in named.items() if where)


def resume_runs(
    folder: Path, ranks: Ranks, at: int | None = None, display: Display = PLAIN
) -> list[Path]:
    """Go on with a run, or with every run of a group that is not over.

    Args:
        folder: of the run or of the group.
        ranks: who plays.
        at: resume from the checkpoint of this round instead of the newest.
        display: what is told of them.

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
        over = ranks.broadcast([is_finished(run) if at is None else False for run in runs])
        begun = ranks.broadcast([run in known for run in runs])
        for run, done, resumed in zip(runs, over, begun, strict=True):
            if done:
                continue
            if resumed:
                continue_run(run, at, ranks, display)
            else:
                begin_member(folder, run, ranks, display)
            played.append(run)
    return played


def begin_member(folder: Path, run: Path, ranks: Ranks, display: Display) -> None:
    """Start a run of a group that had not started when the group was stopped."""
    group = read_settings(folder / GROUP)
    method, _, seed = run.name.rpartition("-seed")
    whole = RunSpec.from_json({**group, "method": method, "seed": int(seed)}, folder / GROUP)
    watch = watch_common(display, ranks)
    spec, built = resolve_run(group["recipe"], whole.record, method, int(seed), watch)
    start_run(spec, built, run, ranks, display)
