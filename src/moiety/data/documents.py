"""Texts as rows of words: a vocabulary that is fitted to training rows and kept with the model.

Letters: N rows, T positions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from moiety.data.columns import Column

WORD = re.compile(r"\w+|[^\w\s]")

PADDING, UNKNOWN = "", "?"
"""What stands for no word, and for a word that training does not have often enough."""

MOST, LEAST = 20_000, 2
"""Words of a vocabulary, and how often training must have one."""

LONGEST = 256
"""Words of a text that are read at most."""


def split_words(text: str | None) -> list[str]:
    """Split a text into words and marks, in small letters.

    >>> split_words("It's GOOD, really")
    ['it', "'", 's', 'good', ',', 'really']
    """
    return WORD.findall((text or "").lower())


@dataclass(frozen=True)
class DocumentEncoding:
    """How a column of texts becomes numbers of words, int64 [N, T].

    Args:
        column: of the texts.
        words: the vocabulary, in the order of its numbers; no word first, then unknown ones.
        length: words of a text that are read, the first.
    """

    kind: ClassVar[str] = "documents"
    unit: ClassVar[str] = "words"
    column: str
    words: tuple[str, ...] = (PADDING, UNKNOWN)
    length: int = 1

    @property
    def needed(self) -> Mapping[str, bool]:
        return {self.column: True}

    @property
    def vocabulary(self) -> int:
        return len(self.words)

    def names(self) -> tuple[str, ...]:
        return ()

    def measures(self) -> Tensor:
        return torch.ones(0, dtype=torch.bool)

    def fit(
        self, columns: Mapping[str, Column], rows: np.ndarray | None = None
    ) -> DocumentEncoding:
        texts = columns[self.column].words()
        known = texts if rows is None else [texts[row] for row in rows.tolist()]
        split = [split_words(text) for text in known]
        counts = Counter(word for words in split for word in words)
        often = sorted(counts, key=lambda word: (-counts[word], word))[:MOST]
        kept = [word for word in often if counts[word] >= LEAST and word != UNKNOWN]
        length = int(np.quantile([len(words) for words in split] or [1], 0.95).round())
        return DocumentEncoding(
            self.column, (PADDING, UNKNOWN, *kept), min(max(1, length), LONGEST)
        )

    def apply(self, columns: Mapping[str, Column]) -> Tensor:
        place = {word: number for number, word in enumerate(self.words)}
        found = np.zeros((len(columns[self.column].data), self.length), dtype=np.int64)
        for row, text in enumerate(columns[self.column].words()):
            words = split_words(text)[: self.length]
            found[row, : len(words)] = [place.get(word, 1) for word in words]
        return torch.from_numpy(found)

    def to_json(self) -> Mapping[str, Any]:
        return {
            "kind": self.kind,
            "column": self.column,
            "words": list(self.words),
            "length": self.length,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> DocumentEncoding:
        """Read what ``to_json`` wrote."""
        return cls(raw["column"], tuple(raw["words"]), raw["length"])


def are_texts(words: Sequence[str | None]) -> bool:
    """Tell texts from names: a few words each.

    >>> are_texts(["a good film", "it was bad", None]), are_texts(["Alice", "Bob"])
    (True, False)
    """
    counts = [len(split_words(text)) for text in words if text is not None]
    return sum(counts) >= 3 * len(counts) > 0
