"""What the owner of rows does alone: fit an expert, and its row of a gate. Nobody else is asked.

Letters: N rows, M public rows, D width of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from moiety.core.axes import Part
from moiety.core.errors import RunError, WorkerError
from moiety.core.protocols import Transform
from moiety.core.rows import Rows, TableRows, take_all_rows, transform_rows
from moiety.core.solver import Solve
from moiety.core.state import Job, Share
from moiety.core.streams import stream
from moiety.core.types import TARGET, Batch, Params
from moiety.data.dataset import Dataset
from moiety.engine.serial import Serial
from moiety.methods.task import LocalTraining
from moiety.models.base import FeatureModel
from moiety.models.gated import GatedExperts
from moiety.ops.ratio import fit_log_ratio
from moiety.recipes.source import fingerprint_data
from moiety.serve.cards import PUBLIC, Card, OwnedExpert, fingerprint_common
from moiety.serve.narrow import cut_narrow
from moiety.serve.predictions import order_targets
from moiety.serve.predictor import Predictor
from moiety.serve.trade import edit_mixture, find_cards, take_mixture
from moiety.solve.beside import ALL_FROZEN, FROZEN, LOG_GATE, BesideFrozen, GateAlone
from moiety.tasks.objectives import IMPORTANCE

UNREAD: Mapping[str, object] = {
    "prior": "none",
    "optimizer_state": "reset",
    "by_rows": False,
}
"""Of local training, what a single owner does not read."""


ALONE = LocalTraining(lr=0.02, epochs=10)
"""How an owner trains if nothing is said."""


@dataclass(frozen=True)
class AloneTraining:
    """How an owner fits an expert.

    Args:
        local: how it trains.
        seed: of the order of its rows.
        ridge: how much the slopes of its gate row are drawn to 0; read with public rows.
        fresh: the expert starts at values of its own instead of at the frozen model's.
        width: share of the units of every layer that the expert has, the first ones.
    """

    local: LocalTraining = ALONE
    seed: int = 0
    ridge: float = 1.0
    fresh: bool = False
    width: float = 1.0

    def check(self) -> None:
        """Refuse what a single owner cannot do.

        Raises:
            ValueError: naming it.
        """
        self.local.check()
        for name, plain in UNREAD.items():
            if getattr(self.local, name) != plain:
                raise ValueError(
                    f"local.{name}={getattr(self.local, name)!r} is for workers that train "
                    "together, and an owner trains alone; leave it out"
                )
        if not 0 < self.ridge < math.inf:
            raise ValueError(f"ridge={self.ridge}; choose a finite number above 0")
        if not 0 < self.width <= 1:
            raise ValueError(f"width={self.width}; choose a share above 0 and up to 1")


def read_owned_rows(served: Predictor, data: Dataset) -> TableRows:
    """Make rows with targets of a file, as the model reads them.

    Raises:
        RunError: for rows without targets, or with others than the model's.
    """
    if data.y is None:
        raise RunError(f"{data.name} has no labels, and training needs them; name the column "
                       "that holds them with --target")  # fmt: skip
    taken = take_all_rows(served.open(data.x))
    weights = {} if data.weights is None else {IMPORTANCE: data.weights}
    columns = {**taken, TARGET: match_targets(served, data), **weights}
    return TableRows(columns, torch.arange(len(data.y)))


def match_targets(served: Predictor, data: Dataset) -> Tensor:
    """Bring the targets of a file to those of the model: classes by their names."""
    objective = served.objective
    assert data.y is not None
    if not objective.categorical:
        return objective.check(order_targets(data, objective.names))
    place = {name: number for number, name in enumerate(objective.names)}
    unknown = sorted(set(data.classes) - set(place))
    if unknown:
        raise RunError(
            f"labels {unknown[:5]} of {data.name} are not among the model's classes "
            f"{objective.names}; name the right column with --target"
        )
    return torch.tensor([place[name] for name in data.classes])[data.y]


def train_owned_expert(
    served: Predictor,
    data: Dataset,
    card: Card,
    how: AloneTraining | None = None,
    public: Tensor | None = None,
) -> OwnedExpert:
    """Fit an expert alone beside the frozen model of a mixture, and its row of the gate.

    Args:
        served: the mixture: of ``open_mixture``, or of a run of ddome.
        data: the owner's rows, with targets.
        card: of which rows and fingerprints are filled in.
        how: it is done.
        public: public inputs [M, ...], against which the owner's are told; without them the row is
            the mean of the owner's embeddings, as if public ones were standard normal.

    Raises:
        RunError: for rows or a model that do not fit.
        ValueError: for a choice that is none.
    """
    how = AloneTraining() if how is None else how
    how.check()
    if card.owner == PUBLIC:
        raise RunError(f"owner={PUBLIC!r} is that of the frozen model; choose another name")
    model, objective = take_mixture(served), served.objective
    rows = read_owned_rows(served, data)
    seen = transform_rows(rows, model.common)
    own_ND = take_all_rows(seen)["embed"]
    slope_D, constant = fit_gate_row(served, own_ND, public, how.ridge)
    net = choose_network(model, how)
    column = score_beside(model, slope_D, constant)
    solve = how.local.make_solver(
        {"": BesideFrozen(net, objective)}, 1, model=net, frozen=net.buffers
    )
    params = run_alone(solve, net.params, transform_rows(seen, column), how.seed)
    told = replace(
        card,
        rows=rows.size,
        data=fingerprint_data(data),
        anchor=fingerprint_common(model.common),
    )
    return OwnedExpert(told, net.config(), params, slope_D, constant, own_ND.mean(0))


def choose_network(model: GatedExperts, how: AloneTraining) -> FeatureModel:
    """Choose an expert's network, and where it starts: as the frozen model, if of its shape."""
    common, rng = model.common, stream(how.seed, "expert")
    fresh = how.fresh or dict(model.expert.config()) != dict(common.model.config())
    net: Any = model.expert
    net = replace(net, params=net.redraw(rng) if fresh else common.params)
    if how.width == 1:
        return net
    narrow: Any = cut_narrow(net, net.params, how.width)
    return replace(narrow, params=narrow.redraw(rng)) if fresh else narrow


