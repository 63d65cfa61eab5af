"""What a node does with a letter: it carries out the job on its own rows, and keeps its memory."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from moiety.core.errors import RunError, WorkerError
from moiety.core.files import digest_bytes
from moiety.core.keys import (
    KEY_FILE,
    derive_key,
    read_key,
    write_new_key,
)
from moiety.core.rows import Rows
from moiety.core.solver import Solve
from moiety.core.state import Job, Reply
from moiety.core.types import Memory
from moiety.core.wire import Wire
from moiety.engine.letters import read_job, write_reply
from moiety.engine.summed import KEYS, OPEN, SHARES, STEP
from moiety.engine.work import open_job_rows, run_job, run_steps_in_place, use_one_thread
from moiety.federation.node import NodeConfig
from moiety.federation.shelf import Shelf
from moiety.federation.sums import SumDrawer, answer_step, mask_reply, take_boxes
from moiety.ops.text import hide_controls
from moiety.recipes.build import RunInputs, build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.options import get_options
from moiety.recipes.own_rows import OwnRowsError, open_own_rows
from moiety.recipes.prepare import stamp_files
from moiety.recipes.record import Federation
from moiety.recipes.source import stamp_file
from moiety.secure.ends import find_sum_rule
from moiety.solve.private import PrivateDescent

QUERY, SOLVE = "query", "solve"
"""How a letter calls a question and a job, before the number of the stage."""


def name_solves(built: RunInputs) -> list[tuple[Solve, str]]:
    """Name all that workers of a run are asked to carry out."""
    found: list[tuple[Solve, str]] = []
    for place, stage in enumerate(built.stages):
        found.append((stage.method.solve, f"{SOLVE}{place}"))
        if stage.method.query is not None:
            found.append((stage.method.query.solve, f"{QUERY}{place}"))
    return found


def list_wires(built: RunInputs) -> list[Wire]:
    """List how the pieces of each of these pass."""
    found: list[Wire] = []
    for stage in built.stages:
        found += [stage.method.wire] * (1 if stage.method.query is None else 2)
    return found


@dataclass(frozen=True)
class Desk:
    """Where a node works.

    Args:
        node: whose it is.
    """

    node: NodeConfig

    def answer(self, letter: bytes) -> bytes:
        """Answer a letter.

        Returns:
            A letter with a reply; one with a ``fault`` where the job cannot be done.

        Raises:
            ValueError: for bytes that are no job.
        """
        shelf, asked = Shelf(self.node.folder), self.name_question(letter)
        kept = shelf.read_answer(asked)
        if kept:
            return kept
        job, note = read_job(letter, shelf.read_known)
        try:
            if note["kind"] in (KEYS, SHARES, OPEN):
                answer = self.answer_sum(job, note)
                shelf.write_answer(asked, answer)
                return answer
            job, (reply, after) = self.work(job, note, shelf)
        except (RunError, WorkerError, ValueError, OSError, ImportError) as error:
            return write_reply(Reply(job.worker, job.share, {}, fault=self.tell(error)))
        shelf.write_memory(job, note, after)
        if str(note["kind"]).startswith(QUERY):
            shelf.write_known(job, note)
        answer = write_reply(reply)
        shelf.write_answer(asked, answer)
        return answer

    def tell(self, error: Exception) -> str:
        """Say to the server why a job is not done; words that may quote rows, to our log alone."""
        logging.getLogger(__name__).warning("%s", hide_controls(f"{self.node.name}: {error}"))
        if isinstance(error, OwnRowsError):
            return f"the rows of {self.node.name!r} cannot be read; its own log (desk.log) says why"
        return str(error)

    def name_question(self, letter: bytes) -> bytes:
        """Name all that an answer is made of: the letter, and the files as they are now."""
        node = self.node
        here = repr((node, stamp_file(node.data, node.test, node.rows))).encode()
        return digest_bytes(letter + here).encode()

    def work(
        self, job: Job, note: Mapping[str, Any], shelf: Shelf
    ) -> tuple[Job, tuple[Reply, Memory]]:
        """Carry out a job; give it back opened."""
        record, built, now = self.open_run(note)
        found = find_choice(built, note["method"], note["kind"])
        if built.data_fingerprint != note["data"]:
            raise ValueError(
                f"the data of {self.node.name!r}, {self.node.data!r}, are not those of the "
                "server's run"
            )
        refuse_other_rows(self.node, own=note["own"])
        if not note["own"]:
            rows = open_job_rows(built.open, job)
        else:
            stamps = (now, stamp_file(self.node.rows))
            rows = keep_own_rows(record, note["method"], note["seed"], self.node.rows, stamps)
        kept = shelf.read_memory(job, note)
        solve = lend_key(found[0], self.node, note["run"])
        rule = find_sum_rule(found[1]) if job.share.holders else None
        job, state = take_boxes(self.drawer, job, note) if rule else (job, None)
        job = found[1].open(job)
        with use_one_thread():
            reply, after = run_job(solve, job, rows, kept, run_steps_in_place)
        if rule and state:
            reply = mask_reply(self.drawer, job, reply, state, rule)
        return job, (reply, after)

    def open_run(self, note: Mapping[str, Any]) -> tuple[Federation, RunInputs, tuple[int, ...]]:
        """Give the recipe of a letter with this node's files, the run, and the files' stamp.

        Raises:
            ValueError: for a letter to another node.
        """
        if note["name"] != self.node.name:
            raise ValueError(
                f"the job is for {note['name']!r}, but this node is {self.node.name!r}"
            )
        record = place_files(override_fields(Federation(), note["fields"]), self.node)
        now = stamp_files(record)
        return record, keep_inputs(record, note["method"], note["seed"], now), now

    @property
    def drawer(self) -> SumDrawer:
        """Where the secrets of a secure sum lie."""
        return SumDrawer(self.node.folder / "sum")

    def answer_sum(self, job: Job, note: Mapping[str, Any]) -> bytes:
        """Answer a letter of a secure sum that is no job."""
        _, built, _ = self.open_run(note)
        rule = find_sum_rule(find_choice(built, note["method"], note[STEP]["kind"])[1])
        if rule is None:
            raise ValueError("the run has no secure sums")
        return write_reply(answer_step(self.drawer, job, note[STEP], rule))


def find_choice(built: RunInputs, method: str, kind: str) -> tuple[Solve, Wire]:
    """Find what a letter asks for.

    Raises:
        ValueError: for what the method has not.
    """
    named = zip(name_solves(built), list_wires(built), strict=True)
    found = next(((one, wire) for (one, name), wire in named if name == kind), None)
    if found is None:
        raise ValueError(f"{method} has nothing called {kind!r}")
    return found


def lend_key(solve: Solve, node: NodeConfig, run: str) -> Solve:
    """Give a private solver a key of the run, made of the node's own, which never leaves it."""
    if not isinstance(solve, PrivateDescent):
        return solve
    path = node.folder / KEY_FILE
    return replace(solve, key=derive_key(read_key(path) or write_new_key(path), run))


