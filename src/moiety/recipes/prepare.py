"""What the methods of one seed share: scaled data, who holds what, the common expert."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field, replace
from math import nan

import torch
from torch import Tensor

from moiety.core.files import digest_bytes, digest_plain
from moiety.core.objective import Objective
from moiety.core.tensors import digest_tensors
from moiety.core.types import Params
from moiety.data.dataset import Dataset, FeatureScale
from moiety.models.base import FeatureModel, Teachable
from moiety.models.gated import Common
from moiety.recipes.ahead import list_placed, read_ahead
from moiety.recipes.common import (
    CommonRows,
    EpochWatcher,
    freeze_common,
    ignore_epoch,
    measure_metric,
    train_common,
)
from moiety.recipes.describe import describe_run_data
from moiety.recipes.kinds import DataKind, read_rows
from moiety.recipes.loaded import (
    check_common_rows,
    find_encoding,
    fit_like,
    name_model_file,
    open_common,
    take_common,
)
from moiety.recipes.options import get_options, keep_options, make_network
from moiety.recipes.population import Partition, resolve_population
from moiety.recipes.record import Federation, Population
from moiety.recipes.scaling import encode_rows, move_dataset, move_model
from moiety.recipes.source import fingerprint_data, list_folder, stamp_file
from moiety.serve.predictor import Predictor


@dataclass(frozen=True)
class SeedData:
    """Data, scaled and on their device, who holds what, and that in words.

    Args:
        kind: of the data.
        data: rows as they come to a finished model.
        opened: the same as they are opened in a run: ``moiety.recipes.ahead``.
        scale: of the rows.
        objective: what is learnt.
        places: who holds what.
        data_fingerprint: tells the data from others.
        about: in words.
        taken: the model that is to be the common expert, where one is not trained.
    """

    kind: DataKind
    data: Dataset
    opened: Dataset
    scale: FeatureScale
    objective: Objective
    places: Partition
    data_fingerprint: str
    about: tuple[str, ...] = ()
    taken: Predictor | None = None


@dataclass(frozen=True)
class SeedCommon:
    """The common expert: where training on the rows set apart ended.

    Args:
        params: there.
        frozen: the expert with these; None of a network of which a gate alone is taught, and of
            one that was loaded where no row is set apart.
        score: its first metric on validation rows; of a gate, the share of requests told right.
        seconds: that it took.
    """

    params: Params
    frozen: Common | None
    score: float
    seconds: float


@dataclass(frozen=True)
class CommonRun:
    """What decides what a common expert becomes; who looks on does not, and is never compared.

    Args:
        record: of fields that matter to data and common expert.
        seed: of the run.
        now: the data file as it is.
        watch: sees the epochs, where they are trained and not remembered.
    """

    record: Federation
    seed: int
    now: tuple[int, ...]
    watch: EpochWatcher = field(default=ignore_epoch, compare=False)


def prepare_seed_data(record: Federation, seed: int) -> SeedData:
    """Prepare the data of a seed; kept for the next method."""
    return build_seed_data(keep_data_fields(record), seed, stamp_files(record))


def prepare_seed_common(record: Federation, seed: int, watch: EpochWatcher) -> SeedCommon:
    """Train the common expert of a seed; kept for the next method."""
    now = stamp_files(record)
    return train_seed_common(CommonRun(keep_data_fields(record), seed, now, watch))


def stamp_files(record: Federation) -> tuple[int, ...]:
    """Tell the files that a seed's data and common expert are of from what they were before."""
    chosen = get_options(record.options, record.net)
    folder = list_folder(chosen.get("folder", ""))
    return stamp_file(record.data, record.test, name_model_file(record.common), *folder)


@functools.lru_cache(maxsize=2)
def build_seed_data(record: Federation, seed: int, now: tuple[int, ...]) -> SeedData:
    """Prepare: a pure function of a record, a seed and the data file as it is ``now``."""
    del now
    kind, read = read_rows(record)
    taken = open_common(record.common)
    population, places, data = place_rows(record, kind, read, seed, taken)
    data, scale = scale_rows(kind, data, places, taken)
    fingerprint = fingerprint_data(read)
    objective = fit_objective(data, find_known_rows(places))
    if taken is not None:
        read_as = digest_plain(taken.input_spec.config())
        fingerprint += digest_bytes((digest_tensors(taken.params) + read_as).encode())[:16]
        objective = fit_like(objective, taken)
    about = describe_run_data(data, places, population, record.population.unseen)
    data = move_dataset(data, record.device)
    opened = read_ahead(kind, data, list_placed(places))
    return SeedData(kind, data, opened, scale, objective, places, fingerprint, about, taken)


