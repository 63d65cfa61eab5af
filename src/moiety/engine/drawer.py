"""Replies of the round that is being played, on disk: a server that is killed goes on from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from moiety.core.files import digest_bytes, replace_file
from moiety.core.state import Job


@dataclass
class Drawer:
    """Keeps replies by the letters that they answer; those of rounds before are thrown away.

    A letter has all that a reply is a function of. So a reply is found again only where the very
    same is asked, whatever happened in between.

    Args:
        folder: to keep them in.
        asked: kind and worker -> digest of the letter that was sent.
        oldest: round before whose everything was thrown away.
    """

    folder: Path
    asked: dict[tuple[str, int], str] = field(default_factory=dict)
    oldest: int = -1

    def find(self, kind: str, job: Job, letter: bytes) -> bytes | None:
        """Find the reply to a letter; one whose file was changed is asked for again."""
        path = self.place(kind, job, digest_bytes(letter))
        told, _, data = path.read_bytes().partition(b"\n") if path.is_file() else (b"", b"", b"")
        return data if told == digest_bytes(data).encode() else None

    def expect(self, kind: str, job: Job, letter: bytes) -> None:
        """Remember what was asked."""
        self.asked[kind, job.worker] = digest_bytes(letter)

    def keep(self, kind: str, job: Job, data: bytes) -> None:
        """Keep a reply; it is there whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.place(kind, job, self.asked.pop((kind, job.worker)))
        replace_file(path, digest_bytes(data).encode() + b"\n" + data)

    def place(self, kind: str, job: Job, digest: str) -> Path:
        """Say where the reply to a letter lies."""
        return self.folder / f"{job.round:08d}-{kind}-{job.worker}-{digest[:32]}"

    def place_sum(self, kind: str, round_index: int) -> Path:
        """Say where it lies how far a secure sum has come."""
        return self.folder / f"{round_index:08d}-{kind}-sum"

    def drop_before(self, round_index: int) -> None:
        """Throw away what is of rounds before one."""
        if self.oldest >= round_index or not self.folder.is_dir():
            return
        self.oldest = round_index
        for path in self.folder.iterdir():
            if path.name < f"{round_index:08d}-":
                path.unlink()
