"""Texts as windows of tokens: a row's labels are the tokens that follow."""

from __future__ import annotations

import gzip

import torch
from torch import Tensor

from moiety.data.dataset import Dataset
from moiety.data.shelf import find

CONTEXT = 64
"""Characters of a window."""

HELD_OUT = 0.1
"""The last share of a text that is the test part."""


def windows(tokens: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Cut tokens into windows side by side, and the tokens that follow each; the rest is left.

    >>> windows(torch.arange(6), 2)[1].tolist()
    [[1, 2], [3, 4]]
    """
    count = (len(tokens) - 1) // context
    if count < 1:
        raise ValueError(f"{len(tokens)} tokens make no window of {context=}; choose a shorter one")
    end = count * context
    return tokens[:end].view(count, context), tokens[1 : end + 1].view(count, context)


def shakespeare(context: int = CONTEXT) -> Dataset:
    """Load tiny Shakespeare as characters, [17428, 64]; its last tenth is the test part.

    A class is a character, and its name is the character itself.
    """
    text = gzip.decompress(find("lm_tinyshakespeare.txt.gz").read_bytes()).decode("utf8")
    letters = sorted(set(text))
    place = {letter: number for number, letter in enumerate(letters)}
    x, y = windows(torch.tensor([place[letter] for letter in text]), context)
    return Dataset(
        name="shakespeare",
        x=x.clone(),
        y=y.clone(),
        classes=tuple(letters),
        test=torch.arange(len(x)) >= round(len(x) * (1 - HELD_OUT)),
        source="Karpathy 2015, char-rnn: plays of William Shakespeare",
        licence="public domain",
    )
