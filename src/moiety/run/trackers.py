"""Trackers of other makers, MLflow and Weights & Biases: a run is one run there, also resumed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from moiety.core.errors import RunError, UnknownNameError
from moiety.core.extras import import_extra
from moiety.core.files import json_to_bytes, read_json, replace_file
from moiety.core.ledger import End, Evaluation, LedgerEntry, Round, Start
from moiety.engine.agreement import flatten_fields
from moiety.run.watch import list_values

NOTES = "trackers.json"
"""Tracker -> the name of our run there, and how far it was told."""

AT_ONCE = 100
"""Parameters that MLflow takes at once."""

PROJECT = "moiety"


class Tracker(Protocol):
    """A run of a tracker, open."""

    def log(self, values: Mapping[str, float], number: int, /) -> None:
        """Tell the numbers of a round."""
        ...

    def close(self, status: str, /) -> None:
        """Say how the run ended."""
        ...


@dataclass(frozen=True)
class RunAbout:
    """What a tracker is told of a run.

    Args:
        label: its name.
        folder: of the run.
        config: its settings, nested at will.
    """

    label: str
    folder: Path
    config: Mapping[str, Any]


OpenTracker = Callable[[RunAbout, str], tuple[Tracker, str]]
"""Opens a tracker's run of a name, or a new one where the name is empty; gives its name too."""


@dataclass(frozen=True)
class MlflowRun:
    """A run of MLflow: wherever its own settings (``MLFLOW_TRACKING_URI``) say.

    Args:
        client: of the library.
        key: the run's id.
    """

    client: Any
    key: str

    def log(self, values: Mapping[str, float], number: int, /) -> None:
        for name, value in values.items():
            self.client.log_metric(self.key, name, value, step=number)

    def close(self, status: str, /) -> None:
        known = {"finished": "FINISHED", "failed": "FAILED"}
        self.client.set_terminated(self.key, known.get(status, "KILLED"))


def open_mlflow(about: RunAbout, key: str) -> tuple[Tracker, str]:
    """Open a run of MLflow, in the experiment of ``MLFLOW_EXPERIMENT_NAME`` or ``moiety``."""
    client = import_extra("mlflow", "--log mlflow", "mlflow").MlflowClient()
    if key:
        client.update_run(key, status="RUNNING")
        return MlflowRun(client, key), key
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
    found = client.get_experiment_by_name(name)
    where = client.create_experiment(name) if found is None else found.experiment_id
    key = client.create_run(where, run_name=about.label).info.run_id
    make = import_extra("mlflow.entities", "--log mlflow", "mlflow").Param
    told = [make(path, str(value)) for path, value in flatten_fields(about.config).items()]
    for first in range(0, len(told), AT_ONCE):
        client.log_batch(key, params=told[first : first + AT_ONCE])
    return MlflowRun(client, key), key


@dataclass(frozen=True)
class WandbRun:
    """A run of Weights & Biases: on line or not, as ``WANDB_MODE`` and its settings say.

    Args:
        run: of the library.
    """

    run: Any

    def log(self, values: Mapping[str, float], number: int, /) -> None:
        self.run.log(dict(values), step=number)

    def close(self, status: str, /) -> None:
        self.run.finish(exit_code=0 if status == "finished" else 1)


def open_wandb(about: RunAbout, key: str) -> tuple[Tracker, str]:
    """Open a run of Weights & Biases, in the project of ``WANDB_PROJECT`` or ``moiety``."""
    wandb = import_extra("wandb", "--log wandb", "wandb")
    key = key or uuid.uuid4().hex[:12]
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or PROJECT,
        id=key,
        name=about.label,
        config=flatten_fields(about.config),
        dir=str(about.folder),
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(silent=True),
    )
    return WandbRun(run), key


TRACKERS: Mapping[str, tuple[str, OpenTracker]] = {
    "mlflow": ("mlflow", open_mlflow),
    "wandb": ("wandb", open_wandb),
}
"""Name of a tracker -> the library that it needs, and what opens a run of it."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse names of no tracker, and those whose library is missing.

    Raises:
        UnknownNameError: for a name that is none.
        ImportError: for a library, with what installs it.
    """
    for name in names:
        if name not in TRACKERS:
            raise UnknownNameError(
                f"log={name!r}; choose among {tuple(TRACKERS)} (events for TensorBoard are written "
                "wherever tensorboardX is installed)"
            )
        import_extra(TRACKERS[name][0], f"--log {name}", name)


@dataclass
class TrackedRun:
    """Tells a tracker the numbers of a run, each once, however often the run stops and goes on.

    Args:
        name: of the tracker.
        about: the run.
        tracker: open, from the first number on.
        notes: our run there, and the last place of the ledger that it was told.
    """

    name: str
    about: RunAbout
    tracker: Tracker | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __call__(self, entry: LedgerEntry, /) -> None:
        try:
            self.tell(entry)
        except (RunError, ImportError):
            raise
        except Exception as error:  # of many types: each library has its own
            raise RunError(f"log={self.name!r}: {type(error).__name__}: {error}") from error

    def tell(self, entry: LedgerEntry) -> None:
        """Tell an entry, unless it was told before."""
        if isinstance(entry, Start):
            self.keep(key="", told=-1)  # a run that is begun anew is another run
        tracker = self.tracker or self.open()
        if isinstance(entry, Round | Evaluation):
            place = 2 * entry.round + isinstance(entry, Evaluation)
            if place > self.notes["told"]:
                tracker.log(dict(list_values(entry)), entry.round)
                self.keep(told=place)
        elif isinstance(entry, End):
            tracker.close(entry.status)
            self.tracker = None

    def open(self) -> Tracker:
        """Open our run there, that of before where there is one."""
        known = self.read().get(self.name, {"key": "", "told": -1})
        self.tracker, key = TRACKERS[self.name][1](self.about, known["key"])
        self.keep(**{**known, "key": key})
        return self.tracker

    def keep(self, **notes: Any) -> None:
        """Write down what is to be known when the run goes on."""
        self.notes = {**self.notes, **notes}
        everything = {**self.read(), self.name: self.notes}
        replace_file(self.about.folder / NOTES, json_to_bytes(everything))

    def read(self) -> dict[str, Any]:
        """Read the notes of all trackers."""
        path = self.about.folder / NOTES
        return read_json(path) if path.exists() else {}


def make_trackers(names: Sequence[str], about: RunAbout) -> list[TrackedRun]:
    """Make those who tell trackers of a run."""
    check_trackers(names)
    return [TrackedRun(name, about) for name in names]
