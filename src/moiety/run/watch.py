"""Those who look on while a run writes its ledger: a progress line, TensorBoard."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from moiety.core.ledger import End, Evaluation, LedgerEntry, Round, Start
from moiety.ops.text import hide_controls
from moiety.recipes.common import Epoch
from moiety.rounds.meter import SECTIONS
from moiety.run.evaluate import average_metric


@dataclass
class Progress:
    """A bar with the time left on a terminal, a line a round elsewhere.

    Args:
        label: of the run.
        rounds: of the whole run.
        done: rounds played before.
        out: where to write.
    """

    label: str
    rounds: int
    done: int = 0
    out: TextIO = field(default_factory=lambda: sys.stderr)
    bar: Any = None
    last: str = ""

    def __call__(self, entry: LedgerEntry, /) -> None:
        if isinstance(entry, Evaluation):
            self.last = hide_controls(describe_groups(entry))
        if not self.out.isatty():
            self.line(entry)
        elif isinstance(entry, Round):
            if self.bar is None:
                self.bar = tqdm(
                    total=self.rounds,
                    initial=self.done,
                    desc=hide_controls(self.label),
                    file=self.out,
                    unit="round",
                )
            self.bar.set_postfix_str(self.last, refresh=False)
            self.bar.update(1)
        elif isinstance(entry, End) and self.bar is not None:
            self.bar.set_postfix_str(self.last)
            self.bar.close()

    def line(self, entry: LedgerEntry) -> None:
        """Write a line for an entry."""
        if isinstance(entry, Round):
            said = f"round {entry.round}/{self.rounds}, loss {entry.loss_mean:.4f}"
            text = f"{self.label}: {said}, {entry.seconds:.2f} s{describe_epsilon(entry)}"
        elif isinstance(entry, Evaluation) and self.last:  # nobody may be there to be scored on
            text = f"{self.label}: after round {entry.round}, {self.last}"
        else:
            return
        print(hide_controls(text), file=self.out)


def describe_epsilon(entry: Round) -> str:
    """Say what all rounds so far told of one worker, where that is counted."""
    return "" if entry.epsilon is None else f", epsilon {entry.epsilon:.4g}"


def describe_groups(entry: Evaluation) -> str:
    """Say the mean of each group's first metric."""
    means = {
        name: average_metric(entry, name, next(iter(group.metrics)))
        for name, group in entry.groups.items()
    }
    return ", ".join(f"{name} {mean:.3f}" for name, mean in means.items() if mean is not None)


@dataclass(frozen=True)
class Detailed:
    """A line for all that the ledger says: settings, rounds with seconds and bytes, every metric.

    Args:
        label: of the run.
        rounds: of the whole run.
        out: where to write; by default standard error.
    """

    label: str
    rounds: int
    out: TextIO | None = None

    def __call__(self, entry: LedgerEntry, /) -> None:
        said = describe_entry(entry, self.rounds)
        print(hide_controls(f"{self.label}: {said}"), file=self.out or sys.stderr)


def describe_entry(entry: LedgerEntry, rounds: int) -> str:
    """Say in a line what an entry of the ledger says."""
    if isinstance(entry, Start):
        return (
            f"engine {entry.engine}, device {entry.device}, {entry.num_parameters:,} parameters; "
            f"repeat with: {entry.command}"
        )
    if isinstance(entry, Round):
        spent = {name.removesuffix("_s"): getattr(entry, name) for name in SECTIONS}
        phases = ", ".join(f"{name} {seconds:.3f}" for name, seconds in spent.items())
        return (
            f"round {entry.round}/{rounds}, loss {entry.loss_mean:.4f}, {entry.seconds:.3f} s "
            f"({phases}), {entry.down_bytes:,} bytes down, {entry.up_bytes:,} up, "
            f"workers {' '.join(str(work.worker) for work in entry.workers)}"
            f"{describe_epsilon(entry)}"
        )
    if isinstance(entry, Evaluation):
        means = ", ".join(f"{name} {mean:.4f}" for name, mean in list_means(entry))
        return f"after round {entry.round}, {means}"
    return f"{entry.status} after round {entry.round}, {entry.seconds:.2f} s"


