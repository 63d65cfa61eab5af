"""Prompts with a gate beside PEFT's methods on a real language model, records of many skills.

``MOIETY_LM=FOLDER MOIETY_DATA=FOLDER python -m benchmarks.mops [--minutes 8] [--json FILE]``.
Central training: every method sees the same rows in the same order; the rate of each is chosen on
validation rows. A run goes on where the file ends, and stops after some minutes.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moiety.core.streams import stream
from moiety.prompts import GateTraining, MopsConfig, pretrain_gate, read_requests

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
LENGTH, BATCH, STEPS = 96, 6, 40
KINDS, TRAIN, VALID, TEST = 8, 40, 4, 8
TEXT = "Read what is given, find out which task it is, and write the answer in a few words: "


@dataclass(frozen=True)
class Record:
    """A record as tokens: the first ``start`` are the instruction."""

    ids: list[int]
    start: int
    skill: int


@dataclass(frozen=True)
class Rival:
    """A method: what it puts into the model, and the rates tried."""

    add: Callable[[Any, Any, Sequence[Record]], Any]
    rates: tuple[float, ...]


def open_model() -> tuple[Any, Any]:
    """Open the model and its tokenizer from the folder that MOIETY_LM names."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = os.environ["MOIETY_LM"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF)
    return model.eval(), tokenizer


def read_records(tokenizer: Any) -> Mapping[str, list[Record]]:
    """Read Super-NaturalInstructions without definitions: short records, as many of each category.

    The tokenizer's end closes an answer. Rows are drawn once; no row is in two parts.
    """
    path = Path(os.environ["MOIETY_DATA"]) / "instruct_superni_sample.jsonl.gz"
    text = gzip.decompress(path.read_bytes()).decode("utf8")
    rows = [json.loads(line) for line in text.splitlines()]
    found: dict[str, list[tuple[list[int], int]]] = {}
    order = torch.randperm(len(rows), generator=stream(0, "records")).tolist()
    for place in order:
        row = rows[place]
        front = tokenizer(row["input"] + "\n")["input_ids"]
        answer = [*tokenizer(row["output"])["input_ids"], tokenizer.eos_token_id]
        if len(front) + len(answer) <= LENGTH and len(answer) > 1:
            found.setdefault(row["category"], []).append(([*front, *answer], len(front)))
    need = TRAIN + VALID + TEST
    kinds = sorted(kind for kind, some in found.items() if len(some) >= need)[:KINDS]
    parts: dict[str, list[Record]] = {"train": [], "valid": [], "test": []}
    for skill, kind in enumerate(kinds):
        some = [Record(ids, start, skill) for ids, start in found[kind][:need]]
        parts["train"] += some[:TRAIN]
        parts["valid"] += some[TRAIN : TRAIN + VALID]
        parts["test"] += some[TRAIN + VALID :]
    return {**parts, "kinds": kinds}  # pyright: ignore[reportReturnType]


def pad_records(records: Sequence[Record]) -> dict[str, Tensor]:
    """Pad records to one length, with no label on the instruction."""
    length = max(len(one.ids) for one in records)
    ids = torch.tensor([one.ids + [0] * (length - len(one.ids)) for one in records])
    mask = torch.tensor([[1] * len(o.ids) + [0] * (length - len(o.ids)) for o in records])
    labels = ids.masked_fill(mask == 0, -100)
    for row, one in enumerate(records):
        labels[row, : one.start] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@torch.no_grad()
def measure(model: Any, records: Sequence[Record]) -> tuple[float, list[float]]:
    """Give the perplexity of an answer's token over all records, and by skill."""
    model.eval()
    count = 1 + max(one.skill for one in records)
    total, tokens = torch.zeros(count), torch.zeros(count)
    for first in range(0, len(records), 8):
        some = records[first : first + 8]
        batch = pad_records(some)
        labels = batch.pop("labels")
        # The gate must not see answers here either, so the request is told by its labels.
        told = {"labels": labels} if is_mops(model) else {}
        logits = model(**batch, **told).logits[:, -labels.shape[1] :]
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].transpose(1, 2).float(), labels[:, 1:], reduction="none"
        )
        for row, one in enumerate(some):
            total[one.skill] += each[row].sum()
            tokens[one.skill] += (labels[row, 1:] != -100).sum()
    return math.exp(total.sum() / tokens.sum()), (total / tokens).exp().tolist()


def is_mops(model: Any) -> bool:
    """Say whether a model has a mixture of prompts."""
    return any(c.peft_type == "MOPS" for c in getattr(model, "peft_config", {}).values())


