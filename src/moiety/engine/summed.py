"""Secure sums at nodes: four letters a round, and replies that only together say something.

The server forwards public keys and boxes, and gets vectors with masks. What is left of these in
the sums it takes off the vectors of one of those who replied: the others' stay as they came.

Who is in each step is on disk before the next one begins. So a server that was killed goes on with
the same sum of the same workers: two sums of one round would differ by whoever is in one alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.solver import Solve
from moiety.core.state import Job, Reply, Share
from moiety.core.transfers import Transfers
from moiety.core.types import Memory, Params
from moiety.engine.remote import Remote
from moiety.engine.sum_progress import SumProgress
from moiety.secure.ends import SumRule, is_of_form
from moiety.secure.opening import sum_masks
from moiety.secure.ring import wrap
from moiety.secure.session import Session

STEP, KEYS, SHARES, VECTORS, OPEN = "sum", "keys", "shares", "vectors", "open"
"""Of the note of a letter: which step of a sum it is; and the steps."""

BOXES = "boxes"
"""The section of a job in which the boxes of the others are."""


def write_bytes_tensor(data: bytes) -> Tensor:
    """Make a tensor of bytes."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def read_bytes_tensor(tensor: Tensor) -> bytes:
    """Read the bytes of a tensor.

    Raises:
        ValueError: for one that has none.
    """
    if tensor.dtype != torch.uint8 or tensor.ndim != 1:
        raise ValueError(f"bytes are asked, not {tensor.dtype} {list(tensor.shape)}")
    return tensor.numpy().tobytes()


@dataclass
class SumExchange:
    """One sum under way.

    Args:
        jobs: of the round.
        rule: what is summed.
        kind: how a letter calls what is carried out.
        progress: how far it has come, also before a stop.
        passed: worker -> bytes of keys, boxes and shares that it sent.
    """

    jobs: Mapping[int, Job]
    rule: SumRule
    kind: str
    progress: SumProgress
    passed: dict[int, int] = field(default_factory=dict)

    @property
    def faults(self) -> dict[int, str]:
        """Why a worker takes no part any more."""
        return self.progress.faults

    def note(self, step: str, **more: Any) -> dict[str, Any]:
        """Say what a letter is about."""
        return {STEP: {"step": step, "name": self.progress.name, "kind": self.kind, **more}}

    def read(self, replies: Iterable[Reply], keys: Collection[str], size: int = 0) -> dict:
        """Read bytes off the answers to a step; whose are not as asked is out.

        Args:
            replies: to the letters of a step.
            keys: names that each must have.
            size: of all their bytes; 0 for any.
        """
        found: dict[int, dict[str, bytes]] = {}
        for reply in replies:
            try:
                told = {name: read_bytes_tensor(t) for name, t in reply.answer.items()}
                sizes = {len(data) for data in told.values()}
                right = told.keys() == {*keys} and (not size or sizes == {size})
                fault = reply.fault or ("" if right else "its answer is not that of a secure sum")
            except ValueError as error:
                fault, told = str(error), {}
            if fault:
                self.faults[reply.worker] = fault
            else:
                found[reply.worker] = told
                passed = self.passed.get(reply.worker, 0)
                self.passed[reply.worker] = passed + sum(map(len, told.values()))
        return found

    def check(self, here: Collection[int], what: str) -> None:
        """Refuse to go on with too few.

        Raises:
            ValueError: with what they did.
        """
        if len(here) < self.rule.least:
            raise ValueError(
                f"of {len(self.jobs)} workers {len(here)} {what}, and a sum of fewer than "
                f"secure.threshold={self.rule.least} is not opened"
            )


