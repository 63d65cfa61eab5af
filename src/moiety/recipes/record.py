"""The record of a federated run: typed, frozen, complete; the command line overrides its fields."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from moiety.core.checkpoints import CheckpointPolicy
from moiety.core.keep import Keep
from moiety.merge.rules import Merging
from moiety.methods.task import LocalTraining
from moiety.privacy.config import PrivacyConfig
from moiety.recipes.fields import to_plain
from moiety.recipes.options import RECORDS, Options
from moiety.rounds.judging import Judging
from moiety.rounds.schedule import Schedule
from moiety.secure.config import SecureConfig
from moiety.serve.prior import Serving
from moiety.wire.config import WireConfig

SCHEMES = ("labels", "classes", "dirichlet", "iid", "shards", "contiguous", "natural", "all")


@dataclass(frozen=True)
class CommonExpert:
    """How the common expert is trained, on rows set apart that no worker holds.

    Args:
        model: folder of a finished run, or of its model, that is the common expert as it is; rows
            are scaled as it reads them, and nothing else here is read. Empty trains one.
        target_accuracy: training stops at the first epoch whose first metric (of classes the
            accuracy) is this or better on the validation rows.
        epochs: and after this many at the latest.
        patience: and after this many epochs without a better one; the best counts.
        lr: learning rate of SGD with momentum 0.9.
        batch: rows in a step.
    """

    model: str = ""
    target_accuracy: float = 0.6
    epochs: int = 200
    patience: int = 20
    lr: float = 0.02
    batch: int = 32


@dataclass(frozen=True)
class Population:
    """Who holds which rows.

    Args:
        scheme: ``labels`` (anchors, see below, with blocks of labels, others with label sets of
            their own, or shared ones where there are fewer sets than workers,
            unseen workers with sets that nobody trains on), ``classes``, ``dirichlet``, ``iid``,
            ``shards``, ``contiguous`` (stretches of rows in their order), ``natural`` (a worker
            for each id that comes with the data) or ``all`` (every worker holds all rows).
        workers: workers that train, anchors among them; ``natural`` may find more. 0 chooses by
            the rows: one for ten rows, at most ten, and fewer unseen ones where rows are few.
        unseen: workers that training never sees.
        classes: labels of a worker (``labels``, ``classes``).
        anchors: workers that are anchors: each always holds an expert of its own (there is one for
            each), and teaches the gate which rows are its expert's; 0 for none. Of schemes other
            than ``labels`` they are the workers nearest to the centres of k-means over mean
            embeddings.
        rows: rows of a worker, drawn with replacement from those of its labels (``labels``); 0
            assigns every row once.
        alpha: concentration of the Dirichlet distribution.
        shards: shards of a worker.
        public: share of the rows set apart for the common expert.
        validation: share of the rows for choosing among runs and checkpoints.
        test: share of the rows for testing. An official test part is used by ``labels`` and by
            ``shared_test``; other schemes give out all rows and test a worker on some of its own.
        shared_test: test on one set of rows for all, the official test part where there is one.
        first_rows: train on the first rows only, this many; 0 for all.
    """

    scheme: str = "labels"
    workers: int = 24
    unseen: int = 6
    classes: int = 2
    anchors: int = 5
    rows: int = 0
    alpha: float = 0.1
    shards: int = 2
    public: float = 0.15
    validation: float = 0.05
    test: float = 0.25
    shared_test: bool = False
    first_rows: int = 0


@dataclass(frozen=True)
class Subgraphs:
    """How a graph becomes rows; nothing for other data.

    Args:
        clusters: a row is one of so many clusters of nodes, a step the subgraph of
            ``local.batch`` of them; 1 steps on the whole graph.
        project: width to which a fixed Gaussian matrix brings the features; 0 leaves them.
    """

    clusters: int = 1
    project: int = 0


@dataclass(frozen=True)
class Participation:
    """Who takes part in a round.

    Args:
        size: workers a round; workers at a time where the schedule is not ``sync``.
        anchors: of these, how many are anchors (where there are some); -1 draws blindly.
        chance: chance that a worker is available in a round; below 1, fewer may take part.
        fixed: the same workers in every round: the first ``size``.
    """

    size: int = 12
    anchors: int = -1
    chance: float = 1.0
    fixed: bool = False


@dataclass(frozen=True)
class Federation:
    """A federated run, or several beside each other: one for each method and seed.

    Args:
        methods: names of methods (see ``moiety list``); ``common`` is the common expert alone.
        data: the name of a data set (see ``moiety list``), a CSV, Parquet, npz or text file
            or an image folder of your own, or hf:NAME of Hugging Face.
        target: the column of the target in a file of your own, or several, ``a b`` or ``a,b``;
            found by its name if empty.
        task: ``classes``, ``numbers``, ``labels`` or ``tokens``; found from the data if empty.
        loss: of numbers: ``squared``, ``absolute``, ``huber`` or ``poisson`` (counts).
        smoothing: of classes, the share of a target that is spread over all of them.
        balance: weigh classes so that all of them count alike in training.
        metrics: by name, the first decides; those of the task if empty (``accuracy``, ``loss``,
            ``balanced_accuracy``, ``calibration_error``; ``rmse``, ``mae``, ``r2``; ``micro_f1``,
            ``exact``, ``label_accuracy``; ``perplexity``).
        features: the columns that are features; empty for all that have no other role.
        drop: columns that are not read.
        group: the column of who holds a row: its values are the workers, whatever
            population.scheme. Found by the name ``worker`` if empty, and used by scheme
            ``natural``.
        skill: of instruction records, the column of what kind a request is; found by its name if
            empty. Such records (``net="lm"``) have their request in ``features`` and their answer
            in ``target``.
        weight: the column of how much a row counts in training; rows count alike if empty.
        test: a file of rows to test on, of the same columns as ``data``; nobody trains on them.
        net: the network of a worker: FedAvg's model, DDOME's expert (see ``moiety list``); its
            options stand under its name (``mlp.hidden``).
        rounds: rounds of training; a round of ``data_parallel`` is one step.
        evaluate_every: rounds between evaluations; 0 for as many as give ten evaluations or more.
            One comes before the first round besides.
        seed: the first seed.
        seeds: number of seeds; the report shows the spread.
        engine: ``auto``, ``serial``, ``vectorized`` or ``pool``; under torchrun ``collective``,
            ``partitioned`` or ``peers`` (see ``moiety list``).
        device: ``cpu`` or ``cuda``.
        log: trackers that are told the numbers too: ``mlflow``, ``wandb`` (extras of these names);
            TensorBoard's events are written wherever tensorboardX is installed.
        note: said in the report.
    """

    methods: tuple[str, ...] = ("ddome", "fedavg", "fedprox", "common")
    data: str = "digits"
    target: str = field(default="", metadata={"joined": ","})
    task: str = ""
    loss: str = "squared"
    smoothing: float = 0.0
    balance: bool = False
    metrics: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    group: str = ""
    skill: str = ""
    weight: str = ""
    test: str = ""
    net: str = "mlp"
    rounds: int = 100
    evaluate_every: int = 0
    seed: int = 0
    seeds: int = 1
    engine: str = "auto"
    device: str = "cpu"
    log: tuple[str, ...] = ()
    note: str = ""
    population: Population = field(default_factory=Population)
    participation: Participation = field(default_factory=Participation)
    graph: Subgraphs = field(default_factory=Subgraphs)
    common: CommonExpert = field(default_factory=CommonExpert)
    local: LocalTraining = field(default_factory=LocalTraining)
    checkpoint: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    keep: Keep = field(default_factory=Keep)
    schedule: Schedule = field(default_factory=Schedule)
    serve: Serving = field(default_factory=Serving)
    judging: Judging = field(default_factory=Judging)
    merge: Merging = field(default_factory=Merging)
    wire: WireConfig = field(default_factory=WireConfig)
    secure: SecureConfig = field(default_factory=SecureConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    options: Options = field(default_factory=Options)


def list_read(record: Federation) -> Collection[str]:
    """Name the methods and the network whose options a run reads."""
    return (*record.methods, record.net)


def write_read_fields(record: Federation) -> dict[str, Any]:
    """Write a record as plain data, without the options that nothing in its run reads."""
    unread = set(RECORDS) - {*list_read(record)}
    return {name: value for name, value in to_plain(record).items() if name not in unread}
