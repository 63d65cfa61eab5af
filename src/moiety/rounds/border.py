"""Where the pieces of a round go out and its replies come back: those that are bad stay outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from moiety.core.axes import read_axis_lengths
from moiety.core.protocols import Method
from moiety.core.state import Job, Refusal, Reply
from moiety.core.types import Params
from moiety.core.wire import Wire
from moiety.rounds.judging import Judging, find_fault, find_odd_answers

ATTEMPTS = 2
"""How often a round is played where no reply is accepted; then the run ends."""

TOLD = 3
"""Refusals of a round that an error tells."""


@dataclass
class Border:
    """What is out, and what was refused; of one round.

    Args:
        judging: when a reply is refused.
        wire: how pieces pass.
        sent: worker -> its job, until its reply is there.
        refused: replies that were not let in.
    """

    judging: Judging
    wire: Wire
    sent: dict[int, Job] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)

    def send(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Let jobs out as their workers see them, and remember what was asked."""
        for job in jobs:
            self.sent[job.worker] = job
            yield self.wire.open(job)

    def admit(self, replies: Iterable[Reply]) -> Iterator[tuple[Job, Reply]]:
        """Let in the replies that are as they should be, with their jobs; write down the others."""
        for reply in replies:
            job = self.sent.pop(reply.worker, None)
            if job is None:
                self.refused.append(Refusal(reply.worker, "it was not asked"))
                continue
            try:
                read, reason = self.wire.read(job, reply), ""
            except ValueError as error:
                read, reason = reply, str(error)
            reason = reason or find_fault(job, read, self.judging)
            if reason:
                self.refused.append(Refusal(reply.worker, reason))
            else:
                yield job, read


def keep_sound_answers(
    answers: dict[int, Params], method: Method, params: Params, border: Border
) -> dict[int, Params]:
    """Leave out answers that the split could not read, and write them down."""
    lengths = read_axis_lengths(params, method.model.axes) if method.gated else {}
    odd = find_odd_answers(answers, lengths.get(method.gated or ""))
    border.refused += [Refusal(worker, reason) for worker, reason in odd.items()]
    return {worker: answer for worker, answer in answers.items() if worker not in odd}


def refuse_empty_round(number: int, refused: list[Refusal]) -> ValueError:
    """Say that a round has no reply to merge."""
    told = "; ".join(f"worker {one.worker}: {one.reason}" for one in refused[:TOLD])
    more = f"; and {len(refused) - TOLD} more" if refused[TOLD:] else ""
    return ValueError(
        f"round {number + 1}: no reply was accepted, {ATTEMPTS} times over ({told}{more})"
    )
