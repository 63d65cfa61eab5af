"""What a method is given: the model to learn, how workers train, and who is who."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from moiety.core.errors import UnknownNameError
from moiety.core.objective import Objective
from moiety.core.protocols import Calibratable, Calibrate, Merge, skip_calibration
from moiety.core.typed import check_types
from moiety.core.types import Params
from moiety.merge.overlap import overlap, overlap_by_rows
from moiety.methods.calibration import Calibration, SumCalibration
from moiety.methods.unread import find_unread
from moiety.models.base import FeatureModel
from moiety.models.gated import Common
from moiety.ops.optim import SGD, Adam, Rule
from moiety.ops.torch_optim import MakeOptimizer, TorchRule, find_optimizer
from moiety.solve.lr_schedule import CosineRate, RateSchedule, SteppedRate, constant_rate
from moiety.solve.sgd import OPTIMIZER_STATES, LocalSGD
from moiety.tasks.augment import CroppedLosses, FlippedLosses, check_images
from moiety.tasks.classes import Classes
from moiety.tasks.objectives import AdjustedLosses, Arrange, Losses, RowLosses

LOCAL_PRIORS = ("none", "adjust")
"""What a worker's loss may know of its label shares."""


@dataclass(frozen=True)
class LocalTraining:
    """How workers train.

    Args:
        optimizer: ``sgd``, ``adam`` or ``adamw``; or any class of ``torch.optim`` by its name
            (``RMSprop``), in Python also itself or a partial of it. Such a class steps one worker
            at a time, and its memory is not sent.
        lr: learning rate.
        momentum: of SGD.
        nesterov: whether SGD looks ahead.
        weight_decay: decay of weights.
        batch: rows in a step.
        epochs: passes over a worker's rows in a round; 0 for as many as ``steps`` need.
        steps: a cap on the steps of a round; 0 for none.
        window: neighbouring rows that are shuffled together, for rows read from disk; 0 for all.
        clip: the largest norm of a gradient; 0 for none.
        accumulate: pieces that a batch is computed in.
        lr_schedule: ``constant``, ``cosine`` over all rounds, or ``steps`` (a tenth of the rate
            from each of ``drops`` on).
        drops: shares of all rounds.
        warmup: rounds of linear warm-up of the cosine schedule.
        floor: share of the learning rate that the cosine schedule ends at.
        betas: of Adam and AdamW.
        bfloat16: compute losses in bfloat16.
        by_rows: weigh replies by the number of rows.
        optimizer_state: what becomes of the optimiser's memory between rounds: ``reset``, ``keep``
            (at the worker, for whole models) or ``send`` (it travels with the piece, cut and merged
            like it).
        flips: mirror images of a batch left to right by chance.
        crops: move images by chance: pad them by so many zeros on each side, and cut the old size
            anywhere; 0 for none.
        prior: ``adjust`` adds the log of a worker's own label shares to the outputs in its loss
            (logit adjustment), so that it learns what tells classes apart and not how often they
            come to it; ``none`` adds nothing. Classes only.
    """

    optimizer: str | MakeOptimizer = field(default="sgd", metadata={"said_as": str})
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    batch: int = 32
    epochs: int = 1
    steps: int = 0
    window: int = 0
    clip: float = 0.0
    accumulate: int = 1
    lr_schedule: str = "constant"
    warmup: float = 0.0
    floor: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    bfloat16: bool = False
    by_rows: bool = False
    optimizer_state: str = "reset"
    drops: tuple[float, ...] = (0.5, 0.75)
    flips: bool = False
    crops: int = 0
    prior: str = "none"

    def check(self) -> None:
        """Refuse numbers with which nothing can be trained, also those that a method leaves unread.

        Raises:
            ValueError: with the value and the remedy.
        """
        check_types(self, "local")
        free = {
            "lr": self.lr, "weight_decay": self.weight_decay, "clip": self.clip,
            "warmup": self.warmup, "window": self.window, "epochs": self.epochs,
            "steps": self.steps, "crops": self.crops,
        }  # fmt: skip
        for name, value in free.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"local.{name}={value}; choose a finite number of at least 0")
        if not all(0 <= one < 1 for one in (self.momentum, *self.betas)):
            raise ValueError(
                f"local.momentum={self.momentum}, local.betas={self.betas}; choose numbers of at "
                "least 0 and below 1"
            )
        if not all(0 <= share <= 1 for share in (self.floor, *self.drops)):
            raise ValueError(
                f"local.floor={self.floor}, local.drops={self.drops}; choose shares from 0 to 1"
            )
        if self.optimizer_state not in OPTIMIZER_STATES:
            raise UnknownNameError(
                f"local.optimizer_state={self.optimizer_state!r}; choose one of {OPTIMIZER_STATES}"
            )
        if self.prior not in LOCAL_PRIORS:
            raise UnknownNameError(f"local.prior={self.prior!r}; choose one of {LOCAL_PRIORS}")
        self.make_rule().start(torch.zeros(2, 2))  # every rule moves a matrix
        self.make_lr_schedule(1)
        self.refuse_unread()

    def refuse_unread(self) -> None:
        """Refuse what was said and nothing reads; a momentum of 0 is none.

        Raises:
            ValueError: with the field, and what does not read it.
        """
        for name, why in find_unread(self.optimizer, self.lr_schedule).items():
            value, default = getattr(self, name), getattr(LocalTraining, name)
            if value != default and (name, value) != ("momentum", 0.0):
                raise ValueError(f"local.{name}={value} is not read by {why}; leave it {default}")

    def choose(self, **changes: Any) -> LocalTraining:
        """Change fields; those that are not read any more go back to their defaults."""
        made = replace(self, **changes)
        unread = find_unread(made.optimizer, made.lr_schedule).keys() - changes.keys()
        return replace(made, **{name: getattr(LocalTraining, name) for name in unread})

    @property
    def adjusts(self) -> bool:
        """Whether losses read a worker's own label shares."""
        return self.prior == "adjust"

    @property
    def augments(self) -> bool:
        """Whether images are changed by chance."""
        return self.flips or self.crops > 0

    def make_rule(self) -> Rule:
        """Build the optimiser."""
        if self.optimizer == "sgd":
            return SGD(self.lr, self.momentum, self.nesterov, self.weight_decay)
        if self.optimizer in ("adam", "adamw"):
            decoupled = self.optimizer == "adamw"
            return Adam(self.lr, self.betas, weight_decay=self.weight_decay, decoupled=decoupled)
        return self.make_torch_rule()

    def make_torch_rule(self) -> TorchRule:
        """Build the rule of a class of torch.

        Raises:
            UnknownNameError: for what is none.
        """
        said = self.optimizer
        make = find_optimizer(said) if isinstance(said, str) else said
        if make is None or not callable(make):
            raise UnknownNameError(
                f"local.optimizer={said!r}; choose 'sgd', 'adam' or 'adamw', or a class of "
                "torch.optim ('RMSprop')"
            )
        options = {"weight_decay": self.weight_decay} if self.weight_decay else {}
        return TorchRule(make, self.lr, options)

    def make_lr_schedule(self, rounds: int) -> RateSchedule:
        """Build the schedule."""
        if self.lr_schedule == "constant":
            return constant_rate
        if self.lr_schedule == "cosine":
            return CosineRate(rounds, self.warmup, self.floor)
        if self.lr_schedule == "steps":
            return SteppedRate(tuple(rounds * share for share in self.drops))
        raise UnknownNameError(
            f"local.lr_schedule={self.lr_schedule!r}; choose 'constant', 'cosine' or 'steps'"
        )

    def make_solver(
        self,
        losses: Mapping[str, Losses],
        rounds: int,
        *,
        model: FeatureModel,
        rules: tuple[tuple[str, Rule], ...] = (),
        frozen: Iterable[str] = (),
    ) -> LocalSGD:
        """Build the solver; ``rules`` come before the optimiser of all other parameters."""
        if self.adjusts:
            losses = {role: AdjustedLosses(one) for role, one in losses.items()}
        if self.flips:
            losses = {role: FlippedLosses(one) for role, one in losses.items()}
        if self.crops:
            losses = {role: CroppedLosses(one, self.crops) for role, one in losses.items()}
        return LocalSGD(
            losses=losses,
            rules=(*rules, ("*", self.make_rule())),
            batch=self.batch,
            epochs=self.epochs,
            steps=self.steps or None,
            window=self.window,
            lr_schedule=self.make_lr_schedule(rounds),
            clip=self.clip or None,
            accumulate=self.accumulate,
            frozen=frozenset(frozen),
            optimizer_state=self.optimizer_state,
            bfloat16=self.bfloat16,
            draws_noise=model.draws_noise or self.augments,
            uses_batch_statistics=model.uses_batch_statistics,
        )


