"""What a node does in a secure sum; its secrets lie on its disk until it has told its shares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moiety.core.keys import replace_secret_file
from moiety.core.state import Job, Reply
from moiety.engine.summed import (
    BOXES,
    KEYS,
    OPEN,
    SHARES,
    STEP,
    read_bytes_tensor,
    write_bytes_tensor,
)
from moiety.secure.ends import SumRule
from moiety.secure.session import Secrets, Session, mask_vectors, share_secrets, tell_shares


@dataclass(frozen=True)
class SumState:
    """What a node keeps between the letters of a sum.

    Args:
        name: of the sum.
        secrets: its own.
        keys: worker -> public keys; of all who take part.
        boxes: worker -> the box that it sent here.
    """

    name: str
    secrets: Secrets
    keys: Mapping[int, bytes]
    boxes: Mapping[int, bytes]


@dataclass(frozen=True)
class SumDrawer:
    """Where a node keeps what it tells nobody; nobody else may read the file.

    Args:
        path: of the file.
    """

    path: Path

    def write(self, state: SumState) -> None:
        """Keep the state of a sum."""
        one = state.secrets
        plain = {
            "name": state.name,
            "worker": one.worker,
            "masks": one.masks.hex(),
            "boxes_key": one.boxes.hex(),
            "seeds": {str(cell): seed.hex() for cell, seed in one.seeds.items()},
            "keys": {str(worker): key.hex() for worker, key in state.keys.items()},
            "boxes": {str(worker): box.hex() for worker, box in state.boxes.items()},
        }
        replace_secret_file(self.path, json.dumps(plain).encode())

    def read(self, name: str) -> SumState:
        """Give the state of a sum.

        Raises:
            ValueError: where it is not there: another sum was begun since, or its shares are told.
        """
        raw = json.loads(self.path.read_text(encoding="utf8")) if self.path.is_file() else {}
        if raw.get("name") != name:
            raise ValueError("this node has no secrets of that sum (any more)")
        seeds = {int(cell): bytes.fromhex(seed) for cell, seed in raw["seeds"].items()}
        keys = bytes.fromhex(raw["masks"]), bytes.fromhex(raw["boxes_key"])
        return SumState(
            name,
            Secrets(raw["worker"], *keys, seeds),
            {int(worker): bytes.fromhex(key) for worker, key in raw["keys"].items()},
            {int(worker): bytes.fromhex(box) for worker, box in raw["boxes"].items()},
        )


def open_session(state: SumState, job: Job, rule: SumRule) -> Session:
    """Say what all know of a sum."""
    cells = rule.find_cells(job.share.holders)
    return Session(state.name.encode(), cells.holders, rule.least, state.keys)


def answer_step(drawer: SumDrawer, job: Job, told: Mapping[str, Any], rule: SumRule) -> Reply:
    """Answer a letter of a sum that is no job.

    Args:
        drawer: keeps the node's secrets.
        job: what came: who takes part, and what all hold.
        told: the note on the sum.
        rule: what is summed.

    Raises:
        ValueError: for a step that must not be made.
    """
    step, name = told["step"], told["name"]
    if step == KEYS:
        state = SumState(name, Secrets(job.worker), {}, {})
        drawer.write(state)
        answer = {KEYS: state.secrets.tell_keys()}
    elif step == SHARES:
        state = drawer.read(name)
        if state.keys:
            raise ValueError("this node has shared its secrets in that sum already")
        keys = {int(worker): read_bytes_tensor(t) for worker, t in job.piece.items()}
        state = replace(state, keys=keys)
        drawn, boxes = share_secrets(state.secrets, open_session(state, job, rule))
        drawer.write(replace(state, secrets=drawn))
        answer = {str(worker): box for worker, box in boxes.items()}
    elif step == OPEN:
        state = drawer.read(name)
        drawer.path.unlink()  # whatever comes now: nobody is told a second time
        here = [int(worker) for worker in told["here"]]
        session = open_session(state, job, rule)
        shares = tell_shares(state.secrets, session, state.boxes, here)
        answer = {str(worker): share for worker, share in shares.items()}
    else:
        raise ValueError(f"a secure sum has no step {step!r}")
    tensors = {key: write_bytes_tensor(data) for key, data in answer.items()}
    return Reply(job.worker, job.share, {}, answer=tensors)


def take_boxes(drawer: SumDrawer, job: Job, note: Mapping[str, Any]) -> tuple[Job, SumState]:
    """Take the boxes of the others out of a job, and keep them.

    Raises:
        ValueError: for a job that would be answered without masks, or twice.
    """
    if STEP not in note or BOXES not in job.optimizer_state:
        raise ValueError("the run has secure sums, but the job came without what makes masks")
    state = drawer.read(note[STEP]["name"])
    if state.boxes:
        raise ValueError("this node has answered in that sum already")
    boxes = {int(w): read_bytes_tensor(t) for w, t in job.optimizer_state[BOXES].items()}
    state = replace(state, boxes=boxes)
    return replace(job, optimizer_state={}), state


def mask_reply(drawer: SumDrawer, job: Job, reply: Reply, state: SumState, rule: SumRule) -> Reply:
    """Mask what a worker sends; nothing where it has nothing to add up."""
    if not reply.answer:
        return reply
    session = open_session(state, job, rule)
    vectors = {int(cell): vector for cell, vector in reply.answer.items()}
    masked = mask_vectors(state.secrets, session, state.boxes.keys(), vectors)
    drawer.write(state)  # with the boxes: a second job of this sum is refused
    return replace(reply, answer={str(cell): vector for cell, vector in masked.items()})
