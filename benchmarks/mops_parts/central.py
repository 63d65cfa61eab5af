"""Central training: every method sees the same records in the same order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.mops_parts.records import Record, Study, measure_perplexity, pad_records
from benchmarks.mops_parts.rivals import RIVALS, tell_rows
from moiety.core.streams import stream

BATCH, STEPS, GATE_RATE = 6, 30, 0.1


def draw_batches(records: Sequence[Record], seed: int) -> Iterator[Sequence[Record]]:
    """Draw the same records for every method."""
    for step in range(STEPS):
        ids = torch.randint(len(records), (BATCH,), generator=stream(seed, step, "batch"))
        yield [records[place] for place in ids.tolist()]


def make_optimizer(tuned: Any, lr: float) -> torch.optim.Optimizer:
    """Make Adam, a tenth of the rate for a gate."""
    named = [(name, p) for name, p in tuned.named_parameters() if p.requires_grad]
    gate = [p for name, p in named if "mops_gate" in name]
    others = [p for name, p in named if "mops_gate" not in name]
    groups = [{"params": others, "lr": lr}, {"params": gate, "lr": GATE_RATE * lr}]
    return torch.optim.Adam([group for group in groups if group["params"]])


def train_rival(study: Study, name: str, lr: float, seed: int) -> dict[str, Any]:
    """Train one method at one rate; perplexities, numbers trained and seconds a step."""
    tuned = RIVALS[name].add(study)
    optimizer = make_optimizer(tuned, lr)
    tuned.train()
    spent = []
    for some in draw_batches(study.train, seed):
        begun, batch = time.process_time(), pad_records(some)
        loss = tuned(**{**batch, **tell_rows(tuned, some, batch["labels"])}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent.append(time.process_time() - begun)
    tell = partial(tell_rows, tuned)
    return {
        "valid": measure_perplexity(tuned, study.valid, tell)["all"],
        "test": measure_perplexity(tuned, study.test, tell),
        "numbers": sum(p.numel() for p in tuned.parameters() if p.requires_grad),
        "cpu_s_per_step": sorted(spent)[len(spent) // 2],
    }


def measure_bare(study: Study) -> dict[str, Any]:
    """Measure the model as it is."""
    return {"test": measure_perplexity(study.model, study.test, lambda *_: {})}


def pick_rate(found: Mapping[float, Mapping[str, Any]]) -> float:
    """Pick the rate whose perplexity on validation records is the least."""
    return min(found, key=lambda lr: found[lr]["valid"])
