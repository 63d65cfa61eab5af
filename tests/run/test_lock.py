"""A folder belongs to one process: whoever comes second is refused, and changes nothing."""

import errno
import json
import os
import shutil
import signal
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from moiety.core.errors import RunError
from moiety.core.ledger import read_ledger
from moiety.run import cli, lock
from moiety.run.folders import LOCK, hold_folder, hold_new_folder
from moiety.run.group import list_members
from moiety.run.loop import LEDGER
from tests.waiting import wait_until


def read_all(folder: Path) -> dict[str, bytes]:
    """Read every byte of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wait_for(path: Path) -> None:
    """Wait until a file is there and written."""
    wait_until(lambda: path.exists() and path.stat().st_size, str(path))


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def hold_for_ever(folder: Path) -> None:
    with hold_folder(folder):
        signal.pause()


@pytest.fixture
def holder(forked, request):
    """Start a process that holds a folder until the test is over."""

    def start(folder: Path, work=hold_for_ever) -> int:
        child = forked(lambda: work(folder))
        request.addfinalizer(lambda: kill(child))
        wait_for(folder / LOCK)
        return child

    return start


def kill(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


@pytest.fixture
def no_locks(monkeypatch):
    """Play a file system that knows no locks."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)


@pytest.fixture
def left(tmp_path):
    """Leave a lock file as another process would have, some seconds ago."""

    def leave(age_s: float = 0, **changes: object) -> Path:
        folder = tmp_path / "left"
        folder.mkdir(exist_ok=True)
        told = replace(lock.describe_self(), **changes)
        (folder / LOCK).write_text(json.dumps(asdict(told)))
        os.utime(folder / LOCK, ((folder / LOCK).stat().st_mtime - age_s,) * 2)
        return folder

    return leave


def dead_pid(forked) -> int:
    child = forked(lambda: 0)
    os.waitpid(child, 0)
    return child


def test_of_two_runs_into_one_folder_one_plays(forked, small, tmp_path):
    words = ["run", "yours", *small, "--methods", "fedavg", "--out", str(tmp_path / "one")]
    children = [forked(lambda seed=seed: cli.main([*words, "--seed", seed])) for seed in "12"]
    codes = [exit_code(child) for child in children]
    assert sorted(codes) == [0, 1]
    seed = 1 + codes.index(0)
    assert json.loads((tmp_path / "one" / "config.json").read_text())["seed"] == seed
    told = read_ledger(tmp_path / "one" / LEDGER)
    assert told.start.seed == seed
    assert [entry.round for entry in told.rounds] == [1, 2, 3, 4]
    assert not (tmp_path / "one" / LOCK).exists()


