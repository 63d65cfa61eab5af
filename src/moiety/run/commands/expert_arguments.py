"""What can be said behind ``moiety expert COMMAND``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from moiety.methods.task import LocalTraining
from moiety.run.commands.words import POSITIONAL
from moiety.run.owner import ALONE


@dataclass(frozen=True)
class OpenArguments:
    """What can be said behind ``moiety expert open``.

    Args:
        run: folder of a finished run of a model that is used as it is: ``fedavg``, ``common``.
        public: rows that everyone may see; labels are not read.
        out: folder to write the mixture to.
        target: the column of labels, where it has another name than in training.
    """

    run: Path = field(metadata=POSITIONAL)
    public: Path
    out: Path
    target: str = ""


@dataclass(frozen=True)
class TrainArguments:
    """What can be said behind ``moiety expert train``.

    Args:
        model: folder of the mixture, or of a finished run of ddome.
        data: the owner's rows, with labels; all of the file.
        owner: a name.
        out: folder to write the expert to.
        public: rows that everyone may see, against which the owner's are told; without it the
            row of the gate is the mean of the owner's embeddings.
        date: of the rows, as 2026-11-30; for the card.
        licence: of the expert; for the card.
        target: the column of labels, where it has another name than in training.
        seed: of the order of rows.
        ridge: how much slopes of the row of the gate are drawn to 0; read with public rows.
        fresh: start at values of its own instead of at the public model's.
        width: share of the units of every layer that the expert has; 1 for the mixture's shape.
        local: how the expert is trained.
    """

    model: Path = field(metadata=POSITIONAL)
    data: Path
    owner: str
    out: Path
    public: Path | None = None
    date: str = ""
    licence: str = ""
    target: str = ""
    seed: int = 0
    ridge: float = 1.0
    fresh: bool = False
    width: float = 1.0
    local: LocalTraining = ALONE


@dataclass(frozen=True)
class AddArguments:
    """What can be said behind ``moiety expert add``.

    Args:
        model: folder of the mixture, or of a finished run of ddome.
        experts: folders of experts, in the order in which they are added.
        out: folder to write the new mixture to.
    """

    model: Path = field(metadata=POSITIONAL)
    experts: tuple[Path, ...]
    out: Path


@dataclass(frozen=True)
class DropArguments:
    """What can be said behind ``moiety expert drop``.

    Args:
        model: folder of the mixture, or of a finished run of ddome.
        owners: whose experts go, by the names that ``moiety expert list`` shows.
        out: folder to write the new mixture to.
    """

    model: Path = field(metadata=POSITIONAL)
    owners: tuple[str, ...]
    out: Path


@dataclass(frozen=True)
class ReplaceArguments:
    """What can be said behind ``moiety expert replace``.

    Args:
        model: folder of the mixture, or of a finished run of ddome.
        owner: whose expert goes.
        expert: folder of the one that comes in its place.
        out: folder to write the new mixture to.
    """

    model: Path = field(metadata=POSITIONAL)
    owner: str
    expert: Path
    out: Path


@dataclass(frozen=True)
class TuneArguments:
    """What can be said behind ``moiety expert tune``.

    Args:
        model: folder of the mixture, or of a finished run of ddome.
        public: rows that everyone may see, with labels.
        out: folder to write the new mixture to.
        target: the column of labels, where it has another name than in training.
        seed: of the order of rows.
        local: how the gate is trained.
    """

    model: Path = field(metadata=POSITIONAL)
    public: Path
    out: Path
    target: str = ""
    seed: int = 0
    local: LocalTraining = ALONE


@dataclass(frozen=True)
class CardArguments:
    """What can be said behind ``moiety expert list``.

    Args:
        model: folder of a mixture, of a finished run of ddome, or of one expert.
        json: print as JSON.
    """

    model: Path = field(metadata=POSITIONAL)
    json: bool = False
