"""Fit a mixture of experts to a worker's rows by EM.

Letters: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moiety.core.fold import Precision
from moiety.core.state import Job, Plan, Update
from moiety.core.streams import hash_address
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.mixtures.fit import RowArrays, Search
from moiety.mixtures.learn import learn_rows
from moiety.mixtures.logit import Array, pack_symmetric
from moiety.mixtures.model import Mixture, add_constant, log_density
from moiety.mixtures.scale import standardise_mixture
from moiety.models.mixture import GATE, read_mixture, write_mixture


@dataclass(frozen=True)
class LocalEM:
    """Fit all rows from several starts, or go on from the mixture received if it is not blank.

    A job has two steps over all rows. The first fits; the second has the rate 0 and only looks. A
    step's loss is that before it, as everywhere, so the ledger shows the mean negative
    log-likelihood of the mixture received and of the one sent back.

    Args:
        search: starts, when EM stops, and the ridge.
        support: rows sent along for the comparison of experts; their labels stay.
    """

    search: Search
    support: int = 64
    stackable: bool = False
    needs_statistics: bool = False
    keeps_memory: bool = False

    def first_optimizer_state(self, params: Params, /) -> Memory:
        return {}

    def plan(self, size: int, job: Job, /) -> Plan:
        if size == 0:
            raise ValueError("the worker has no rows; leave it out of the roster or give it data")
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
        return {"params": dict(job.piece), "answer": {}, "rows": torch.zeros(())}

    def step(
        self, carry: Carry, batch: Batch, lr: Tensor | float, role: str, /
    ) -> tuple[Carry, Tensor]:
        del role
        rows, begin = read_batch(batch), read_mixture(carry["params"])
        values = log_density(begin, add_constant(rows[0]), rows[1])
        loss = -torch.tensor(rows[2] @ values / rows[2].sum())
        return (self.fit(carry, rows, begin, int(batch["seed"])) if float(lr) else carry), loss

    def fit(self, carry: Carry, rows: RowArrays, begin: Mixture, seed: int) -> Carry:
        """Fit; and draw the rows that are sent along."""
        rng = np.random.default_rng(seed)
        blank = not (begin.gate.any() or begin.experts.coef.any())
        first = None if blank else lambda scale, _: standardise_mixture(begin, scale)
        local = learn_rows(rows, self.search, rng, begin=first).local()
        taken = rng.choice(len(rows[0]), min(self.support, len(rows[0])), replace=False)
        assert local.information is not None
        answers = {"support": rows[0][taken], "information": pack_symmetric(local.information)}
        like = next(iter(carry["params"].values()))
        answer = {
            name: make_tensor_like(value, like) for name, value in answers.items() if value.size
        }
        params = write_mixture(local.mixture, carry["params"])
        return {"params": params, "answer": answer, "rows": torch.tensor(local.rows)}

    def predict_update(self, size: int, job: Job, /) -> Update:
        columns, experts = job.piece[GATE].shape
        free = columns * (experts - 1)
        sizes = {
            "support": (min(self.support, size), columns - 1),
            "information": (free * (free + 1) // 2,),
        }
        like = job.piece[GATE]
        answer = {name: like.new_empty(sides) for name, sides in sizes.items() if all(sides)}
        return Update(dict(job.piece), answer=answer)

    def statistics(self, carry: Carry, batch: Batch, role: str, /) -> Params:
        return {}

    def finish(self, job: Job, plan: Plan, carry: Carry, statistics: Params, /) -> Update:
        del job, plan, statistics
        precision = Precision(float(carry["rows"]))
        return Update(carry["params"], precision=precision, answer=carry["answer"])


def read_batch(batch: Batch) -> RowArrays:
    """Read a batch into arrays; equal weights become exactly 1."""
    x, y, weight = (batch[name].detach().cpu().double() for name in ("x", "y", "weight"))
    return x.flatten(1).numpy(), y.numpy(), (weight / weight.max()).numpy()


def make_tensor_like(values: Array, like: Tensor) -> Tensor:
    """Make a tensor of the dtype and device of another."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(like)
