"""Texts as rows of a pretrained encoder's tokens. Letters: N rows, T positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from moiety.data.columns import Column
from moiety.models.pretrained import NO_TOKEN, check_mark


@dataclass(frozen=True)
class TokenEncoding:
    """How a column of texts becomes tokens, int64 [N, T], -1 where there is none.

    Nothing is fitted: the tokenizer is the encoder's own.

    Args:
        column: of the texts.
        folder: of the encoder.
        length: tokens of a text that are read, the first.
        mark: tells the encoder from others.
        vocabulary: tokens that it knows.
    """

    kind: ClassVar[str] = "tokens"
    unit: ClassVar[str] = "tokens"
    column: str
    folder: str
    length: int
    mark: str
    vocabulary: int

    @property
    def needed(self) -> Mapping[str, bool]:
        return {self.column: True}

    def names(self) -> tuple[str, ...]:
        return ()

    def measures(self) -> Tensor:
        return torch.ones(0, dtype=torch.bool)

    def fit(self, columns: Mapping[str, Column], rows: np.ndarray | None = None) -> TokenEncoding:
        del columns, rows
        return self

    def apply(self, columns: Mapping[str, Column]) -> Tensor:
        texts = [text or "" for text in columns[self.column].words()]
        tokens = check_mark(self.folder, self.mark).tokenize(texts, self.length)
        found = torch.full((len(texts), self.length), NO_TOKEN)
        for row, some in enumerate(tokens):
            found[row, : len(some)] = torch.tensor(some)
        return found

    def to_json(self) -> Mapping[str, Any]:
        return {"kind": self.kind, **vars(self)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> TokenEncoding:
        """Read what ``to_json`` wrote."""
        return cls(**{name: value for name, value in raw.items() if name != "kind"})
