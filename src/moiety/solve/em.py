"""Fit a mixture of experts to a worker's rows by EM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from moiety.core.fold import Precision
from moiety.core.state import Job, Plan, Record, Update, require_rows
from moiety.core.streams import hash_address
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.mixtures.arrays import EXPERTS, GATE
from moiety.mixtures.fit import RowArrays
from moiety.mixtures.logit import Array, pack_symmetric
from moiety.mixtures.model import add_constant, log_density
from moiety.mixtures.worker import FitTask, WorkerFit, WorkerRows, fit_worker
from moiety.models.mixture import WHOLE, MixtureForm
from moiety.tasks.objectives import weigh_rows

DrawRng = Callable[[Job], np.random.Generator]
FIT = "fit"  # the section of what a worker remembers of its fit


def open_address(job: Job) -> np.random.Generator:
    """Open the stream of a job."""
    return np.random.default_rng(hash_address(job.seed, job.round, job.worker, "em"))


@dataclass(frozen=True)
class LocalEM:
    """Fit all rows from several starts, or go on from the mixture received if it is not blank.

    Step by step a job has two steps over all rows. The first fits; the second has the rate 0 and
    only looks. A step's loss is that before it, as everywhere, so the ledger shows the mean
    negative log-likelihood of the mixture received and of the one sent back.

    Args:
        task: what is fitted, and how many rows are sent along for the comparison of experts.
        form: how mixtures lie in tensors.
        draw: opens the stream of a job.
        weighed: rows have weights, so that their number, their sum and the log-likelihood go along.
        labelled: support rows keep their labels.
        shift: taken off responses before they are divided by ``scale``: the units of the mixture.
        scale: see ``shift``.
    """

    task: FitTask
    form: MixtureForm = WHOLE
    draw: DrawRng = open_address
    weighed: bool = False
    labelled: bool = False
    shift: float = 0.0
    scale: float = 1.0
    stackable: bool = False
    needs_statistics: bool = False
    keeps_memory: bool = False

    def first_optimizer_state(self, params: Params, /) -> Memory:
        return {}

    def plan(self, size: int, job: Job, /) -> Plan:
        require_rows(size)
        rows = torch.arange(size).repeat(2, 1)
        seed = hash_address(job.seed, job.round, job.worker, "em")
        return Plan(
            rows,
            torch.full((2, size), 1 / size),
            torch.tensor([1.0, 0.0]),
            torch.tensor([seed] * 2),
        )

    def start(self, job: Job, memory: Memory, /) -> Carry:
        del memory
        return {"params": dict(job.piece), "job": job}

    def step(
        self, carry: Carry, batch: Batch, lr: Tensor | float, role: str, /
    ) -> tuple[Carry, Tensor]:
        del role
        x, y, weights = read_batch(batch)
        rows = x, (y - self.shift) / self.scale, weights
        values = log_density(self.form.read(carry["params"]), add_constant(rows[0]), rows[1])
        loss = -torch.tensor(rows[2] @ values / rows[2].sum())
        if not float(lr):
            return carry, loss
        update = self.fit(carry["job"], WorkerRows(lambda: [rows]))[1]
        return {**carry, "params": update.piece, "update": update}, loss

    def statistics(self, carry: Carry, batch: Batch, role: str, /) -> Params:
        return {}

    def finish(self, job: Job, plan: Plan, carry: Carry, statistics: Params, /) -> Update:
        del job, plan, statistics
        return carry["update"]

    def read_through(self, job: Job, rows: WorkerRows, /) -> tuple[Update, Record]:
        """Do a job on rows that are read as often as need be; its losses are those of EM.

        The worker remembers whether EM converged, which columns were constant, which experts rest
        on the least variance or on fewer rows than they have parameters, and how many of how many
        rows share a response.
        """
        fit, update = self.fit(job, rows)
        losses = [-value / fit.learned.rows for value in fit.learned.trace]
        mean = sum(losses) / len(losses)
        ends = losses[0], losses[-1]
        record = Record(fit.learned.fit.steps, int(fit.count), *ends, mean, job.round)
        known = {
            "converged": torch.tensor(fit.learned.fit.converged),
            "constant": torch.from_numpy(~fit.learned.scale.kept),
            "floored": torch.from_numpy(fit.learned.floored),
            "starved": torch.from_numpy(fit.starved),
            "tied": torch.tensor([max((tie.rows for tie in fit.ties), default=0), fit.count]),
        }
        return replace(update, memory={FIT: known}), record

    def fit(self, job: Job, rows: WorkerRows) -> tuple[WorkerFit, Update]:
        """Fit, and lay out what is sent."""
        blank = not any(job.piece[name].any() for name in (GATE, EXPERTS) if name in job.piece)
        task = self.task if blank else replace(self.task, start=self.form.read(job.piece))
        fit = fit_worker(rows, task, self.draw(job))
        like = next(iter(job.piece.values()), torch.zeros((), dtype=torch.double))
        answer = {
            name: make_tensor_like(value, like) for name, value in self.answer(fit).items()
            if value.size
        }  # fmt: skip
        piece = self.form.write(fit.learned.mixture, job.piece)
        return fit, Update(piece, precision=Precision(fit.learned.rows), answer=answer)

    def answer(self, fit: WorkerFit) -> dict[str, Array]:
        """Give what goes along with the mixture."""
        x, y, weights = fit.support
        found = {"support": x, "information": pack_symmetric(fit.learned.information)}
        if self.labelled:
            found["labels"] = y
        if self.weighed:
            told = {"count": fit.count, "weight": fit.weight, "loglik": fit.learned.trace[-1]}
            found |= {name: np.array(value) for name, value in told.items()}
            if (weights != 1).any():
                found["weights"] = weights
        return found

    def predict_update(self, size: int, job: Job, /) -> Update:
        columns, experts = job.piece[GATE].shape
        free = columns * (experts - 1)
        sizes = {
            "support": (min(self.task.share_support(columns), size), columns - 1),
            "information": (free * (free + 1) // 2,),
        }
        like = job.piece[GATE]
        answer = {name: like.new_empty(sides) for name, sides in sizes.items() if all(sides)}
        return Update(dict(job.piece), answer=answer)


def read_batch(batch: Batch) -> RowArrays:
    """Read a batch into arrays; equal weights become exactly 1."""
    x, y, weight = (batch[name].detach().cpu().double() for name in ("x", "y", "weight"))
    weight = weigh_rows(weight / weight.max(), {name: t.cpu() for name, t in batch.items()})
    return x.flatten(1).numpy(), y.flatten().numpy(), weight.numpy()


def make_tensor_like(values: Array, like: Tensor) -> Tensor:
    """Make a tensor of the dtype and device of another."""
    return torch.from_numpy(np.asarray(values, order="C")).to(like)
