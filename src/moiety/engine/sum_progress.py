"""How far a secure sum has come, on disk: a server that was killed goes on with the same one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from moiety.core.errors import RunError
from moiety.core.files import replace_file


@dataclass
class SumProgress:
    """Who is in each step of a sum that is over.

    Args:
        path: of the file.
        name: of the sum; no other has it.
        closed: step -> its workers.
        faults: worker -> why it takes no part any more.
    """

    path: Path
    name: str = field(default_factory=lambda: secrets.token_hex(16))
    closed: dict[str, list[int]] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)

    @staticmethod
    def open(path: Path) -> SumProgress:
        """Open that of a sum that was under way, or of a new one.

        Raises:
            RunError: where the file is damaged.
        """
        if not path.is_file():
            new = SumProgress(path)
            new.write()
            return new
        try:
            raw = json.loads(path.read_text(encoding="utf8"))
            faults = {int(worker): fault for worker, fault in raw["faults"].items()}
            return SumProgress(path, raw["name"], raw["closed"], faults)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path} is damaged; delete it, and the round begins another secure sum"
            ) from error

    def list_workers(self, step: str, workers: Iterable[int]) -> list[int]:
        """List the workers of a step: those of before a stop, if it was over then."""
        return self.closed.get(step) or list(workers)

    def close_step(self, step: str, workers: Collection[int]) -> None:
        """Write down who is in a step: whoever is late is not in it, also after a stop."""
        self.closed[step] = list(workers)
        self.write()

    def write(self) -> None:
        """Keep it."""
        plain = {"name": self.name, "closed": self.closed, "faults": self.faults}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, json.dumps(plain).encode())

    def give_up(self, workers: Iterable[int], fault: str) -> None:
        """End a sum that cannot be opened: the next one of the round is another."""
        self.faults |= {worker: fault for worker in workers if worker not in self.faults}
        self.path.unlink(missing_ok=True)