def place_files(record: Federation, node: NodeConfig) -> Federation:
    """Read what a run reads from where the node has it: a server names no file of a node.

    Raises:
        ValueError: where the node does not say where something is.
    """
    base = get_options(record.options, record.net).get("folder")
    model = base or record.common.model
    for used, here, key in ((record.test, node.test, "test"), (model, node.model, "model")):
        if bool(used) != bool(here):
            raise ValueError(
                f"the run has {used!r} as {key}, the node {here!r}; say in the node's "
                f'configuration {key}="PATH" where the run has one, and nothing where it has none'
            )
    placed = replace(record, data=node.data, test=node.test)
    if record.common.model:
        placed = replace(placed, common=replace(record.common, model=node.model))
    return override_fields(placed, {record.net: {"folder": node.model}}) if base else placed


def refuse_other_rows(node: NodeConfig, *, own: bool) -> None:
    """Refuse to train on rows of the recipe's data where a node has rows of its own, or without."""
    if own and not node.rows:
        raise ValueError(
            f"the run trains on rows that only nodes have, but {node.name!r} names none; say in "
            'the node\'s configuration rows="FILE"'
        )
    if node.rows and not own:
        raise ValueError(
            f"{node.name!r} has rows of its own, but the run trains on those of the recipe's data; "
            'say in its plan rows = "own", or leave rows out of the node\'s configuration'
        )


@functools.lru_cache(maxsize=2)
def keep_inputs(record: Federation, method: str, seed: int, now: tuple[int, ...]) -> RunInputs:
    """Build a run once for all letters of it, of the data file as it is ``now``."""
    del now
    return build_run(record, method, seed)


Stamps: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]


@functools.lru_cache(maxsize=2)
def keep_own_rows(record: Federation, method: str, seed: int, path: str, stamps: Stamps) -> Rows:
    """Read the rows that a node alone has once, as they are by the ``stamps`` of all files."""
    return open_own_rows(record, keep_inputs(record, method, seed, stamps[0]).method, seed, path)
