"""What a run is, resolved: enough to build it again anywhere, and to say the command that does."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moiety.core.errors import RunError
from moiety.core.files import is_intact, read_json
from moiety.core.ledger import Start
from moiety.core.objective import list_metrics
from moiety.engine.choose import choose_engine
from moiety.privacy.crowd import Crowd, resolve_privacy
from moiety.privacy.rows import count_epochs
from moiety.recipes import RECIPES
from moiety.recipes.build import RunInputs, build_run
from moiety.recipes.common import EpochWatcher, ignore_epoch
from moiety.recipes.fields import override_fields, to_plain
from moiety.recipes.record import Federation, write_read_fields
from moiety.rounds.cohort import CohortRule
from moiety.run.cohort import choose_cohort_rule
from moiety.run.environment import describe_environment

VERSION = 2


@dataclass(frozen=True)
class RunSpec:
    """What a run is, resolved: enough to build it again anywhere."""

    recipe: str
    record: Federation
    method: str
    seed: int

    def to_json(self) -> Mapping[str, Any]:
        """Write as plain data."""
        fields = write_read_fields(self.played)
        return {
            "version": VERSION,
            "recipe": self.recipe,
            "method": self.method,
            "seed": self.seed,
            "fields": fields,
        }

    @staticmethod
    def from_json(raw: Mapping[str, Any], where: object) -> RunSpec:
        """Read what ``to_json`` wrote.

        Raises:
            RunError: if it is of another version, or has fields this version does not know.
        """
        check_version(raw, where)
        try:
            record = override_fields(Federation(), raw["fields"])
            return RunSpec(raw["recipe"], record, raw["method"], raw["seed"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{where} is not the configuration of a run ({error}); start the run anew"
            ) from error

    @property
    def played(self) -> Federation:
        """The record of this run alone."""
        return replace(self.record, methods=(self.method,))

    @property
    def fingerprint(self) -> str:
        """Tell this run from others by its fields."""
        text = json.dumps(self.to_json(), sort_keys=True).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    @property
    def command(self) -> str:
        """Say what repeats this run."""
        base = to_plain(RECIPES[self.recipe].record) if self.recipe in RECIPES else {}
        mine = write_read_fields(self.played)
        words = ["moiety", "run", self.recipe, "--methods", self.method, "--seed", str(self.seed)]
        for path, value in list_differences(base, mine):
            if path not in ("methods", "seed", "seeds", "note", "engine"):
                words += write_flag(path, value)
        return shlex.join([*words, "--engine", self.record.engine])


def check_version(raw: Any, where: object) -> None:
    """Refuse what a run or a group was started with, if another version wrote it."""
    found = raw.get("version") if isinstance(raw, Mapping) else None
    if found != VERSION:
        raise RunError(
            f"{where} has format {found!r}, this version of moiety reads "
            f"{VERSION}; use the version that wrote it"
        )


def read_settings(path: Path) -> dict[str, Any]:
    """Read what a run or a group was started with.

    Raises:
        RunError: if it is of another version, or was changed since.
    """
    raw = read_json(path)
    check_version(raw, path)
    if not is_intact(raw):
        raise RunError(
            f"{path} was changed after the run began; bring it back from a copy, or start anew"
        )
    return raw


def list_differences(
    base: Mapping[str, Any], mine: Mapping[str, Any], where: str = ""
) -> list[Any]:
    """List the fields in which plain records differ, by dotted path."""
    found: list[Any] = []
    for name, value in mine.items():
        path = f"{where}{name}"
        if isinstance(value, Mapping):
            found += list_differences(base.get(name, {}), value, f"{path}.")
        elif base.get(name) != value:
            found.append((path, value))
    return found


def write_flag(path: str, value: Any) -> list[str]:
    """Write a field as words of a command line."""
    name = "--" + path.replace("_", "-")
    if isinstance(value, bool):
        head, dot, tail = path.rpartition(".")
        off = f"--{head}{dot}no-{tail}".replace("_", "-")
        return [name if value else off]
    values = value if isinstance(value, list) else [value]
    return [name, *map(str, values)]


def describe_crowd(built: RunInputs, cohort: CohortRule, seed: int) -> Crowd:
    """Say who may take part in a run, for its accountant."""
    epochs = max(count_epochs(stage.method) for stage in built.stages)
    return Crowd(built.num_seen, built.cohort_size, cohort, seed, built.rounds, epochs)


def resolve_run(
    recipe: str, record: Federation, method: str, seed: int, watch: EpochWatcher = ignore_epoch
) -> tuple[RunSpec, RunInputs]:
    """Build a run, and write the engine's choice into its record."""
    built = build_run(record, method, seed, watch)
    engine = record.engine
    if engine == "auto":
        together = record.schedule.size if record.schedule.kind == "buffered" else built.cohort_size
        engine = choose_engine(built.method, record.device, together)
    cohort = choose_cohort_rule(record.participation, built.num_seen, built.anchors)
    privacy = resolve_privacy(record.privacy, describe_crowd(built, cohort, seed))
    record = replace(record, privacy=privacy)
    chosen = override_fields(
        record, {"engine": engine, "methods": [method], "seed": seed, "seeds": 1}
    )
    return RunSpec(recipe, chosen, method, seed), built


def make_recipe_start(spec: RunSpec, built: RunInputs) -> Start:
    """Write the first line of a ledger."""
    return Start(
        recipe=spec.recipe,
        method=built.method.name,
        seed=spec.seed,
        engine=spec.record.engine,
        device=spec.record.device,
        rounds=built.rounds,
        command=spec.command,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        config=write_read_fields(spec.played),
        environment=describe_environment(),
        classes=list(built.objective.strata),
        num_seen=built.num_seen,
        num_unseen=built.num_unseen,
        seen=built.seen_counts,
        unseen=built.unseen_counts,
        num_parameters=sum(t.numel() for t in built.method.model.params.values()),
        constant_bytes=sum(t.numel() * t.element_size() for t in built.method.constants.values()),
        note=spec.record.note,
        objective=built.objective.name,
        metrics=list_metrics(built.objective),
        worker_names=list(built.worker_names),
        common_s=built.common_s,
        common_score=built.common_score,
    )
