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
from moiety.core.objective import Objective
from moiety.data.dataset import Dataset
from moiety.ops.text import align_columns
from moiety.tasks.losses import UNSCORED


class Predictions(Protocol):
    """The answers for one file."""

    def text(self) -> str:
        """Say them."""
        ...

    def to_plain(self) -> Mapping[str, Any]:
        """Give them as plain data."""
        ...

    def lines(self) -> Iterable[Sequence[str]]:
        """List them, the header first."""
        ...

    def describe(self) -> str:
        """Name the lines and count them."""
        ...


@dataclass(frozen=True)
class RowPredictions:
    """A class for each row or node.

    Args:
        classes: of the model.
        names: the class of each row.
        confidence: its probability, [N].
        accuracy: the share that is right, where there are labels.
    """

    classes: tuple[str, ...]
    names: Sequence[str]
    confidence: Tensor
    accuracy: float | None

    def counts(self) -> Mapping[str, int]:
        """Count the rows of each class that was found."""
        found = set(self.names)
        return {name: self.names.count(name) for name in self.classes if name in found}

    def text(self) -> str:
        rows = [[name, str(count)] for name, count in self.counts().items()]
        told = align_columns([["class", "rows"], *rows])
        if self.accuracy is None:
            return told
        return f"{told}\n\naccuracy on the labels in the file: {self.accuracy:.4f}"

    def to_plain(self) -> Mapping[str, Any]:
        return {
            "rows": len(self.names),
            "counts": dict(self.counts()),
            "accuracy": self.accuracy,
            "classes": list(self.names),
        }

    def lines(self) -> Iterable[Sequence[str]]:
        yield "class", "probability"
        yield from zip(self.names, (f"{p:.6f}" for p in self.confidence.tolist()), strict=True)

    def describe(self) -> str:
        return f"classes of {len(self.names)} rows"


@dataclass(frozen=True)
class ValuePredictions:
    """Values for each row: numbers in the target's unit, or whether it has each label.

    Args:
        objective: of the model.
        answer: of the model, [N, K].
        metrics: by name, where the file has targets.
    """

    objective: Objective
    answer: Tensor
    metrics: Mapping[str, float]

    def columns(self) -> Mapping[str, Tensor]:
        """Give what is told of each row: values, and of labels their probabilities too, [N]."""
        decided, names = self.objective.decide(self.answer), self.objective.names
        found = {name: decided[:, place] for place, name in enumerate(names)}
        if self.objective.log_probabilities:
            sure = self.answer.exp()
            found |= {f"{name}_probability": sure[:, place] for place, name in enumerate(names)}
        return found

    def text(self) -> str:
        names, decided = self.objective.names, self.objective.decide(self.answer).double()
        head = ["target", "mean", "least", "most"]
        rows = [
            [name, *(f"{float(one):.4g}" for one in (column.mean(), column.min(), column.max()))]
            for name, column in zip(names, decided.T, strict=True)
        ]
        told = [f"{name} on the targets in the file: {x:.4f}" for name, x in self.metrics.items()]
        return "\n".join([align_columns([head, *rows]), *(["", *told] if told else [])])

    def to_plain(self) -> Mapping[str, Any]:
        return {
            "rows": len(self.answer),
            "metrics": dict(self.metrics),
            **{name: column.tolist() for name, column in self.columns().items()},
        }

    def lines(self) -> Iterable[Sequence[str]]:
        found = self.columns()
        yield tuple(found)
        for row in zip(*(column.tolist() for column in found.values()), strict=True):
            yield tuple(f"{value:.6g}" for value in row)

    def describe(self) -> str:
        return f"{self.objective.name} of {len(self.answer)} rows"


def predict_rows(told: Iterable[Tensor], data: Dataset, objective: Objective) -> Predictions:
    """Sum up answers for rows or nodes, [N, ...] in chunks."""
    answer = torch.cat(list(told))
    if not objective.categorical:
        return ValuePredictions(objective, answer, measure_file(answer, data, objective))
    sure, guess = answer.exp().max(-1)
    classes = objective.names
    names = [classes[place] for place in guess.tolist()]
    return RowPredictions(classes, names, sure, measure_file_accuracy(names, data, classes))


def measure_file(answer: Tensor, data: Dataset, objective: Objective) -> Mapping[str, float]:
    """Score answers by the targets of a file, where it has some.

    Raises:
        RunError: if they are no targets of the model.
    """
    if data.y is None:
        return {}
    try:
        scored = objective.select(answer, objective.check(order_targets(data, objective.names)))
    except ValueError as error:
        raise RunError(f"{error}; name the right columns with --target") from error
    return {one.name: one.value(one.sums(*scored)) for one in objective.metrics}


def order_targets(data: Dataset, names: Sequence[str]) -> Tensor:
    """Bring several targets into the order of the model, where a file has the same by name."""
    assert data.y is not None
    found = list(data.roles.targets)
    if found == list(names) or sorted(found) != sorted(names) or data.y.ndim < 2:
        return data.y
    return data.y[:, [found.index(name) for name in names]]


def measure_file_accuracy(
    names: Sequence[str], data: Dataset, classes: tuple[str, ...]
) -> float | None:
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
class TextPredictions:
    """The next character at every position of a text.

    Args:
        known: the alphabet.
        truth: the character that came, [P].
        given: its log-probability, [P].
        predicted: the likeliest, [P].
        confidence: its log-probability, [P].
    """

    known: tuple[str, ...]
    truth: Tensor
    given: Tensor
    predicted: Tensor
    confidence: Tensor

    @classmethod
    def of(cls, told: Iterable[Tensor], data: Dataset, known: tuple[str, ...]) -> TextPredictions:
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
        return int((self.predicted == self.truth).sum()) / len(self.truth)

    def text(self) -> str:
        head = ["characters", "nats a character", "bits a character", "next one right"]
        bits = f"{self.nats / math.log(2):.4f}"
        return align_columns([head, [str(len(self.truth)), f"{self.nats:.4f}", bits, self.share()]])

    def share(self) -> str:
        """Give the share that is right, in percent."""
        return f"{100 * self.accuracy:.1f} %"

    def to_plain(self) -> Mapping[str, Any]:
        return {
            "characters": len(self.truth),
            "nats": self.nats,
            "bits": self.nats / math.log(2),
            "accuracy": self.accuracy,
        }

    def lines(self) -> Iterable[Sequence[str]]:
        yield "character", "predicted", "probability", "character_probability"
        both = self.confidence.exp().tolist(), self.given.exp().tolist()
        for truth, guess, p, q in zip(
            self.truth.tolist(), self.predicted.tolist(), *both, strict=True
        ):
            yield self.known[truth], self.known[guess], f"{p:.6f}", f"{q:.6f}"

    def describe(self) -> str:
        return f"{len(self.truth)} characters, one a line"
