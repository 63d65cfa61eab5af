"""One worker after the other, one step after the other: the definition of right."""

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field

from moiety.core.rows import OpenRows
from moiety.core.solver import Solve
from moiety.core.state import Job, Reply
from moiety.core.types import Memory
from moiety.engine.work import run_job, run_steps, use_one_thread


@dataclass
class Serial:
    """Run jobs in a loop.

    Args:
        open: opens the rows of a worker.
        memory: what workers kept.
    """

    open: OpenRows
    memory: MutableMapping[int, Memory] = field(default_factory=dict)

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        with use_one_thread():
            for job in jobs:
                kept = self.memory.get(job.worker, {})
                reply, after = run_job(solve, job, self.open(job.worker), kept, run_steps)
                if after:
                    self.memory[job.worker] = after
                yield reply

    def close(self) -> None:
        """Hold nothing open."""
