"""What a planted bug is, and where it stands."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """One small bug.

    Args:
        area: the room it stands in.
        bug: what goes wrong.
        file: below ``src/moiety``, or from the root where it has a folder there.
        old: text that stands in the file once.
        new: what takes its place.
        test: what must notice, below ``tests``: a file, or ``file::function``; more by blanks.
    """

    area: str
    bug: str
    file: str
    old: str
    new: str
    test: str

    @property
    def path(self) -> Path:
        """Where the file stands, from the root."""
        own = self.file.startswith("benchmarks/")
        return Path(self.file) if own else Path("src/moiety") / self.file

    @property
    def tests(self) -> list[str]:
        """What pytest is to run, from the root."""
        return [f"tests/{one}" for one in self.test.split()]

    def stale(self, root: Path = ROOT) -> str:
        """Say why it can no longer be planted; empty where it can."""
        if not (root / self.path).is_file():
            return f"{self.path} is gone"
        times = (root / self.path).read_text(encoding="utf8").count(self.old)
        return "" if times == 1 else f"{self.old!r} stands {times} times in {self.path}"

    def plant(self, root: Path) -> str:
        """Plant it in a copy of the tree; give the file as it was."""
        path = root / self.path
        whole = path.read_text(encoding="utf8")
        path.write_text(whole.replace(self.old, self.new), encoding="utf8")
        return whole