def fit_gate_row(
    served: Predictor, own_ND: Tensor, public: Tensor | None, ridge: float
) -> tuple[Tensor, Tensor]:
    """Fit how much likelier an embedding is the owner's than public: slope [D], constant []."""
    if public is None:
        mean_D = own_ND.mean(0)
        return mean_D, -0.5 * mean_D.square().sum()
    seen = served.see(served.open(public))
    slope_D, constant = fit_log_ratio(own_ND, take_all_rows(seen)["embed"], ridge=ridge)
    return slope_D.to(own_ND), constant.to(own_ND)


def score_beside(model: GatedExperts, slope_D: Tensor, constant: Tensor) -> Transform:
    """Say what a job reads of each row beside its inputs: see ``solve/beside.py``."""
    common = model.common

    def add_columns(batch: Batch) -> Batch:
        score_B = batch["embed"] @ slope_D + constant
        gate_B2 = torch.stack([F.logsigmoid(-score_B), F.logsigmoid(score_B)], -1)
        frozen = common.model.logits(common.params, batch, {}).float()
        return {**batch, FROZEN: frozen, LOG_GATE: gate_B2}

    return add_columns


def run_alone(solve: Solve, first: Params, rows: Rows, seed: int) -> Params:
    """Do one job on some rows; give what became of the parameters.

    Raises:
        RunError: for a loss, or parameters, that are not finite.
    """
    engine = Serial({0: rows}.__getitem__)
    job = Job(seed, 0, 0, Share(Part()), first)
    try:
        made = next(iter(engine.map(solve, [job]))).piece
    except WorkerError as error:
        raise RunError(f"training alone: {error.cause}") from error
    if not all(bool(tensor.isfinite().all()) for tensor in made.values()):
        raise RunError("training alone left numbers that are not finite; lower --local.lr")
    return made


def tune_gate(served: Predictor, data: Dataset, how: AloneTraining | None = None) -> Predictor:
    """Train the rows of a mixture's gate a little on public rows with targets; experts stay.

    Args:
        served: the mixture.
        data: public rows.
        how: it is done; ``ridge`` and ``fresh`` are not read.

    Raises:
        RunError: for rows that do not fit, and where the loss on them rises.
    """
    how = AloneTraining() if how is None else how
    how.check()
    model, objective = take_mixture(served), served.objective
    rows = transform_rows(read_owned_rows(served, data), ask_all_experts(served.params, model))
    moved = {name: t for name, t in served.params.items() if name.startswith("gate.layer2")}
    still = {name: t for name, t in served.params.items() if name.startswith("gate.layer1")}
    solve = how.local.make_solver(
        {"": GateAlone(model, objective)}, 1, model=model.expert, frozen=still
    )
    after = run_alone(solve, {**moved, **still}, rows, how.seed)
    seen, loss = take_all_rows(rows), GateAlone(model, objective)
    with torch.no_grad():
        before, now = (float(loss({**still, **one}, seen, {})[0].mean()) for one in (moved, after))
    if not now <= before:
        raise RunError(
            f"tuning raised the loss on these rows from {before:.4g} to {now:.4g}, so nothing is "
            "written; lower --local.lr, or leave the gate as it is"
        )
    params = {**served.params, **{name: after[name] for name in moved}}
    return edit_mixture(served, params, find_cards(served))


def ask_all_experts(params: Params, model: GatedExperts) -> Transform:
    """Say what a gate's training reads of each row: its embedding, and what all experts say."""

    def add_columns(batch: Batch) -> Batch:
        told_EB = model.expert_logits(params, batch).float()
        return {**model.common(batch), ALL_FROZEN: told_EB.transpose(0, 1)}

    return add_columns