def wrap(model: Any, config: Any) -> Any:
    """Put an adapter into a copy of the model."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(copy.deepcopy(model), config)


def add_prompts(model: Any, tokenizer: Any, _train: Sequence[Record], count: int) -> Any:
    """Prompt tuning, its tokens those of a text, repeated."""
    from peft import PromptTuningConfig

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=count)
    tuned = wrap(model, config)
    ids = (tokenizer(TEXT)["input_ids"] * count)[:count]
    with torch.no_grad():
        start = model.get_input_embeddings()(torch.tensor(ids))
        tuned.prompt_encoder["default"].embedding.weight.copy_(start)
    return tuned


def add_prefix(model: Any, tokenizer: Any, _train: Sequence[Record]) -> Any:
    """Prefix tuning in all layers, keys and values those of a text."""
    from peft import PrefixTuningConfig, initialize_kv_prefix_from_text

    count = 18
    tuned = wrap(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=count))
    initialize_kv_prefix_from_text(tuned, tokenizer, text=TEXT * 8, use_chat_template=False)
    return tuned


def add_lora(model: Any, _tokenizer: Any, _train: Sequence[Record]) -> Any:
    """LoRA of rank 4 on queries and values."""
    from peft import LoraConfig

    targets = ["q_proj", "v_proj"]
    torch.manual_seed(0)
    return wrap(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets))


def add_ia3(model: Any, _tokenizer: Any, _train: Sequence[Record]) -> Any:
    """(IA)3: scales of keys, values and hidden units."""
    from peft import IA3Config

    return wrap(model, IA3Config(task_type="CAUSAL_LM"))


def add_mixture(model: Any, tokenizer: Any, train: Sequence[Record], **more: Any) -> Any:
    """A mixture of prompts from the same text; its gate is taught on the training rows."""
    config = MopsConfig(
        task_type="CAUSAL_LM", num_experts=KINDS, prompts_per_expert=2, gate_hidden_size=32, **more
    )
    tuned = wrap(model, config).eval()
    start_from_text(tuned, tokenizer)
    if config.has_gate:
        batches = [pad_records(train[at : at + 16]) for at in range(0, len(train), 16)]
        z = read_requests(tuned, batches)
        skills = torch.tensor([one.skill for one in train])
        fit = pretrain_gate(tuned, z, skills, training=GateTraining(lr=5e-3))
        print(f"    gate: accuracy {fit.accuracy:.2f}, confidence {fit.confidence:.2f}", flush=True)
    return tuned


def start_from_text(tuned: Any, tokenizer: Any) -> None:
    """Let all prompts start from the hidden states of one text, a stretch of it each."""
    from moiety.prompts.starts import record_inputs

    tuner = tuned.base_model
    layers = tuner.layers()
    shape = next(iter(layers.values())).mops_prompts["default"].shape[:2]
    ids = (tokenizer(TEXT)["input_ids"] * 8)[: shape[0] * shape[1]]
    given = record_inputs(tuner.model, torch.tensor([ids]))
    with torch.no_grad():
        for place, layer in layers.items():
            layer.mops_prompts["default"].copy_(given[place][0].view(*shape, -1))


RIVALS: Mapping[str, Rival] = {
    "prompt tuning, 20": Rival(lambda m, t, r: add_prompts(m, t, r, 20), (1e-2, 3e-2)),
    "MoPs": Rival(add_mixture, (1e-2, 3e-3)),
    "prefix tuning": Rival(add_prefix, (1e-2, 3e-3)),
    "LoRA": Rival(add_lora, (1e-3, 3e-3)),
    "deep prompts, no gate": Rival(
        lambda m, t, r: add_mixture(m, t, r, gate_mode="none"), (1e-2, 3e-3)
    ),
    "MoPs, top 1": Rival(lambda m, t, r: add_mixture(m, t, r, top_k=1), (1e-2, 3e-3)),
    "(IA)3": Rival(add_ia3, (1e-2, 3e-2)),
}


def draw_batches(train: Sequence[Record], steps: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Draw the same batches for every method."""
    for step in range(steps):
        ids = torch.randint(len(train), (BATCH,), generator=stream(seed, step, "batch"))
        yield pad_records([train[int(place)] for place in ids])


def train_rival(name: str, lr: float, seed: int, data: Mapping[str, list[Record]], lm: Any) -> Any:
    """Train one method at one rate; perplexities, numbers trained and seconds a step."""
    model, tokenizer = lm
    tuned = RIVALS[name].add(model, tokenizer, data["train"])
    params = [p for p in tuned.parameters() if p.requires_grad]
    gate = {id(p) for n, p in tuned.named_parameters() if "mops_gate" in n}
    groups = [
        {"params": [p for p in params if id(p) not in gate], "lr": lr},
        {"params": [p for p in params if id(p) in gate], "lr": 0.1 * lr},
    ]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]])
    begun = time.process_time()
    tuned.train()
    for batch in draw_batches(data["train"], STEPS, seed):
        loss = tuned(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    spent = (time.process_time() - begun) / STEPS
    valid, _ = measure(tuned, data["valid"])
    test, skills = measure(tuned, data["test"])
    return {
        "method": name, "lr": lr, "seed": seed, "valid": valid, "test": test, "skills": skills,
        "numbers": sum(p.numel() for p in params), "cpu_s_per_step": spent,
    }  # fmt: skip


def plan_runs(seeds: int) -> Iterator[tuple[str, float, int]]:
    """List runs: the first rate of every method, the second of every method, then other seeds."""
    for seed in range(seeds):
        for place in range(2):
            for name, rival in RIVALS.items():
                yield name, rival.rates[place], seed


def main() -> None:
    """Play what is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default="docs/results/mops.json")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    path, end = Path(asked.json), time.monotonic() + 60 * asked.minutes
    done = json.loads(path.read_text()) if path.exists() else []
    lm = open_model()
    data = read_records(lm[1])
    if not done:
        test, skills = measure(lm[0], data["test"])
        done = [{"method": "zero-shot", "lr": 0, "seed": 0, "valid": 0, "test": test,
                 "skills": skills, "numbers": 0, "kinds": data["kinds"]}]  # fmt: skip
        path.write_text(json.dumps(done, indent=1))
    for name, lr, seed in plan_runs(asked.seeds):
        if any((one["method"], one["lr"], one["seed"]) == (name, lr, seed) for one in done):
            continue
        if time.monotonic() > end:
            print("stopped; call again to go on")
            return
        found = train_rival(name, lr, seed, data, lm)
        done.append(found)
        path.write_text(json.dumps(done, indent=1))
        print(
            f"{name:24} lr {lr:g}: {found['test']:.2f} ({found['cpu_s_per_step']:.1f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
