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
from moiety.core.streams import address
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.mixtures.fit import Rows, Search
from moiety.mixtures.learn import learn
from moiety.mixtures.logit import Array, packed
from moiety.mixtures.model import Mixture, design, log_density
from moiety.mixtures.scale import rescaled
from moiety.models.mixture import GATE, to_numpy, to_tensors


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
    batched: bool = False
    tallies: bool = False

    def slots(self, params: Params, /) -> Memory:
        return {}

    def plan(self, size: int, job: Job, /) -> Plan:
        if size == 0:
            raise ValueError("the worker has no rows; leave it out of the roster or give it data")
        rows = torch.arange(size).repeat(2, 1)
        seed = address(job.seed, job.round, job.worker, "em")
        return Plan(
            rows,
            torch.full((2, size), 1 / size),
            torch.tensor([1.0, 0.0]),
            torch.tensor([seed] * 2),
        )

    def start(self, job: Job, memory: Memory, /) -> Carry:
        del memory
        return {"params": dict(job.piece), "hint": {}, "rows": torch.zeros(())}

    def step(
        self, carry: Carry, batch: Batch, lr: Tensor | float, role: str, /
    ) -> tuple[Carry, Tensor]:
        del role
        rows, begin = read(batch), to_numpy(carry["params"])
        values = log_density(begin, design(rows[0]), rows[1])
        loss = -torch.tensor(rows[2] @ values / rows[2].sum())
        return (self.fit(carry, rows, begin, int(batch["seed"])) if float(lr) else carry), loss

    def fit(self, carry: Carry, rows: Rows, begin: Mixture, seed: int) -> Carry:
        """Fit; and draw the rows that are sent along."""
        rng = np.random.default_rng(seed)
        blank = not (begin.gate.any() or begin.experts.coef.any())
        first = None if blank else lambda scale, _: rescaled(begin, scale)
        local = learn(rows, self.search, rng, begin=first).local()
        taken = rng.choice(len(rows[0]), min(self.support, len(rows[0])), replace=False)
        assert local.information is not None
        hints = {"support": rows[0][taken], "information": packed(local.information)}
        like = next(iter(carry["params"].values()))
        hint = {name: hint_tensor(value, like) for name, value in hints.items() if value.size}
        params = to_tensors(local.mixture, carry["params"])
        return {"params": params, "hint": hint, "rows": torch.tensor(local.rows)}

    def foretell(self, size: int, job: Job, /) -> Update:
        columns, experts = job.piece[GATE].shape
        free = columns * (experts - 1)
        sizes = {
            "support": (min(self.support, size), columns - 1),
            "information": (free * (free + 1) // 2,),
        }
        like = job.piece[GATE]
        hint = {name: like.new_empty(sides) for name, sides in sizes.items() if all(sides)}
        return Update(dict(job.piece), hint=hint)

    def tally(self, carry: Carry, batch: Batch, role: str, /) -> Params:
        return {}

    def finish(self, job: Job, carry: Carry, tally: Params, /) -> Update:
        del job, tally
        precision = Precision(float(carry["rows"]))
        return Update(carry["params"], precision=precision, hint=carry["hint"])


def read(batch: Batch) -> Rows:
    """Read a batch into arrays; equal weights become exactly 1."""
    x, y, weight = (batch[name].detach().cpu().double() for name in ("x", "y", "weight"))
    return x.flatten(1).numpy(), y.numpy(), (weight / weight.max()).numpy()


def hint_tensor(values: Array, like: Tensor) -> Tensor:
    """Make a tensor of the dtype and device of another."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(like)
