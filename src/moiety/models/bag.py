"""A bag of words: the mean of their embeddings, and a linear classifier on it.

Joulin et al., *Bag of Tricks for Efficient Text Classification*, arXiv:1607.01759, section 2,
without n-grams. Letters: B rows, T positions, V words, H hidden units, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.init import draw_uniform

PADDING = 0
"""The number of no word."""


def average_words(word_BTH: Tensor, x_BT: Tensor) -> Tensor:
    """Average what stands for the words that are there, [B, H]; 0 of a text without any."""
    there_BT = (x_BT != PADDING).to(word_BTH)
    total_BH = (word_BTH * there_BT[..., None]).sum(1)
    return total_BH / there_BT.sum(1, keepdim=True).clamp_min(1)


@dataclass(frozen=True)
class Bag:
    """Classifies a text by its words, in any order; runs on any piece of itself.

    Args:
        params: ``words`` [V, H], ``head.w`` [C, H], ``head.b`` [C].
        axes: the hidden units.
    """

    params: Params
    axes: Axes
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        words, hidden = self.params["words"].shape
        classes = len(self.params["head.b"])
        return {"kind": "bag", "words": words, "hidden": hidden, "classes": classes}

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        words, hidden = self.params["words"].shape
        return make_bag(words, hidden, len(self.params["head.b"]), rng).params

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Average the embeddings of the words that are there, [B, H]."""
        return average_words(F.embedding(batch["x"], params["words"]), batch["x"])

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        del kept
        return F.linear(self.features(params, batch), params["head.w"], params["head.b"])

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}


def make_bag(words: int, hidden: int, classes: int, rng: Generator) -> Bag:
    """Make a bag of words.

    Args:
        words: numbers of words, that of no word among them.
        hidden: length of an embedding.
        classes: number of classes.
        rng: the stream of its first values.

    >>> import torch
    >>> bag = make_bag(5, 3, 2, torch.Generator().manual_seed(0))
    >>> x = torch.tensor([[1, 4, 0], [4, 1, 0], [0, 0, 0]])
    >>> one, other, nothing = bag.features(bag.params, {"x": x})
    >>> torch.allclose(one, other), nothing.tolist()
    (True, [0.0, 0.0, 0.0])
    """
    if min(words, hidden, classes) < 1:
        raise ValueError(f"{words=}, {hidden=}, {classes=}; give at least one of each")
    params = {
        "words": draw_uniform((words, hidden), 1, rng),
        "head.w": draw_uniform((classes, hidden), hidden, rng),
        "head.b": draw_uniform((classes,), hidden, rng),
    }
    return Bag(params, {"words": (None, "h1"), "head.w": (None, "h1"), "head.b": (None,)})


def build_bag(shape: Sequence[int], classes: int, rng: Generator, *, hidden: int = 32) -> Bag:
    """Make a bag of words: the mean of their embeddings, classified.

    Args:
        shape: positions of a row, and numbers of words.
        classes: number of classes.
        rng: the stream of its first values.
        hidden: length of an embedding.
    """
    return make_bag(shape[1], hidden, classes, rng)


def rebuild_bag(rng: Generator, words: int, hidden: int, classes: int) -> Bag:
    """Make a bag of words as its ``config()`` says."""
    return make_bag(words, hidden, classes, rng)
