"""Texts as a recipe's data for a pretrained encoder: its tokens, and what is read of them ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from moiety.data.dataset import Dataset
from moiety.data.documents import DocumentEncoding
from moiety.data.tokens import TokenEncoding
from moiety.models.folder import EncoderFolder, open_encoder
from moiety.models.pretrained import EVERYTHING, NO_TOKEN, build_pretrained
from moiety.recipes.options import get_options
from moiety.recipes.record import Federation


def read_token_data(
    record: Federation, data: Dataset
) -> tuple[Dataset, Callable[[Tensor], Tensor] | None]:
    """Let the tokenizer of the encoder that the network names read texts.

    Rows that came as whole numbers, of no column of texts, are tokens of it as they are.

    Returns:
        The rows, and what reads some of them ahead; None where nothing is frozen.

    Raises:
        ValueError: for a folder without an encoder, or what it does not read.
    """
    choices: Any = get_options(record.options, record.net)
    opened, length = open_encoder(choices["folder"]), choices["length"]
    frozen = choices["blocks"] != EVERYTHING
    ahead = FrozenBlocks(choices["folder"], choices["blocks"]) if frozen else None
    if not isinstance(data.encoding, DocumentEncoding):
        check_tokens(opened, data.x)
        return data, ahead
    check_token_length(opened, length)
    (column,) = data.raw
    size = len(opened.tokenizer)
    encoding = TokenEncoding(column.name, choices["folder"], length, opened.mark, size)
    note = describe_lengths(opened, [text or "" for text in column.words()], length)
    x, notes = encoding.apply({column.name: column}), (*data.notes, note)
    return replace(data, x=x, encoding=encoding, notes=notes), ahead


@dataclass(frozen=True)
class FrozenBlocks:
    """Reads tokens [B, T] with what is frozen of an encoder, on the device where they are.

    Args:
        folder: of the encoder.
        blocks: of the top, which are trained.
    """

    folder: str
    blocks: int

    def __call__(self, x: Tensor, /) -> Tensor:
        """Read, [B, ...]."""
        head = {"classes": 1, "rng": torch.Generator()}  # which nobody asks
        net = build_pretrained((), **head, folder=self.folder, blocks=self.blocks)
        return net.place(str(x.device)).read_ahead(x)


def check_token_length(opened: EncoderFolder, length: int) -> None:
    """Refuse texts of more tokens than an encoder has places, or of none of their own."""
    least = opened.tokenizer.num_special_tokens_to_add() + 1
    if not least <= length <= opened.positions:
        raise ValueError(
            f"pretrained.length={length}, but the encoder reads {least} to {opened.positions} "
            "tokens; choose such a number"
        )


def check_tokens(opened: EncoderFolder, x_NT: Tensor) -> None:
    """Refuse whole numbers that are no tokens of an encoder, or more than it has places for."""
    check_token_length(opened, x_NT.shape[1])
    size = opened.module.config.vocab_size
    if int(x_NT.min()) < NO_TOKEN or int(x_NT.max()) >= size:
        raise ValueError(
            f"rows have numbers from {int(x_NT.min())} to {int(x_NT.max())}, but the encoder has "
            f"tokens from 0 to {size - 1}, and -1 for none; give texts, or its tokens"
        )


def describe_lengths(opened: EncoderFolder, texts: Sequence[str], length: int) -> str:
    """Say how many texts are longer than what is read of them, or how short all are."""
    counts = opened.count_tokens(texts)
    cut, most = sum(count > length for count in counts), max(counts, default=0)
    told = f"texts are read by the tokenizer of the encoder, {length} tokens each at most"
    if cut:
        return f"{told}: {cut} of {len(counts)} are longer and cut"
    if most < length:
        return f"{told}; none has more than {most}, and --pretrained.length {most} costs less"
    return told
