"""From a record to everything a run needs: data split, common expert trained, method made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from moiety.blocks.partitioned import check_partitioned
from moiety.core.objective import Objective
from moiety.core.protocols import Method
from moiety.core.rows import CALIBRATION_ROWS, OpenRows, Rows, TransformedRows, sample_rows
from moiety.core.stage import Stage
from moiety.data.dataset import FeatureScale
from moiety.data.label_shares import LabelShares
from moiety.engine.choose import BLOCK_ENGINES
from moiety.merge.robust import choose_merge
from moiety.methods.task import Task
from moiety.privacy.rows import apply_row_privacy
from moiety.recipes.blocks import check_blocks
from moiety.recipes.common import EpochWatcher, find_anchors, ignore_epoch, require_common
from moiety.recipes.lay_out import lay_out_task, outline_network, rehearse
from moiety.recipes.options import find_method, make_stages
from moiety.recipes.passage import apply_passage
from moiety.recipes.population import TRAIN, Partition, add_anchors, name_workers
from moiety.recipes.prepare import (
    SeedCommon,
    SeedData,
    make_seed_network,
    prepare_seed_common,
    prepare_seed_data,
)
from moiety.recipes.private import check_private
from moiety.recipes.record import Federation
from moiety.recipes.schedule import check_late_replies, check_schedule
from moiety.recipes.secure import check_secure
from moiety.serve.adapt import appoint_judges
from moiety.serve.adapters import Adapter

LISTED = 1000
"""Populations up to this size have their rows per class written in the ledger."""


@dataclass(frozen=True)
class RunInputs:
    """A run, ready but for its engine and folder."""

    method: Method
    rounds: int
    open: OpenRows
    groups: Mapping[str, Mapping[int, Rows]]
    anchors: Mapping[int, int]
    num_seen: int
    num_unseen: int
    cohort_size: int
    seen_counts: Sequence[Sequence[int]]
    unseen_counts: Sequence[Sequence[int]]
    objective: Objective
    shape: tuple[int, ...]
    scale: FeatureScale
    common_score: float | None
    common_s: float
    columns: tuple[str, ...]
    data_fingerprint: str
    sample: Rows
    adapter: Adapter
    later_stages: tuple[Stage, ...] = ()
    about: tuple[str, ...] = ()
    worker_names: tuple[str, ...] = ()

    @property
    def stages(self) -> list[Stage]:
        """List the stages; ``rounds`` are those of all of them."""
        first = self.rounds - sum(stage.rounds for stage in self.later_stages)
        return [Stage(self.method, first), *self.later_stages]


def build_run(
    record: Federation, method: str, seed: int, watch: EpochWatcher = ignore_epoch
) -> RunInputs:
    """Build the run of one method and seed.

    Args:
        record: of the run.
        method: its name.
        seed: of all draws.
        watch: sees the epochs of the common expert, where one is trained.

    Raises:
        ValueError: for a choice that does not fit, with the value and the remedy.
    """
    find_method(method)
    record.local.check()  # before a common expert is trained for nothing
    in_blocks = record.engine in BLOCK_ENGINES
    if in_blocks:
        check_blocks(record)
    base = prepare_seed_data(record, seed)
    check_choices(record, base)
    make = outline_network if in_blocks else make_seed_network
    task = lay_out_task(record, base, make(record, base, seed), seed)
    places, common = prepare_common(record, base, method, task, watch)
    task = replace(task, anchors=places.anchors)
    if common is not None:
        task = replace(task, common=common.frozen, start=common.params)
    stages = [
        pass_replies(stage, record, task.workers, seed)
        for stage in make_stages(method, task, record.options)
    ]
    check_late_replies(record, stages[0].method)
    if in_blocks:
        check_partitioned(stages[0].method)
    else:
        stages = [place_stage(stages[0], record.device), *stages[1:]]
    stages = [serve_stage(record, stage, places) for stage in stages]
    about = (*base.about, *describe_gate(common, len(places.public)))
    return assemble_inputs(record, replace(base, places=places, about=about), stages, common, seed)


def pass_replies(stage: Stage, record: Federation, workers: int, seed: int) -> Stage:
    """Choose how replies pass to the server and are merged, or summed unseen."""
    if not stage.rounds:
        return stage
    method = choose_merge(stage.method, record.merge)
    method = apply_passage(method, record, workers, seed)
    return replace(stage, method=apply_row_privacy(method, record.privacy))


def describe_gate(common: SeedCommon | None, rows: int) -> tuple[str, ...]:
    """Say how well a gate was taught before the first round, where one was."""
    if common is None or common.frozen is not None or not rows:
        return ()
    told = f"gate: taught on {rows} rows; of some it had not seen, {common.score:.0%} right"
    scores = [t for name, t in common.params.items() if name.startswith("gate.layer2.")]
    if not any(bool(t.any()) for t in scores):
        told += ", no more than by chance: it starts as one that was never taught"
    return (told,)


def check_choices(record: Federation, base: SeedData) -> None:
    """Refuse what does not fit the data, before a common expert is trained on them."""
    groups = base.places.groups
    record.local.check()
    record.checkpoint.check()
    record.wire.check()
    check_secure(record)
    check_private(record)
    record.keep.check(groups, "set population.validation above 0")
    record.serve.check(base.objective, validation=bool(groups.get("validation")))


def serve_stage(record: Federation, stage: Stage, places: Partition) -> Stage:
    """Serve the method of a stage as the record says."""
    if record.serve.prior != "none" and record.engine in BLOCK_ENGINES:
        raise ValueError(
            f"serve.prior={record.serve.prior!r} looks at a model that a rank has whole, but the "
            f"engine is {record.engine}; say none"
        )
    method = record.serve.apply(
        stage.method,
        validation=bool(places.groups.get("validation")),
        uniform=record.local.adjusts,
    )
    return replace(stage, method=method)


def prepare_common(
    record: Federation, base: SeedData, method: str, task: Task, watch: EpochWatcher
) -> tuple[Partition, SeedCommon | None]:
    """Train the common expert where the method or the choice of anchors reads it.

    The method is made before, for its options to be refused before anything is trained.

    Returns:
        Who holds what, with anchors found where they are read, and the common expert, if any.

    Raises:
        ValueError: where it is read and no row is set apart to train it, and for any choice that
            does not fit the data.
    """
    entry, places, drawn = find_method(method), base.places, record.participation
    count, public = record.population.anchors, len(base.places.public)
    search = bool(count) and not places.anchors and (entry.needs_common or drawn.anchors >= 0)
    if entry.needs_common:
        require_common(method, public)
    if search:
        require_common(f"population.anchors={count} of scheme {record.population.scheme!r}", public)
    check_schedule(record, task.workers, anchors=search or bool(places.anchors))
    reads = entry.needs_common or entry.starts_common or search
    if not reads or not (public or record.common.model):
        return places, None
    some = {place: place for place in range(count)} if search else places.anchors
    if public:
        make_stages(method, rehearse(task, base, some), record.options)
    common = prepare_seed_common(record, task.seed, watch)
    if search:
        if common.frozen is None:
            raise ValueError(
                f"population.anchors={count}, but net {record.net!r} has no common expert to find "
                "anchors with; set population.anchors 0"
            )
        found = find_anchors(common.frozen, base.opened.x, places.train, count, task.seed)
        places = add_anchors(places, found)
    return places, common


def place_stage(stage: Stage, device: str) -> Stage:
    """Bring the first values of a stage to a device."""
    first = stage.method.first or stage.method.model.params
    first = {name: t.to(device) for name, t in first.items()}
    return replace(stage, method=replace(stage.method, first=first))


def assemble_inputs(
    record: Federation,
    base: SeedData,
    stages: Sequence[Stage],
    common: SeedCommon | None,
    seed: int,
) -> RunInputs:
    """Put together what a run needs of its data and stages."""
    train = base.places.train
    open_rows, groups = open_all_rows(base, stages[0].method, adjusts=record.local.adjusts)
    if not record.privacy.is_on:  # what judges say has no noise, and shows in the final model
        known, workers = groups.get("validation", {}), sorted(train)
        judged = [appoint_judges(stage.method, known, open_rows, workers) for stage in stages]
        stages = [replace(s, method=m) for s, m in zip(stages, judged, strict=True)]
    return RunInputs(
        method=stages[0].method,
        rounds=sum(stage.rounds for stage in stages),
        open=open_rows,
        groups=groups,
        anchors=base.places.anchors,
        num_seen=len(train),
        num_unseen=len(groups.get("unseen", {})),
        cohort_size=min(record.participation.size, len(train)),
        seen_counts=count_worker_classes(base, base.places.train),
        unseen_counts=count_worker_classes(base, base.places.groups.get("unseen", {})),
        objective=base.objective,
        shape=tuple(base.data.x.shape[1:]),
        scale=base.scale,
        common_score=None if common is None or common.frozen is None else common.score,
        common_s=0.0 if common is None else common.seconds,
        columns=base.data.columns,
        data_fingerprint=base.data_fingerprint,
        sample=sample_rows(open_rows, sorted(train), CALIBRATION_ROWS, seed),
        adapter=base.kind.adapt(base.data, record.graph),
        later_stages=tuple(stages[1:]),
        about=base.about,
        worker_names=name_workers(base.data, base.places),
    )


def open_all_rows(
    base: SeedData, method: Method, *, adjusts: bool = False
) -> tuple[OpenRows, Mapping[str, Mapping[int, Rows]]]:
    """Open the rows of every worker and group, through the method's transform.

    Training rows know their worker's label shares where its loss is adjusted by them.
    """
    rows_of = base.kind.open(base.opened)
    train = {w: rows_of(TRAIN, rows) for w, rows in base.places.train.items()}
    if adjusts:
        shares = LabelShares(train.__getitem__, base.objective.outputs)
        train = {worker: shares(worker) for worker in train}
    groups = {
        name: {w: rows_of(name, rows) for w, rows in group.items()}
        for name, group in base.places.groups.items()
    }
    if method.transform is None:
        return train.__getitem__, groups
    seen = {
        name: TransformedRows(group.__getitem__, method.transform) for name, group in groups.items()
    }
    groups = {name: {w: seen[name](w) for w in group} for name, group in groups.items()}
    return TransformedRows(train.__getitem__, method.transform), groups


def count_worker_classes(base: SeedData, held: Mapping[int, Tensor]) -> list[list[int]]:
    """Count rows per class and worker, for populations small enough to list."""
    return base.kind.count(base.data, held) if 0 < len(held) <= LISTED else []
