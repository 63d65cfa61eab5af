"""The server's app of Flower: a run whose workers are nodes, with ledger and checkpoints."""

from __future__ import annotations

import json
import tomllib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moiety.core.errors import RunError
from moiety.core.extras import import_extra
from moiety.core.files import add_digest, json_to_bytes, replace_file
from moiety.core.protocols import Method
from moiety.engine.drawer import Drawer
from moiety.engine.patience import Waiting
from moiety.engine.post import Post
from moiety.engine.ranks import Ranks
from moiety.engine.remote import Remote
from moiety.engine.summed import SummedRemote
from moiety.federation.desk import name_solves
from moiety.federation.node import check_name
from moiety.federation.packing import PURPOSE
from moiety.federation.post import FlowerPost
from moiety.recipes import RECIPES
from moiety.recipes.build import RunInputs
from moiety.recipes.fields import override_fields
from moiety.recipes.loaded import check_common_read
from moiety.recipes.own_rows import check_sample
from moiety.recipes.record import write_read_fields
from moiety.rounds.schedule import Speeds
from moiety.run.commands.common import check_record
from moiety.run.echo import echo_warning
from moiety.run.folders import hold_folder
from moiety.run.group import CONFIG, is_finished
from moiety.run.loop import CHECKPOINTS, execute_run
from moiety.run.play import list_own_parameters, make_whole_run
from moiety.run.spec import RunSpec, resolve_run
from moiety.run.watch import Progress
from moiety.secure.ends import find_sum_rule
from moiety.serve.adapt import dismiss_judges

ENGINE, RUN_ID, WORKERS, ARRIVED = "flower", "run_id", "workers.json", "arrived"
UNREAD = {"engine", "log"}
KEYS = ("recipe", "workers", "folder", "rows", "fields", "waiting")
ROWS = ("shared", "own")
"""What a plan may say, and on which rows nodes train: the recipe's, or their own alone."""


@dataclass(frozen=True)
class FederationPlan:
    """What the server's app plays.

    Args:
        folder: of the run; a server that is started again goes on from what is in it.
        recipe: its name.
        fields: of its record, as in a TOML file of ``moiety run --config``.
        workers: names of the nodes, by the numbers of the workers.
        waiting: how long for whom.
        own: whether nodes train on rows that they alone have, beside a public sample that is the
            data of the recipe.
    """

    folder: Path
    recipe: str
    fields: Mapping[str, Any]
    workers: Sequence[str]
    waiting: Waiting
    own: bool = False


def read_plan(config: Mapping[str, Any]) -> FederationPlan:
    """Read the plan that an app's run configuration names.

    Raises:
        RunError: for what is missing, with the remedy.
    """
    path = Path(str(config.get("plan") or ""))
    if not path.is_absolute() or not path.is_file():
        raise RunError(
            f"the run configuration has plan={str(path)!r}, but it must be the absolute path of "
            "the plan.toml that moiety flower new wrote"
        )
    raw = tomllib.loads(path.read_text(encoding="utf8"))
    lacks = [key for key in ("recipe", "workers") if not raw.get(key)]
    if lacks or raw.get("recipe") not in RECIPES:
        raise RunError(
            f"{path} lacks {' and '.join(lacks)}" if lacks else
            f"{path} names the recipe {raw['recipe']!r}; choose one of {sorted(RECIPES)}"
        )  # fmt: skip
    check_plan(path, raw)
    waiting = override_fields(Waiting(), raw.get("waiting", {}))
    folder, own = Path(raw.get("folder") or path.parent / "run"), raw.get("rows") == ROWS[1]
    fields = raw.get("fields", {})
    return FederationPlan(folder, raw["recipe"], fields, raw["workers"], waiting, own)


def check_plan(path: Path, raw: Mapping[str, Any]) -> None:
    """Refuse what a plan says and nothing reads.

    Raises:
        RunError: with what it may say.
    """
    strange = sorted(raw.keys() - set(KEYS))
    if strange:
        raise RunError(f"{path} says {strange}, which nothing reads; it may say {', '.join(KEYS)}")
    if raw.get("rows", ROWS[0]) not in ROWS:
        raise RunError(f"{path} says rows = {raw['rows']!r}; choose one of {', '.join(ROWS)}")


