"""Texts as numbers of a pretrained encoder, once: ``python -m benchmarks.encode_texts``.

    python -m benchmarks.encode_texts ENCODER posts.csv.gz posts.npz --rows 4000
    moiety run yours --data posts.npz --methods ddome fedavg

Every text becomes the mean of the last hidden layer over its first tokens, of length 1: what
sentence encoders of the BERT family answer. The encoder is frozen, so this is done before a run and
not in it; experts are networks on these numbers. Needs ``pip install "moiety[llm]"``; ENCODER is a
folder of Hugging Face (``config.json``, ``model.safetensors``, a tokenizer).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BATCH = 32


def read_posts(path: Path, rows: int, text: str, label: str) -> tuple[list[str], list[str]]:
    """Read texts and labels of a CSV, packed by gzip or not: all, or so many, evenly spaced."""
    csv.field_size_limit(10**8)
    data = path.read_bytes()
    plain = gzip.decompress(data) if path.suffix == ".gz" else data
    found = list(csv.DictReader(io.StringIO(plain.decode(), newline="")))
    found = [found[place * len(found) // rows] for place in range(rows)] if rows else found
    return [one[text] for one in found], [one[label] for one in found]


@torch.no_grad()
def encode_texts(folder: Path, texts: Sequence[str], tokens: int) -> Tensor:
    """Encode texts, [N, D], each by its first so many tokens."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), BATCH):
        ids = order[start : start + BATCH]
        batch = tokenizer(
            [texts[place] for place in ids],
            padding=True, truncation=True, max_length=tokens, return_tensors="pt",
        )  # fmt: skip
        hidden_BTD = model(**batch).last_hidden_state
        mask_BT1 = batch["attention_mask"][..., None]
        mean_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp_min(1)
        found |= dict(zip(ids, F.normalize(mean_BD, dim=-1), strict=True))
        print(f"\r{len(found)}/{len(texts)}", end="", file=sys.stderr, flush=True)
    return torch.stack([found[place] for place in range(len(texts))])


def main(words: Sequence[str] | None = None) -> int:
    """Encode a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("out", type=Path, help="npz of x [N, D] and y, numbers of sorted labels")
    parser.add_argument("--rows", type=int, default=0, help="0 for all")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--columns", nargs=2, default=["text", "label"])
    said = parser.parse_args(words)
    torch.set_num_threads(1)
    texts, labels = read_posts(said.texts, said.rows, *said.columns)
    x = encode_texts(said.encoder, texts, said.tokens)
    names = sorted(set(labels))
    y = np.array([names.index(label) for label in labels])
    np.savez_compressed(said.out, x=x.numpy(), y=y)
    return 0


if __name__ == "__main__":
    sys.exit(main())