@functools.lru_cache(maxsize=2)
def train_seed_common(run: CommonRun) -> SeedCommon:
    """Train on the rows set apart: a pure function of what is compared, but for its seconds."""
    record, seed, begun = run.record, run.seed, time.perf_counter()
    base = build_seed_data(record, seed, run.now)
    net, (x, y) = make_seed_network(record, base, seed), (base.opened.x, base.opened.y)
    assert y is not None
    known, held = base.places.public, base.places.validation
    if isinstance(net, Teachable):
        if record.common.model:
            raise ValueError(f"common.model={record.common.model!r}, but the network {record.net} "
                             "has no common expert; leave it out")  # fmt: skip
        params, told = net.teach(x[known], y[known], seed)
        return SeedCommon(params, None, told, time.perf_counter() - begun)
    held = held if len(held) else known
    rows = CommonRows((x[known], y[known]), (x[held], y[held]))
    if base.taken is None:
        params, score = train_common(net, record.common, rows, seed, base.objective, run.watch)
    else:
        params = take_common(base.taken, record.common, net, base.objective)
        score = measure_metric(net, params, rows.validation, base.objective) if len(held) else nan
    frozen = freeze_common(net, params, x[known]) if len(known) else None
    return SeedCommon(params, frozen, score, time.perf_counter() - begun)


def fit_objective(data: Dataset, known: Tensor) -> Objective:
    """Fit the objective of some data on the targets of known rows."""
    assert data.y is not None  # whoever deals rows refuses data without targets
    return data.find_objective().fit(data.y[known])


def find_known_rows(places: Partition) -> Tensor:
    """Find the rows on which a scale may be fitted: those set apart, or all of training."""
    return places.public if len(places.public) else torch.cat(list(places.train.values()))


def place_rows(
    record: Federation, kind: DataKind, data: Dataset, seed: int, taken: Predictor | None
) -> tuple[Population, Partition, Dataset]:
    """Say who holds which rows, and encode them as those of training ask, or as a model reads."""
    owners = 0 if data.groups is None else len(data.groups.unique())
    population = resolve_population(record, data.size, owners)
    places = kind.split(data, population, seed)
    return population, places, encode_placed(record, data, places, taken)


def encode_placed(
    record: Federation, data: Dataset, places: Partition, taken: Predictor | None
) -> Dataset:
    """Encode rows as those of training ask, or as the model reads them that is common expert.

    Raises:
        ValueError: for rows that it does not read.
    """
    known = find_training_rows(places)
    if taken is None:
        return encode_rows(data, known)
    data = encode_rows(data, known, find_encoding(taken, record.common, data))
    check_common_rows(taken, record.common, data)
    return data


def scale_rows(
    kind: DataKind, data: Dataset, places: Partition, taken: Predictor | None
) -> tuple[Dataset, FeatureScale]:
    """Bring rows to one scale, fitted on known ones, or to the scale of the common expert."""
    if taken is None:
        return kind.scale(data, find_known_rows(places))
    scale = taken.input_spec.scale
    return replace(data, x=scale.apply(data.x)), scale


def find_training_rows(places: Partition) -> Tensor:
    """Find the rows on which an encoding is fitted: those set apart, and those of workers."""
    return torch.cat([places.public, *places.train.values()])


def make_seed_network(record: Federation, base: SeedData, seed: int) -> FeatureModel:
    """Make the network of a worker, on the device of the data."""
    shape, classes = base.kind.shape(base.data), base.objective.outputs
    return move_model(make_network(record.net, record.options, shape, classes, seed), record.device)


def keep_data_fields(record: Federation) -> Federation:
    """Leave out of a record what changes neither data nor common expert."""
    plain = Federation()
    return replace(
        plain,
        data=record.data,
        target=record.target,
        task=record.task,
        loss=record.loss,
        smoothing=record.smoothing,
        balance=record.balance,
        metrics=record.metrics,
        features=record.features,
        drop=record.drop,
        group=record.group,
        skill=record.skill,
        weight=record.weight,
        test=record.test,
        device=record.device,
        population=record.population,
        net=record.net,
        options=keep_options(record.options, [record.net]),
        graph=record.graph,
        common=record.common,
    )
