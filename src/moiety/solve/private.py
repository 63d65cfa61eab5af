"""Descent whose gradients tell little of any one row: clipped row by row, with noise (DP-SGD).

Letters: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from moiety.core.solver import Descent, KeepsParameters
from moiety.core.state import Job, Plan, Update
from moiety.core.tensors import digest_tensors
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.ops.keyed_noise import draw_keyed_normal

ADDRESS = "row_noise"
"""What a job carries: the address of its noise."""


def clip_row_gradients(grads_B: Params, most: float) -> Tensor:
    """Give for each row what its gradient is multiplied by, [B], so that its norm is no more.

    The norm is over all parameters together.

    >>> clip_row_gradients({"w": torch.tensor([[3.0, 4.0], [0.3, 0.4]])}, 1.0)
    tensor([0.2000, 1.0000])
    """
    squares = [t.flatten(1).square().sum(1) for t in grads_B.values()]
    norm_B = torch.stack(squares).sum(0).sqrt()
    return (most / norm_B.clamp_min(1e-30)).clamp_max(1.0)


@dataclass(frozen=True)
class PrivateDescent:
    """Step along a sum of clipped gradients of rows, with noise that the worker alone can draw.

    The step is ``sum_i w_i clip(g_i, C) + max(w) z C N(0, 1)`` with the weights of the plan, which
    follow from how many rows there are. Abadi et al., arXiv:1607.00133, algorithm 1, without
    sampling: the plan is drawn from the seed of the run, which everybody knows.

    Args:
        inner: gives the loss of a row, and moves.
        clip: C, the largest norm of the gradient of a row.
        noise: z, the standard deviation of the noise over what one row moves the sum.
        key: of the noise; empty until the worker is about to work.
    """

    inner: Descent
    clip: float
    noise: float
    key: bytes = field(default=b"", repr=False)
    stackable: bool = False
    needs_statistics: bool = False
    hides_losses: bool = True

    @property
    def keeps_memory(self) -> bool:
        return self.inner.keeps_memory

    @property
    def own(self) -> Params:
        return self.inner.own if isinstance(self.inner, KeepsParameters) else {}

    def first_optimizer_state(self, params: Params, /) -> Memory:
        return self.inner.first_optimizer_state(params)

    def plan(self, size: int, job: Job, /) -> Plan:
        plan = self.inner.plan(size, job)
        return replace(plan, seeds=torch.arange(plan.steps))  # the number of the step

    def start(self, job: Job, memory: Memory, /) -> Carry:
        carry = self.inner.start(job, memory)
        # Of all that the steps follow from, so that no two jobs that differ share their noise.
        slots = carry["optimizer_state"]
        state = digest_tensors(
            carry["params"], carry["frozen"], *(slots[name] for name in sorted(slots))
        )
        address = (job.seed, job.round, job.worker, job.share.role, state)
        return {**carry, ADDRESS: address}

    def step(
        self, carry: Carry, batch: Batch, lr: Tensor | float, role: str, /
    ) -> tuple[Carry, Tensor]:
        rows, weight_B, number = dict(batch), batch["weight"], int(batch["seed"])
        del rows["weight"], rows["seed"]

        def lose(params: Params, row: Batch) -> Tensor:
            one = {name: t[None] for name, t in row.items()}
            one["weight"] = torch.ones(1, dtype=weight_B.dtype, device=weight_B.device)
            return self.inner.loss(params, carry, one, role)[0]

        each = -(-len(weight_B) // self.inner.accumulate)
        found = vmap(grad_and_value(lose), in_dims=(None, 0), chunk_size=each)(
            carry["params"], rows
        )
        grads_B, losses_B = found
        share_B = weight_B * clip_row_gradients(grads_B, self.clip)
        spread = float(weight_B.max()) * self.noise * self.clip
        grads = {}
        for name, grad_B in grads_B.items():
            total = torch.einsum("b,b...->...", share_B.to(grad_B.dtype), grad_B)
            drawn = draw_keyed_normal(self.key, (*carry[ADDRESS], number, name), total.shape)
            grads[name] = (total.double() + spread * drawn.to(total.device)).to(total.dtype)
        moved = self.inner.move(carry, grads, lr)
        return moved, torch.dot(losses_B.to(weight_B.dtype), weight_B)

    def statistics(self, carry: Carry, batch: Batch, role: str, /) -> Params:
        del carry, batch, role
        return {}

    def finish(self, job: Job, plan: Plan, carry: Carry, statistics: Params, /) -> Update:
        return self.inner.finish(job, plan, carry, statistics)
