"""Runs small enough to be played by the dozen, and what the tests of runs share."""

import json
import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from moiety.core.checkpoints import CheckpointPolicy
from moiety.core.files import add_digest
from moiety.core.ledger import Round, read_ledger
from moiety.core.state import State
from moiety.methods.task import LocalTraining
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.options import with_options
from moiety.recipes.record import CommonExpert, Federation, Participation, Population
from moiety.rounds.staged import StagedRounds
from moiety.run import cli
from moiety.run.group import read_spec, resume_run, start_run
from moiety.run.loop import LEDGER
from moiety.run.play import play_run
from moiety.run.spec import resolve_run
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def draw_nothing(undrawn):
    """Runs are tested by the dozen, and their reports elsewhere."""


NAMES = ("red", "green", "blue", "white", "black")


def draw(rows: int = 400, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows whose class shows in their first features."""
    rng = np.random.default_rng(5)
    y = np.arange(rows) % len(NAMES)
    x = rng.normal(size=(rows, width)).astype(np.float32)
    x[np.arange(rows), y] += 3
    return x, y


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """Give a file of 400 rows of five classes."""
    path = tmp_path_factory.mktemp("data") / "table.npz"
    x, y = draw()
    np.savez(path, x=x, y=np.array(NAMES)[y])
    return path


@pytest.fixture(scope="session")
def tiny(table: Path) -> Callable[..., Federation]:
    """Make a record of a run that takes a fraction of a second; changes are nested fields."""

    def make(**changes) -> Federation:
        base = Federation(
            methods=("fedavg",),
            data=str(table),
            rounds=6,
            evaluate_every=3,
            engine="serial",
            population=Population(
                workers=6, unseen=2, classes=2, anchors=2, public=0.2, validation=0.1, test=0.2
            ),
            participation=Participation(size=4, anchors=1),
            common=CommonExpert(target_accuracy=0.5, epochs=3),
            local=LocalTraining(lr=0.1, batch=8),
            checkpoint=CheckpointPolicy(every=2, last=2),
            options=with_options(
                ddome={"experts": 3, "k": 2, "gate_hidden": 8}, mlp={"hidden": (4,)}
            ),
        )
        return override_fields(base, changes)

    return make


@dataclass(frozen=True)
class Lab:
    """Plays runs in a folder of their own."""

    root: Path

    def play(self, record: Federation, method: str = "fedavg", name: str = "run") -> Path:
        """Play a run, whole."""
        folder = self.root / name
        spec, built = resolve_run("yours", record, method, record.seed)
        start_run(spec, built, folder)
        return folder

    def lay(self, record: Federation, method: str = "fedavg", name: str = "run") -> Path:
        """Write down what a run is, and play nothing."""
        folder = self.root / name
        folder.mkdir()
        spec, _ = resolve_run("yours", record, method, record.seed)
        (folder / "config.json").write_text(json.dumps(add_digest(spec.to_json())))
        return folder

    def resume(self, folder: Path, at: int | None = None) -> None:
        resume_run(folder, at)

    def go(self, folder: Path, change: Callable) -> None:
        """Go on with a run whose built parts were changed by hand."""
        spec = read_spec(folder)
        play_run(spec, change(build_run(spec.record, spec.method, spec.seed)), folder)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture(scope="session")
def played(tiny, tmp_path_factory) -> Path:
    """Play a run of ten rounds once; whoever changes it takes a copy."""
    record = tiny(rounds=10, evaluate_every=2)
    return Lab(tmp_path_factory.mktemp("played")).play(record, "ddome")


@pytest.fixture
def final() -> Callable[[Path], bytes]:
    """Read the bytes of a run's final model."""
    return lambda folder: (folder / "final" / "model.safetensors").read_bytes()


def timeless(value):
    """Leave out what clocks and engines decide, and the revision: it may change in between."""
    if isinstance(value, dict):
        left_out = ("seconds", "time", "revision", "check", "sent_bytes")
        kept = {name: one for name, one in value.items() if not name.endswith("_s")}
        return {name: timeless(one) for name, one in kept.items() if name not in left_out}
    return [timeless(one) for one in value] if isinstance(value, list) else value


@pytest.fixture
def lines() -> Callable[[Path], list]:
    """Read the lines of a run's ledger, without times."""

    def read(folder: Path) -> list:
        text = (folder / LEDGER).read_text()
        return [timeless(json.loads(line)) for line in text.splitlines()]

    return read


@pytest.fixture
def check_seconds() -> Callable[[Path], list[Round]]:
    """Check that the phases of every round take no longer than it did; give the rounds."""

    def check(folder: Path) -> list[Round]:
        rounds = list(read_ledger(folder / LEDGER).rounds)
        assert rounds
        for entry in rounds:
            phases = (entry.split_s, entry.send_s, entry.work_s, entry.merge_s, entry.wait_s)
            assert min(phases) >= -1e-9
            assert sum(phases) <= entry.seconds * (1 + 1e-9) + 1e-9
            assert entry.work_s > 0
        return rounds

    return check


@pytest.fixture
def tensors() -> Callable[[Path], dict]:
    return lambda folder: load_file(folder / "final" / "model.safetensors")


def fork(work: Callable[[], object]) -> int:
    """Start a child that does some work and ends, 0 where nothing was raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child only computes
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        result = work()
        code = result if isinstance(result, int) else 0
    finally:
        os._exit(code)


@dataclass(frozen=True)
class Gate:
    """Holds a run before the rounds named, until it is let go; files tell processes apart."""

    root: Path

    def close(self, patch: pytest.MonkeyPatch, rounds: tuple[int, ...]) -> None:
        plain = StagedRounds.advance

        def held(*args):
            (at,) = (one.round for one in args if isinstance(one, State))
            if at in rounds:
                (self.root / f"held-{at}").touch()
                wait_until((self.root / f"open-{at}").exists, f"round {at} to be let go")
            return plain(*args)

        patch.setattr(StagedRounds, "advance", held)

    def reach(self, at: int) -> None:
        """Wait until the run has come to a round."""
        wait_until((self.root / f"held-{at}").exists, f"the run to come to round {at}")

    def open(self, at: int) -> None:
        (self.root / f"open-{at}").touch()


@pytest.fixture
def gated(monkeypatch, tmp_path) -> Callable[..., Gate]:
    """Hold runs, of this process and its children, before the rounds named."""

    def hold(*rounds: int) -> Gate:
        gate = Gate(tmp_path)
        gate.close(monkeypatch, rounds)
        return gate

    return hold


@pytest.fixture
def forked() -> Callable[[Callable], int]:
    """Start work in a child process; the caller waits for it."""
    return fork


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def moiety(capsys, tmp_path, monkeypatch) -> Callable[..., Said]:
    """Run a command of the command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Said:
        capsys.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    return run


TINY = (
    "--rounds 4 --evaluate-every 2 --population.workers 6 --population.unseen 2 "
    "--population.scheme labels --population.anchors 2 --population.classes 2 "
    "--participation.size 4 --participation.anchors 1 --mlp.hidden 4 --common.epochs 3 "
    "--checkpoint.every 2 "
    "--engine serial"
)


@pytest.fixture
def small(table: Path) -> list[str]:
    """Give the words of a small run, behind ``moiety run yours``."""
    return ["--data", str(table), *TINY.split()]