def check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse fields of a record that a federation does not read.

    Raises:
        RunError: with their names.
    """
    strange = sorted(fields.keys() & UNREAD)
    if "every" in fields.get("checkpoint", {}):
        strange.append("checkpoint.every")
    if strange:
        raise RunError(
            f"the plan's fields say {strange}, which a federation does not read: its engine are "
            "nodes, each round has a checkpoint, and no tracker is told; leave them out"
        )


def resolve_plan(plan: FederationPlan) -> tuple[RunSpec, RunInputs]:
    """Build the run of a plan, and refuse what nodes cannot play.

    Raises:
        RunError: with the value and the remedy.
    """
    base = override_fields(RECIPES[plan.recipe].record, dict(plan.fields))
    check_fields(plan.fields)
    check_record(base)
    record = override_fields(base, {"engine": ENGINE, "checkpoint": {"every": 1}})
    if len(record.methods) != 1 or record.seeds != 1:
        raise RunError(
            f"a federation plays one method and one seed, but the plan has methods="
            f"{list(record.methods)}, seeds={record.seeds}; name one in [fields]"
        )
    if record.schedule.speeds != Speeds():
        raise RunError(
            f"schedule.speeds={record.schedule.speeds} are of a virtual clock, but nodes take the "
            "time that they take; leave them out"
        )
    check_common_read(record)
    if plan.own:
        check_sample(record)
    spec, built = resolve_run(plan.recipe, record, record.methods[0], record.seed)
    if plan.own:  # the sample's rows are nobody's, and judge nothing
        first, *later = (
            replace(stage, method=dismiss_judges(stage.method)) for stage in built.stages
        )
        built = replace(
            built,
            method=first.method,
            later_stages=tuple(later),
            seen_counts=(),
            worker_names=tuple(plan.workers),
        )
    if len(plan.workers) != built.num_seen or len(set(plan.workers)) != built.num_seen:
        raise RunError(
            f"the plan names {len(set(plan.workers))} workers, but the recipe has "
            f"{built.num_seen} that train (population.workers); give each its own name"
        )
    for name in plan.workers:
        check_name(name)
    refuse_own_parameters(spec.method, built.method)
    return spec, built


def refuse_own_parameters(name: str, method: Method) -> None:
    """Refuse a method with parameters that stay where they are trained.

    Raises:
        RunError: with the reason.
    """
    if list_own_parameters(method):
        raise RunError(
            f"{name} has parameters that never leave a node, so the server could not say "
            "how good the model is; choose another method"
        )


def name_run(plan: FederationPlan) -> str:
    """Give the run's number, by which nodes know what they keep for it; new in a new folder.

    Raises:
        RunError: where the folder is that of other workers, or its number is lost.
    """
    number, names = plan.folder / RUN_ID, plan.folder / WORKERS
    begun = (plan.folder / CHECKPOINTS).exists()
    said = json.dumps(list(plan.workers)).encode()
    if names.is_file() and names.read_bytes() != said:
        raise RunError(
            f"the plan names the workers {list(plan.workers)}, but the run in {plan.folder} was "
            f"begun with {names.read_text(encoding='utf8')}; go on with those, in this order, or "
            "choose another folder"
        )
    told = number.read_text(encoding="utf8") if number.is_file() else ""
    if begun and not told:
        raise RunError(
            f"{number} is lost, by which nodes know what they keep for the run; put it back, or "
            "choose another folder"
        )
    told = told or uuid.uuid4().hex
    replace_file(number, told.encode())
    replace_file(names, said)
    return told


def make_remote(
    plan: FederationPlan, spec: RunSpec, built: RunInputs, post: Post
) -> Remote | SummedRemote:
    """Make the engine of a run."""
    note = {
        "run": name_run(plan),
        "method": spec.method,
        "seed": spec.seed,
        "fields": write_read_fields(spec.played),
        "data": built.data_fingerprint,
        "own": plan.own,
    }
    drawer = Drawer(plan.folder / ARRIVED)
    remote = Remote(post, name_solves(built), plan.workers, note, plan.waiting, drawer)
    found = [(one.method.solve, find_sum_rule(one.method.wire)) for one in built.stages]
    rules = [(solve, rule) for solve, rule in found if rule is not None]
    return SummedRemote(remote, rules) if rules else remote


def play_federation(plan: FederationPlan, post: Post) -> Path:
    """Play a run whose workers are nodes, from where it stands in its folder.

    Returns:
        Where its final model is.

    Raises:
        RunError: for what a user can mend.
    """
    spec, built = resolve_plan(plan)
    with hold_folder(plan.folder):
        config = {**spec.to_json(), "data": built.data_fingerprint}
        replace_file(plan.folder / CONFIG, json_to_bytes(add_digest(config)))
        engine = make_remote(plan, spec, built, post)
        if is_finished(plan.folder):
            echo_warning(f"{plan.folder} is over; for a new run name a new folder in the plan")
        run = make_whole_run(spec, built, plan.folder, engine, Ranks())
        execute_run(run, plan.folder, [Progress(f"{spec.method}, seed {spec.seed}", built.rounds)])
    return plan.folder / "final"


def make_server_app() -> Any:
    """Make the app that a SuperLink runs."""
    app = import_extra("flwr.serverapp", PURPOSE, "flower").ServerApp()

    @app.main()
    def main(grid: Any, context: Any) -> None:
        play_federation(read_plan(context.run_config), FlowerPost(grid))

    del main
    return app