def test_two_runs_without_a_folder_get_two(forked, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["run", "yours", *small, "--methods", "fedavg"]
    children = [forked(lambda seed=seed: cli.main([*words, "--seed", seed])) for seed in "12"]
    assert [exit_code(child) for child in children] == [0, 0]
    seeds = [read_ledger(run / LEDGER).start.seed for run in sorted(Path("runs").iterdir())]
    assert sorted(seeds) == [1, 2]
    assert sorted(path.name for path in Path("runs").iterdir()) == ["yours", "yours-2"]


@pytest.fixture
def group(moiety, small, tmp_path) -> Path:
    """Play a group of two runs."""
    moiety("run", "yours", *small, "--methods", "fedavg", "common", "--out", tmp_path / "group")
    return tmp_path / "group"


@pytest.mark.parametrize("held", ["run", "run/../run"])
@pytest.mark.parametrize("command", ["resume", "resume --at 2", "run", "sweep"])
def test_a_live_run_is_left_as_it_is(moiety, small, played, tmp_path, held, command):
    shutil.copytree(played, tmp_path / "run")
    with hold_folder(tmp_path / held):
        before = read_all(tmp_path)
        words = [*command.split(), tmp_path / "run"]
        if command in ("run", "sweep"):
            more = ["--methods", "fedavg"]
            more += ["--try", "local.lr=0.1,0.2"] if command == "sweep" else []
            words = [command, "yours", *small, *more, "--out", tmp_path / "run"]
        said = moiety(*words)
        assert said.code == 1
        assert f"run is in use by process {os.getpid()} on " in said.err
        assert "Wait until it ends, stop it, or choose another folder" in said.err
        assert read_all(tmp_path) == before


def test_reading_a_live_run_is_allowed(moiety, played, tmp_path, table):
    shutil.copytree(played, tmp_path / "run")
    with hold_folder(tmp_path / "run"):
        assert moiety("report", tmp_path / "run").code == 0
        assert moiety("predict", tmp_path / "run", "--data", table).code == 0


def test_a_member_that_is_live_ends_the_resumption_of_its_group(moiety, group):
    run = list_members(group)[1]
    (run / LEDGER).write_text((run / LEDGER).read_text().rsplit("\n", 2)[0] + "\n")  # not over
    with hold_folder(run):
        before = read_all(group)
        said = moiety("resume", group)
        assert said.code == 1
        assert f"{run.name} is in use by process" in said.err
        assert read_all(group) == before
    assert moiety("resume", group).code == 0


def test_a_live_group_is_not_resumed(moiety, group):
    with hold_folder(group):
        before = read_all(group)
        assert moiety("resume", group).code == 1
        assert read_all(group) == before


def test_training_into_a_live_folder_is_refused(tmp_path):
    import torch

    from moiety import LocalTraining, TableRows, Task, TrainConfig, mlp, train
    from moiety.methods.fedavg import fedavg

    rng = torch.Generator().manual_seed(0)
    rows = TableRows(
        {"x": torch.randn(8, 3, generator=rng), "y": torch.arange(8) % 2}, torch.arange(8)
    )
    method = fedavg(Task(mlp([3, 2], rng), LocalTraining(batch=4)))
    train(method, {0: rows}, tmp_path / "run", TrainConfig(rounds=1))
    with hold_folder(tmp_path / "run"):
        before = read_all(tmp_path)
        with pytest.raises(RunError, match="is in use by process"):
            train(method, {0: rows}, tmp_path / "run", TrainConfig(rounds=1))
        assert read_all(tmp_path) == before


def test_the_lock_of_a_killed_process_is_free(holder, tmp_path):
    child = holder(tmp_path / "run")
    with pytest.raises(RunError, match=f"is in use by process {child} on "):
        hold_folder(tmp_path / "run").__enter__()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "run" / LOCK).exists()
    with hold_folder(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run" / LOCK).exists()


def test_the_lock_of_a_killed_process_is_free_where_its_children_live_on(holder, tmp_path):
    def hold_with_a_child(folder: Path) -> None:
        with hold_folder(folder):
            grandchild = os.fork()
            if grandchild:
                (tmp_path / "forked").write_text(str(grandchild))
            signal.pause()

    child = holder(tmp_path / "run", hold_with_a_child)
    wait_for(tmp_path / "forked")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    grandchild = int((tmp_path / "forked").read_text())
    os.kill(grandchild, 0)
    try:
        with hold_folder(tmp_path / "run"):
            pass
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_a_killed_run_leaves_its_folder_to_the_next(moiety, small, holder, tmp_path):
    """A kill before anything was written: only the lock is there."""
    child = holder(tmp_path / "run")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    out = tmp_path / "run"
    assert moiety("run", "yours", *small, "--methods", "fedavg", "--out", out).code == 0


def test_without_locks_the_file_is_one(no_locks, left, forked, tmp_path):
    with hold_folder(tmp_path / "run"):
        with pytest.raises(RunError, match="is in use"):
            hold_folder(tmp_path / "run").__enter__()
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    folder = left(pid=dead_pid(forked))
    with hold_folder(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK]


@pytest.mark.parametrize("locks", [True, False])
def test_never_two_at_a_time(locks, forked, tmp_path, request):
    """Some processes take and leave one folder over and over; none meets another in it."""
    if not locks:
        request.getfixturevalue("no_locks")

    def take_and_leave() -> None:
        for _ in range(100):
            with suppress(RunError), hold_folder(tmp_path / "run"):
                os.close(os.open(tmp_path / "inside", os.O_CREAT | os.O_EXCL))
                (tmp_path / "inside").unlink()

    assert [exit_code(child) for child in [forked(take_and_leave) for _ in range(4)]] == [0] * 4
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize("locks", [True, False])
def test_of_another_machine_signs_of_life_tell(locks, left, request):
    if not locks:
        request.getfixturevalue("no_locks")
    folder = left(lock.STALE_S / 2, host="elsewhere", boot="another")
    before = read_all(folder)
    told = r"in use by process \d+ on elsewhere.*sign of life \d+ s ago; where it is dead, .*300 s"
    with pytest.raises(RunError, match=told):
        hold_folder(folder).__enter__()
    assert read_all(folder) == before
    with hold_folder(left(lock.STALE_S + 60, host="elsewhere", boot="another")):
        pass


@pytest.mark.parametrize("locks", [True, False])
def test_a_machine_that_was_started_anew_holds_nothing(locks, left, request):
    if not locks:
        request.getfixturevalue("no_locks")
    with hold_folder(left(boot="before")):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\x00"])
def test_a_lock_file_that_says_nothing_is_judged_by_the_lock(text, left):
    folder = left()
    (folder / LOCK).write_text(text)
    with hold_folder(folder):
        pass


def test_signs_of_life_are_given(monkeypatch, tmp_path):
    monkeypatch.setattr(lock, "BEAT_S", 0.001)
    with hold_folder(tmp_path / "run"):
        path = tmp_path / "run" / LOCK
        os.utime(path, (0, 0))
        wait_until(lambda: path.stat().st_mtime > 0, "a sign of life")


def test_what_nobody_used_is_taken_away(tmp_path, monkeypatch, moiety, small):
    monkeypatch.chdir(tmp_path)
    with hold_new_folder(None, "name") as first, hold_new_folder(None, "name") as second:
        assert (str(first), str(second)) == ("runs/name", "runs/name-2")
    with hold_new_folder(tmp_path / "a" / "b", "name"):
        pass
    assert moiety("run", "yours", *small, "--data", "nowhere.csv").code != 0
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_stays(tmp_path):
    with hold_folder(tmp_path / "run"):
        (tmp_path / "run" / "file").write_text("")
    with hold_folder(tmp_path):
        pass
    assert (tmp_path / "run" / "file").exists()


def test_a_folder_that_holds_something_is_left_as_it_is(left):
    folder = left()
    (folder / "mine.txt").write_text("mine")
    before = read_all(folder)
    with pytest.raises(RunError, match=r"already holds something; choose another --out$"):
        hold_folder(folder, empty=True).__enter__()
    assert read_all(folder) == before


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("text")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="cannot write in"):
        hold_folder(tmp_path / "run").__enter__()
    assert (tmp_path / "precious").read_text() == "text"


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_told(code, monkeypatch, tmp_path):
    def refuse(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock.os, "open", refuse)
    with pytest.raises(RunError, match=f"cannot write in .*run: {os.strerror(code)}; a run keeps"):
        hold_folder(tmp_path / "run").__enter__()
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_folder(tmp_path, moiety, small):
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/run"):
        said = moiety("run", "yours", *small, "--out", tmp_path / out)
        assert said.code == 1
        assert "choose another" in said.err
    assert (tmp_path / "file").read_text() == "mine"
