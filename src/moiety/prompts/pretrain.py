"""The gate is taught which expert a request is for, before the prompts learn.

Letters: N requests, D width, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moiety.core.streams import hash_address, stream
from moiety.mixtures.em_starts import label_by_kmeans
from moiety.prompts.config import MopsConfig
from moiety.prompts.edit import find_config, find_tuner
from moiety.prompts.gate import standardise, weigh_experts

ENOUGH = 0.95
"""Accuracy, and mean weight of the heaviest expert, at which pre-training ends."""


@dataclass(frozen=True)
class GateFit:
    """How well a gate was taught, on requests set apart.

    Args:
        accuracy: how often the heaviest expert is the right one.
        confidence: mean weight of the heaviest expert.
        steps: that were made.
        experts: the expert of each request, [N].
        learnt: whether it is right more often than by chance; one that is not scores all alike.
    """

    accuracy: float
    confidence: float
    steps: int
    experts: Tensor
    learnt: bool = True


@dataclass(frozen=True)
class GateTraining:
    """How a gate is taught: Adam on cross-entropy.

    Args:
        steps: at most.
        lr: learning rate.
        batch: requests in a step.
        held_out: share of requests set apart, by which it ends early.
        seed: of draws and first values.
    """

    steps: int = 300
    lr: float = 1e-3
    batch: int = 64
    held_out: float = 0.1
    seed: int = 0

    def check(self) -> None:
        """Refuse what no gate can be taught by.

        Raises:
            ValueError: with the remedy.
        """
        if not (0 < self.held_out < 1 and self.steps >= 1 and self.batch >= 1):
            raise ValueError(f"{self}; choose held_out between 0 and 1, and at least one step of a "
                             "batch of one")  # fmt: skip
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr={self.lr}; choose a finite number above 0")


@torch.no_grad()
def read_requests(
    model: Any, batches: Iterable[Mapping[str, Tensor]], adapter: str = "default"
) -> Tensor:
    """Give what the gate reads of requests, [N, D]; it does not change while prompts learn."""
    tuner = find_tuner(model)
    found = [tuner.read_gate(adapter, **batch) for batch in batches]
    if not found:
        raise ValueError("no batch of requests came; give at least one")
    return torch.cat(found)


def pretrain_gate(
    model: Any,
    z_ND: Tensor,
    labels_N: Tensor | None = None,
    adapter: str = "default",
    training: GateTraining | None = None,
) -> GateFit:
    """Teach the gate afresh, in place; one that learns nothing scores all experts alike.

    Args:
        model: the tuned model.
        z_ND: what the gate reads of some requests (``read_requests``).
        labels_N: the skill of each; skill k goes to expert k modulo their number. None finds
            as many clusters as there are experts.
        adapter: whose gate.
        training: how.

    Raises:
        ValueError: if there is no gate, no label for each request, or one skill only.
    """
    training = training or GateTraining()
    tuner = find_tuner(model)
    config = find_config(tuner, adapter)
    gate: Any = tuner.adapters([adapter])[adapter].gate
    if gate is None:
        raise ValueError(f"adapter {adapter!r} has gate_mode={config.gate_mode!r}: no gate")
    fit = fit_gate(gate, config, z_ND, labels_N, training)
    config.gate_taught = fit.learnt
    return fit


def fit_gate(
    gate: Any, config: MopsConfig, z_ND: Tensor, labels_N: Tensor | None, training: GateTraining
) -> GateFit:
    """Teach a gate afresh, in place; arguments are those of ``pretrain_gate``."""
    training.check()
    width = gate.hidden.in_features
    if z_ND.ndim != 2 or z_ND.shape[1] != width:
        raise ValueError(f"z_ND has shape {list(z_ND.shape)}, but the gate reads [N, {width}]; "
                         "take what read_requests gives")  # fmt: skip
    expert_N = assign_experts(z_ND, labels_N, config.num_experts, training.seed)
    gate.redraw(training.seed)
    order = torch.randperm(len(z_ND), generator=stream(training.seed, "gate", "held out"))
    held = min(max(1, round(training.held_out * len(order))), len(order) - 1)
    apart, known = order[:held], order[held:]
    steps = teach_gate(gate, config, (z_ND, expert_N), (known, apart), training)
    accuracy, confidence = judge_gate(gate, config, z_ND[apart], expert_N[apart])
    learnt = accuracy * config.num_experts > 1
    if not learnt:
        gate.forget()
    return GateFit(accuracy, confidence, steps, expert_N, learnt)


def assign_experts(z_ND: Tensor, labels_N: Tensor | None, count: int, seed: int) -> Tensor:
    """Assign requests to experts: by their label, or by clusters, [N]."""
    if len(z_ND) < max(2, count if labels_N is None else 0):
        raise ValueError(f"{len(z_ND)} requests to teach {count} experts' gate; give more")
    if not bool(z_ND.isfinite().all()):
        row = int((~z_ND.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"what the gate reads of request {row} is not finite; look for NaN in the "
                         "language model")  # fmt: skip
    if labels_N is None:
        rng = np.random.default_rng(hash_address(seed, "gate", "clusters"))
        z = standardise(z_ND).cpu().double().numpy()
        return torch.as_tensor(label_by_kmeans(z, np.ones(len(z)), count, rng)).long()
    if not isinstance(labels_N, Tensor):
        raise ValueError(  # noqa: TRY004  (a user's choice, as others)
            f"labels_N is a {type(labels_N).__name__}; number the skills, in a tensor of int64 [N]"
        )
    if len(labels_N) != len(z_ND):
        raise ValueError(f"{len(labels_N)} labels of {len(z_ND)} requests; give one for each")
    if len(labels_N.unique()) < 2:
        raise ValueError("all requests have one label, so there is nothing for a gate to learn; "
                         "give others too, or use gate_mode='none'")  # fmt: skip
    if labels_N.is_floating_point() or int(labels_N.min()) < 0:
        raise ValueError("labels_N are not whole numbers of at least 0; number the skills")
    return labels_N.long() % count


def teach_gate(
    gate: Any,
    config: MopsConfig,
    rows: tuple[Tensor, Tensor],
    parts: tuple[Tensor, Tensor],
    training: GateTraining,
) -> int:
    """Make Adam's steps on the known requests; stop where those apart are told well enough."""
    (z_ND, expert_N), (known, apart) = rows, parts
    device = next(gate.parameters()).device
    optimizer = torch.optim.Adam(gate.parameters(), training.lr)
    for step in range(training.steps):
        rng = stream(training.seed, step, "gate")
        ids = known[torch.randint(len(known), (training.batch,), generator=rng)]
        score_BE = gate(z_ND[ids].to(device)) / config.gate_temperature
        loss = F.cross_entropy(score_BE, expert_N[ids].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            told = judge_gate(gate, config, z_ND[apart], expert_N[apart])
            if min(told) >= ENOUGH:
                return step + 1
    gate.zero_grad()
    return training.steps


@torch.no_grad()
def judge_gate(
    gate: Any, config: MopsConfig, z_ND: Tensor, expert_N: Tensor
) -> tuple[float, float]:
    """Measure accuracy and confidence."""
    log_NE = weigh_experts(gate(z_ND.to(next(gate.parameters()).device)), config).cpu()
    top = log_NE.max(-1)
    right = (top.indices == expert_N.cpu()).float().mean()
    return float(right), float(top.values.exp().mean())
