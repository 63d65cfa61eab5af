"""What is said of a model's answers: classes of rows, or how well a text was foreseen.

Letters: B rows, N rows or nodes, P positions, T positions of a window, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from moiety.core.errors import RunError
from moiety.data.dataset import Dataset
from moiety.ops.text import columns
from moiety.tasks.losses import UNSCORED


class Answers(Protocol):
    """The answers for one file."""

    def text(self) -> str:
        """Say them."""
        ...

    def plain(self) -> Mapping[str, Any]:
        """Give them as plain data."""
        ...

    def lines(self) -> Iterable[Sequence[str]]:
        """List them, the header first."""
        ...

    def what(self) -> str:
        """Name the lines and count them."""
        ...


@dataclass(frozen=True)
class RowAnswers:
    """A class for each row or node.

    Args:
        classes: of the model.
        names: the class of each row.
        sure: its probability, [N].
        accuracy: the share that is right, where there are labels.
    """

    classes: tuple[str, ...]
    names: Sequence[str]
    sure: Tensor
    accuracy: float | None

    def counts(self) -> Mapping[str, int]:
        """Count the rows of each class that was found."""
        found = set(self.names)
        return {name: self.names.count(name) for name in self.classes if name in found}

    def text(self) -> str:
        rows = [[name, str(count)] for name, count in self.counts().items()]
        told = columns([["class", "rows"], *rows])
        if self.accuracy is None:
            return told
        return f"{told}\n\naccuracy on the labels in the file: {self.accuracy:.4f}"

    def plain(self) -> Mapping[str, Any]:
        return {
            "rows": len(self.names),
            "counts": dict(self.counts()),
            "accuracy": self.accuracy,
            "classes": list(self.names),
        }

    def lines(self) -> Iterable[Sequence[str]]:
        yield "class", "probability"
        yield from zip(self.names, (f"{p:.6f}" for p in self.sure.tolist()), strict=True)

    def what(self) -> str:
        return f"classes of {len(self.names)} rows"


def answers_of(told: Iterable[Tensor], data: Dataset, classes: tuple[str, ...]) -> RowAnswers:
    """Sum up log-probabilities of rows or nodes, [N, C] in chunks."""
    sure, guess = torch.cat(list(told)).exp().max(-1)
    names = [classes[place] for place in guess.tolist()]
    return RowAnswers(classes, names, sure, accuracy(names, data, classes))


def accuracy(names: Sequence[str], data: Dataset, classes: tuple[str, ...]) -> float | None:
    """Compare with the labels of the file by name, where it has some.

    Raises:
        RunError: if a label is no class of the model.
    """
    if data.y is None:
        return None
    pairs = [
        (data.classes[place], name)
        for place, name in zip(data.y.tolist(), names, strict=True)
        if place != UNSCORED
    ]
    unknown = sorted({truth for truth, _ in pairs} - set(classes))
    if unknown:
        raise RunError(
            f"labels {unknown[:5]} are not among the model's classes {tuple(classes)}; "
            "name the right column with --target"
        )
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


@dataclass(frozen=True)
class TextAnswers:
    """The next character at every position of a text.

    Args:
        known: the alphabet.
        truth: the character that came, [P].
        given: its log-probability, [P].
        guess: the likeliest, [P].
        sure: its log-probability, [P].
    """

    known: tuple[str, ...]
    truth: Tensor
    given: Tensor
    guess: Tensor
    sure: Tensor

    @classmethod
    def of(cls, told: Iterable[Tensor], data: Dataset, known: tuple[str, ...]) -> TextAnswers:
        """Sum up log-probabilities of windows, [N, T, C] in chunks, with what followed each."""
        assert data.y is not None
        parts, begun = [], 0
        for told_BTC in told:
            y_BT = data.y[begun : begun + len(told_BTC)]
            here, begun = y_BT != UNSCORED, begun + len(told_BTC)
            scores_PC, y_P = told_BTC[here], y_BT[here]
            given = scores_PC.gather(-1, y_P[:, None])[:, 0]
            sure, guess = scores_PC.max(-1)
            parts.append((y_P, given, guess, sure))
        return cls(known, *(torch.cat(some) for some in zip(*parts, strict=True)))

    @property
    def nats(self) -> float:
        """The loss: mean of -log p over the characters that came."""
        return -float(self.given.double().sum()) / len(self.given)

    @property
    def accuracy(self) -> float:
        """The share of positions whose likeliest character came."""
        return int((self.guess == self.truth).sum()) / len(self.truth)

    def text(self) -> str:
        head = ["characters", "nats a character", "bits a character", "next one right"]
        bits = f"{self.nats / math.log(2):.4f}"
        return columns([head, [str(len(self.truth)), f"{self.nats:.4f}", bits, self.share()]])

    def share(self) -> str:
        """Give the share that is right, in percent."""
        return f"{100 * self.accuracy:.1f} %"

    def plain(self) -> Mapping[str, Any]:
        return {
            "characters": len(self.truth),
            "nats": self.nats,
            "bits": self.nats / math.log(2),
            "accuracy": self.accuracy,
        }

    def lines(self) -> Iterable[Sequence[str]]:
        yield "character", "predicted", "probability", "character_probability"
        both = self.sure.exp().tolist(), self.given.exp().tolist()
        for truth, guess, p, q in zip(self.truth.tolist(), self.guess.tolist(), *both, strict=True):
            yield self.known[truth], self.known[guess], f"{p:.6f}", f"{q:.6f}"

    def what(self) -> str:
        return f"{len(self.truth)} characters, one a line"