@dataclass(frozen=True)
class Task:
    """What is to be learnt.

    Args:
        model: the network of a worker: FedAvg's model, DDOME's expert.
        local: how workers train.
        rounds: of the whole run, for schedules.
        workers: in a round, for methods that assign its units; 0 if not known.
        seed: of the run; it addresses first values.
        common: the frozen common expert, for methods with a gate.
        start: where methods with one model start; by default ``model.params``.
        anchors: worker -> its expert, for methods that have anchors.
        shape: of a row, for methods that bring a model of their own.
        classes: how many there are, likewise.
        objective: what is learnt: the loss of a row, what answers are, how they are scored.
        losses: how rows lie in outputs; makes losses of the objective and ``model.forward``.
        population: how many workers may take part, for methods that keep a mean over all of them; 0
            if not known.
    """

    model: FeatureModel
    local: LocalTraining = field(default_factory=LocalTraining)
    rounds: int = 100
    workers: int = 0
    seed: int = 0
    common: Common | None = None
    start: Params | None = None
    anchors: Mapping[int, int] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    classes: int = 0
    objective: Objective = field(default_factory=Classes)
    losses: Arrange = RowLosses
    population: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.model, nn.Module):
            raise TypeError(
                f"the model is a {type(self.model).__name__}; wrap it: from_module(module)"
            )
        if isinstance(self.objective, type) or callable(self.objective):
            raise TypeError(
                f"the objective is {self.objective!r}; give a value of moiety.tasks, such as "
                'Numbers(("price",)), or OwnLoss(loss, names)'
            )
        if not isinstance(self.local, LocalTraining):
            raise TypeError(f"local={self.local!r}; give moiety.LocalTraining(lr=...)")
        self.local.check()
        if self.local.augments and self.shape:
            check_images("local.flips" if self.local.flips else "local.crops", self.shape)
        if self.local.adjusts and not self.objective.categorical:
            raise ValueError(
                "local.prior='adjust' adds log shares of classes to outputs, but the task is "
                f"{self.objective.name}; say none"
            )

    def make_solver(self) -> LocalSGD:
        """Build the plain solver: the objective on the model."""
        losses = {"": self.losses(self.objective, self.model.forward)}
        return self.local.make_solver(
            losses, self.rounds, model=self.model, frozen=self.model.buffers
        )

    def make_calibration(self, held: Mapping[str, float] | None = None) -> Calibrate:
        """Choose how the whole is made good for use: as the model says, if it says anything."""
        if isinstance(self.model, Calibratable):
            return Calibration(self.model, {} if held is None else held)
        if held is not None and not self.objective.categorical:
            return SumCalibration(self.model, self.objective, held)
        return skip_calibration

    def choose_merge(self) -> Merge:
        """Choose how replies are weighed."""
        return overlap_by_rows if self.local.by_rows else overlap
