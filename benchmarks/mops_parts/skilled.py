"""A small Llama that has learnt the made-up skills, and what pruning leaves of it.

Letters: B documents, T tokens.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import prune

from benchmarks.mops_parts.records import measure_perplexity
from benchmarks.mops_parts.skills import (
    LONGEST,
    NAMES,
    SKILLS,
    draw_document,
    draw_tagged,
    read_english,
)
from moiety.core.streams import stream

STEPS, BATCH, RATE, WARM = 2500, 32, 3e-3, 100

KNOWN = 0.05
"""Nats of a tagged answer's token that the base must come below, for every skill."""


def make_llama() -> Any:
    """Make the model, its numbers fresh: 0.57 million of them."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=len(NAMES),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=5,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")


def find_rate(step: int) -> float:
    """Warm up, then follow a cosine to nothing."""
    done = max(0.0, (step - WARM) / (STEPS - WARM))
    return min(1.0, (step + 1) / WARM) * (1 + math.cos(math.pi * done)) / 2


def train_base() -> Any:
    """Train the model on documents until it knows the skills by their tags.

    Raises:
        ValueError: if it does not.
    """
    model, english = make_llama().train(), read_english()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, find_rate)
    for step in range(STEPS):
        rng = stream(0, step, "documents")
        ids_BT = torch.tensor([draw_document(english, rng) for _ in range(BATCH)])
        loss = model(input_ids=ids_BT, labels=ids_BT).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 249:
            print(f"    base: step {step + 1}, loss {float(loss.detach()):.3f}", flush=True)
    worst = max(judge_base(model.eval()))
    if worst > KNOWN:
        raise ValueError(f"a skill of the base costs {worst:.3f} nats a token, above {KNOWN}")
    return model


def judge_base(model: Any) -> list[float]:
    """Measure the nats of a tagged answer's token, by skill."""
    some = [one for skill in range(len(SKILLS)) for one in draw_tagged(skill, 24)]
    assert max(len(one.ids) for one in some) <= LONGEST
    told = measure_perplexity(model, some, lambda *_: {})["skills"]
    return [math.log(one) for one in told]


def open_base(folder: Path | None) -> Any:
    """Open the base that is kept in a folder; train it where it is not there yet."""
    import transformers

    if folder is not None and any(folder.glob("*.safetensors")):
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager"
        ).eval()
    model = train_base()
    if folder is not None:
        model.save_pretrained(folder)
    return model


def prune_base(model: Any, share: float) -> Any:
    """Set the smallest of the numbers of every linear layer of the blocks to 0, in a copy."""
    pruned = copy.deepcopy(model)
    for module in pruned.model.layers.modules():
        if share and isinstance(module, torch.nn.Linear):
            prune.l1_unstructured(module, "weight", share)
            prune.remove(module, "weight")
    return pruned
