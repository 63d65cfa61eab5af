"""What a node keeps on its disk between letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from moiety.core.files import replace_file
from moiety.core.keys import replace_secret_file
from moiety.core.state import Job
from moiety.core.types import Memory
from moiety.engine.letters import list_sections, read_letter, write_letter


@dataclass(frozen=True)
class Shelf:
    """What a node keeps on its disk, of the run that it saw last.

    Memory is kept as it was before the last job, too: a job that is asked again, because its
    server was killed, begins where it began, and its reply is the same to the bit. The last answer
    is kept too: a server that is back asks for what is at work still, which is not done twice.
    """

    folder: Path

    def read_memory(self, job: Job, note: Mapping[str, Any]) -> Memory:
        """Give what the worker kept when the job's round began."""
        path = self.folder / "memory"
        if not path.is_file():
            return {}
        try:
            head, tree = read_letter(path.read_bytes())
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged ({error}); remove it, and the worker goes on without what it "
                "kept"
            ) from error
        if head["run"] != note["run"]:
            return {}
        if head["round"] > job.round:
            raise ValueError(
                f"round {job.round + 1} is asked, but this node has gone on to round "
                f"{head['round'] + 1} of the run; begin the run in a new folder"
            )
        return tree.get("before" if head["round"] == job.round else "after", {})

    def write_memory(self, job: Job, note: Mapping[str, Any], after: Memory) -> None:
        """Keep what the worker keeps."""
        before = self.read_memory(job, note)
        if not after and not before:
            return
        head = {"run": note["run"], "round": job.round}
        sections = [*list_sections("before", before), *list_sections("after", after or before)]
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / "memory", write_letter(head, sections))

    def read_known(self, note: Mapping[str, Any], round_index: int) -> Mapping[str, Tensor]:
        """Give what the question of a round brought, which is not sent again with the job."""
        path = self.folder / "known"
        if not path.is_file():
            return {}
        head, tree = read_letter(path.read_bytes())
        here = head["run"] == note["run"] and head["round"] == round_index
        return tree.get("piece", {}) if here else {}

    def write_known(self, job: Job, note: Mapping[str, Any]) -> None:
        """Keep what a question brought."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = [(["piece", name], t) for name, t in job.piece.items()]
        head = {"run": note["run"], "round": job.round}
        replace_file(self.folder / "known", write_letter(head, tensors))

    def read_answer(self, asked: bytes) -> bytes:
        """Give the last answer, if it is to this question."""
        path = self.folder / "answer"
        if not path.is_file():
            return b""
        head, _, answer = path.read_bytes().partition(b"\n")
        return answer if head == asked else b""

    def write_answer(self, asked: bytes, answer: bytes) -> None:
        """Keep an answer, beside its question; it may hold shares of what others keep secret."""
        replace_secret_file(self.folder / "answer", asked + b"\n" + answer)
