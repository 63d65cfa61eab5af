"""Ctrl-C, the progress bar, and exit codes, in processes of their own."""

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios

import pytest

from moiety.core.checkpoints import list_checkpoints
from moiety.core.ledger import Evaluation, Group
from moiety.recipes import prepare
from moiety.run import cli
from moiety.run.commands import run
from moiety.run.loop import CHECKPOINTS, LEDGER
from moiety.run.watch import Progress
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    """Reports take longer than these runs, and are tested elsewhere."""
    monkeypatch.setattr(run, "write_runs_report", lambda runs, out: None)


@pytest.fixture
def started(tmp_path, monkeypatch, forked):
    """Start a command in a child process that writes what it prints to a file."""
    monkeypatch.chdir(tmp_path)

    def start(*words: str) -> int:
        def work() -> int:
            handle = os.open(tmp_path / "printed.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            try:
                return cli.main(words)
            finally:
                sys.stdout.flush()

        return forked(work)

    return start


def code_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_ctrl_c_writes_a_checkpoint_and_the_run_goes_on(
    started, small, tmp_path, lab, final, lines, gated
):
    """Stopped twice, once in a run and once in its resumption, the end is that of no stop."""
    words = ["run", "yours", *small, "--methods", "fedavg", "--rounds", "40"]
    words += ["--checkpoint.every", "30"]
    assert code_of(started(*words, "--out", "whole")) == 0
    gate, stopped = gated(5, 25), tmp_path / "stopped"
    child = started(*words, "--out", "stopped")
    for inside, command in ((5, ("resume", "stopped")), (25, ("resume", "stopped"))):
        gate.reach(inside)
        os.kill(child, signal.SIGINT)
        gate.open(inside)
        assert code_of(child) == 130
        end = lines(stopped)[-1]
        assert (end["kind"], end["status"], end["round"]) == ("end", "interrupted", inside + 1)
        assert int(list_checkpoints(stopped / CHECKPOINTS)[-1].name) == inside + 1
        printed = (tmp_path / "printed.txt").read_text()
        assert "stopping after this round; Ctrl-C again to stop at once" in printed
        assert "go on from the last checkpoint with: moiety resume stopped" in printed
        assert not (stopped / "final").exists()
        child = started(*command)
    assert code_of(child) == 0
    assert final(stopped) == final(tmp_path / "whole")
    assert lines(stopped)[1:] == lines(tmp_path / "whole")[1:]


def test_a_second_ctrl_c_stops_at_once(started, small, tmp_path, gated):
    """The second falls into a round that would never end."""
    gate = gated(3)
    child = started("run", "yours", *small, "--methods", "fedavg", "--out", "stopped")
    gate.reach(3)
    os.kill(child, signal.SIGINT)
    wait_until(lambda: "Ctrl-C again" in (tmp_path / "printed.txt").read_text())
    os.kill(child, signal.SIGINT)
    assert code_of(child) == 130
    kept = list_checkpoints(tmp_path / "stopped" / CHECKPOINTS)
    assert [int(path.name) for path in kept] == [0, 2]
    assert "moiety resume stopped" in (tmp_path / "printed.txt").read_text()


def test_ctrl_c_ends_a_group_and_not_one_run_of_it(started, small, tmp_path, gated):
    gate = gated(3)
    child = started("run", "yours", *small, "--methods", "fedavg", "ddome", "--out", "both")
    gate.reach(3)
    os.kill(child, signal.SIGINT)
    gate.open(3)
    assert code_of(child) == 130
    assert (tmp_path / "both" / "fedavg-seed0" / LEDGER).exists()
    assert not (tmp_path / "both" / "ddome-seed0").exists()
    assert "moiety resume both" in (tmp_path / "printed.txt").read_text()


def test_a_run_that_diverges_names_worker_round_and_step(started, small, tmp_path, lines):
    child = started("run", "yours", *small, "--methods", "fedavg", "--local.lr", "1e30",
                    "--out", "wild")  # fmt: skip
    assert code_of(child) == 1
    printed = (tmp_path / "printed.txt").read_text()
    said = re.search(r"moiety: (worker \d+, round 1, step \d+: .*loss is (nan|inf).*)", printed)
    assert said
    assert "lower the learning rate" in said[1]
    assert "last checkpoint is kept in wild" in said[1]
    assert "Traceback" not in printed
    end = lines(tmp_path / "wild")[-1]
    assert (end["kind"], end["status"], end["round"]) == ("end", "failed", 0)
    assert end["reason"] in said[1]
    kept = list_checkpoints(tmp_path / "wild" / CHECKPOINTS)
    assert [int(path.name) for path in kept] == [0]


def test_a_bar_on_a_terminal(tmp_path, small, monkeypatch):
    """On a terminal one bar is drawn with rounds done, time left and accuracy; no line a round."""
    monkeypatch.chdir(tmp_path)
    prepare.train_seed_common.cache_clear()
    child, handle = pty.fork()
    if not child:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        code = 1
        try:
            words = ["run", "yours", *small, "--methods", "fedavg", "--out", "mine"]
            code = cli.main(words)
            sys.stdout.flush()
        finally:
            os._exit(code)
    shown = b""
    while True:
        try:
            some = os.read(handle, 4096)
        except OSError:  # the other end was closed
            break
        if not some:
            break
        shown += some
    os.close(handle)
    assert code_of(child) == 0
    text = shown.decode()
    assert re.search(r"fedavg, seed 0: 100%\|.*\| 4/4 \[\d\d:\d\d<\d\d:\d\d", text)
    assert "unseen 0." in text
    assert "round 1/4" not in text
    assert re.search(r"common expert: .*3/3 .*accuracy=?\s?0\.", text)


def test_an_evaluation_of_nobody_is_no_line(capsys):
    """A run of one's own may have no rows to be scored on."""
    told = Progress("mine", 3, out=sys.stderr)
    told(Evaluation(1, 0.0, {}))
    assert capsys.readouterr().err == ""
    told(Evaluation(1, 0.0, {"seen": Group([0], [2], {"accuracy": [0.5]})}))
    assert capsys.readouterr().err == "mine: after round 1, seen 0.500\n"