@dataclass
class SummedRemote:
    """Run jobs at nodes; those of secure sums with masks.

    Args:
        remote: moves the letters.
        rules: of what is carried out, those that are sums.
    """

    remote: Remote
    rules: Sequence[tuple[Solve, SumRule]]

    @property
    def memory(self) -> MutableMapping[int, Memory]:
        return self.remote.memory

    @property
    def transfers(self) -> Transfers:
        return self.remote.transfers

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        rule = next((rule for one, rule in self.rules if one is solve), None)
        if rule is None:
            yield from self.remote.map(solve, jobs)
            return
        kind = next(name for one, name in self.remote.solves if one is solve)
        asked = {job.worker: job for job in jobs}
        if not asked:
            return
        path = self.remote.drawer.place_sum(kind, next(iter(asked.values())).round)
        exchange = SumExchange(asked, rule, kind, SumProgress.open(path))
        try:
            done = self.sum_replies(exchange)
        except ValueError as error:
            done = {}
            exchange.progress.give_up(exchange.jobs, str(error))
        for worker, job in exchange.jobs.items():
            fault = exchange.faults.get(worker, "")
            yield done[worker] if worker in done else Reply(worker, job.share, {}, fault=fault)

    def sum_replies(self, one: SumExchange) -> dict[int, Reply]:
        """Play one sum.

        Returns:
            The replies of those whose vectors came, of which the masks are off in the sum.

        Raises:
            ValueError: where too few are left, or what they told opens nothing.
        """
        session, boxes = self.share_keys(one)
        replies = self.collect_vectors(one, boxes)
        here = sorted(worker for worker, reply in replies.items() if reply.answer)
        one.check(here, "sent their vectors")
        one.progress.close_step(VECTORS, replies)
        holders = Share(holders=self.find_holders(one))
        told = self.ask(one, here, OPEN, (holders, {}), here=here)
        shares = {
            teller: {int(worker): share for worker, share in some.items()}
            for teller, some in one.read(told, [str(worker) for worker in boxes]).items()
        }
        late = {w: one.faults.pop(w) for w in here if w in one.faults}  # their vectors are there
        one.check(shares, f"told their shares ({'; '.join(late.values())})" if late else "told")
        sizes = {
            int(cell): len(vector)
            for worker in here
            for cell, vector in replies[worker].answer.items()
        }
        masks = sum_masks(session, here, shares, sizes)
        return take_off_masks(replies, here, masks, one.passed)

    def find_holders(self, one: SumExchange) -> Mapping[int, Any]:
        """Say what each worker of the round holds."""
        return next(iter(one.jobs.values())).share.holders

    def ask(
        self,
        one: SumExchange,
        workers: Collection[int],
        step: str,
        told: tuple[Share, Params],
        **more: Any,
    ) -> list[Reply]:
        """Send all the same letter of a step, and wait for the answers as long as for any."""
        plain = (one.jobs[worker] for worker in workers)
        jobs = [Job(job.seed, job.round, job.worker, *told) for job in plain]
        return list(self.remote.exchange(step, jobs, one.note(step, **more), one.rule.least))

    def share_keys(self, one: SumExchange) -> tuple[Session, dict[int, dict[int, bytes]]]:
        """Let workers tell their public keys, and share what they tell nobody.

        Returns:
            The sum, and sender -> receiver -> box.
        """
        told = self.ask(one, one.progress.list_workers(KEYS, one.jobs), KEYS, (Share(), {}))
        keys = {w: some[KEYS] for w, some in one.read(told, [KEYS], 64).items()}
        one.check(keys, "told their keys")
        one.progress.close_step(KEYS, keys)
        holders = self.find_holders(one)
        cells = one.rule.find_cells(holders)
        session = Session(one.progress.name.encode(), cells.holders, one.rule.least, keys)
        roster = {str(worker): write_bytes_tensor(key) for worker, key in keys.items()}
        workers = one.progress.list_workers(SHARES, keys)
        told = self.ask(one, workers, SHARES, (Share(holders=holders), roster))
        found = one.read(told, [str(worker) for worker in keys])
        boxes = {w: {int(to): box for to, box in some.items()} for w, some in found.items()}
        one.check(boxes, "shared their secrets")
        one.progress.close_step(SHARES, boxes)
        return session, boxes

    def collect_vectors(
        self, one: SumExchange, boxes: Mapping[int, Mapping[int, bytes]]
    ) -> dict[int, Reply]:
        """Send the jobs, with the boxes of the others; vectors of another form are out."""
        jobs = []
        for worker in one.progress.list_workers(VECTORS, boxes):
            mine = {str(sender): write_bytes_tensor(some[worker]) for sender, some in boxes.items()}
            jobs.append(replace(one.jobs[worker], optimizer_state={BOXES: mine}))
        found = {}
        for reply in self.remote.exchange(one.kind, jobs, one.note(VECTORS), one.rule.least):
            job = one.jobs[reply.worker]
            plain = Reply(job.worker, job.share, {}, answer=reply.answer, record=reply.record)
            asked = one.rule.measure(job.share)
            if reply.fault:
                one.faults[reply.worker] = reply.fault
            elif reply.answer and not is_of_form(reply.answer, asked):
                one.faults[reply.worker] = "its vectors are not those of its cells"
            else:
                found[reply.worker] = plain
        return found

    def close(self) -> None:
        self.remote.close()


def take_off_masks(
    replies: Mapping[int, Reply],
    here: Collection[int],
    masks: Mapping[int, Tensor],
    passed: Mapping[int, int],
) -> dict[int, Reply]:
    """Take what is left of the masks off the vectors of one worker a cell."""
    done = {w: replace(one, beside_bytes=passed.get(w, 0)) for w, one in replies.items()}
    for cell, mask in masks.items():
        one = next(worker for worker in here if str(cell) in done[worker].answer)
        answer = done[one].answer
        free = wrap(answer[str(cell)].long() - mask).to(torch.int32)
        done[one] = replace(done[one], answer={**answer, str(cell): free})
    return done