@dataclass(frozen=True)
class RefusalWarner:
    """Warns of every reply that was not merged.

    Args:
        label: of the run.
        out: where to write; by default standard error.
    """

    label: str
    out: TextIO | None = None

    def __call__(self, entry: LedgerEntry, /) -> None:
        if isinstance(entry, Round):
            for one in entry.refused:
                said = f"{self.label}: round {entry.round}, worker {one.worker} not merged"
                print(hide_controls(f"{said}: {one.reason}"), file=self.out or sys.stderr)


@dataclass
class CommonProgress:
    """How the training of a common expert goes: a bar on a terminal, a few lines elsewhere.

    Args:
        lines: epochs of which a line tells, at most, besides the first and the last; 0 for all,
            and then also on a terminal.
        out: where to write.
    """

    lines: int = 10
    out: TextIO = field(default_factory=lambda: sys.stderr)
    bar: Any = None

    def __call__(self, epoch: Epoch, /) -> None:
        if self.out.isatty() and self.lines:
            self.draw(epoch)
            return
        every = max(1, epoch.most // self.lines) if self.lines else 1
        if epoch.last or epoch.done % every == 0:
            print(describe_epoch(epoch), file=self.out)

    def draw(self, epoch: Epoch) -> None:
        """Draw the bar."""
        if not epoch.done:
            self.bar = tqdm(total=epoch.most, desc="common expert", file=self.out, unit="epoch")
        else:
            self.bar.set_postfix_str(f"{epoch.metric} {epoch.best:.3f}", refresh=False)
            self.bar.update(1)
        if epoch.last:
            self.bar.close()


def describe_epoch(epoch: Epoch) -> str:
    """Say in a line where the training of a common expert stands."""
    if not epoch.done:
        return f"common expert: {epoch.rows} rows, at most {epoch.most} epochs"
    where = f"{epoch.done} epochs, done" if epoch.last else f"epoch {epoch.done}/{epoch.most}"
    return f"common expert: {where}, best {epoch.metric} {epoch.best:.3f}"


@dataclass
class EventWriter:
    """Writes TensorBoard events, where tensorboardX is installed."""

    folder: Path
    done: int
    writer: Any = None

    def __call__(self, entry: LedgerEntry, /) -> None:
        if self.writer is None:
            self.writer = importlib.import_module("tensorboardX").SummaryWriter(
                str(self.folder), purge_step=self.done + 1, flush_secs=5
            )
        if isinstance(entry, Round | Evaluation):
            for name, value in list_values(entry):
                self.writer.add_scalar(name, value, entry.round)
        elif isinstance(entry, End):
            self.writer.close()


def list_values(entry: Round | Evaluation) -> Iterator[tuple[str, float]]:
    """List the numbers of an entry that is drawn by round, each with its name; finite ones."""
    if isinstance(entry, Evaluation):
        yield from list_means(entry)
        return
    for name in ("loss_mean", "seconds", "down_bytes", "up_bytes"):
        if math.isfinite(getattr(entry, name)):
            yield f"round/{name}", getattr(entry, name)
    if entry.epsilon is not None:
        yield "round/epsilon", entry.epsilon


def list_means(entry: Evaluation) -> Iterator[tuple[str, float]]:
    """List the mean of every metric of every group, as ``metric/group``, where there is one."""
    for group, found in entry.groups.items():
        for metric in found.metrics:
            mean = average_metric(entry, group, metric)
            if mean is not None and math.isfinite(mean):
                yield f"{metric}/{group}", mean


def make_event_writers(folder: Path, done: int) -> Sequence[EventWriter]:
    """Give the TensorBoard writer, or none where the extra is not installed."""
    with suppress(ImportError):
        importlib.import_module("tensorboardX")
        return [EventWriter(folder, done)]
    return []
