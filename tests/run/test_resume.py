"""A run that was killed at any moment goes on bit for bit as if it had not been."""

import os
import random
import signal
import time

import pytest
from safetensors import safe_open

from moiety.core import files
from moiety.core.checkpoints import list_checkpoints
from moiety.run import checkpoint
from moiety.run.group import read_spec
from moiety.run.loop import CHECKPOINTS, LEDGER
from tests.waiting import wait_until

KILLS = 22


def slowly(path, data):
    """Write in two halves with a pause, so that many kills fall between them."""
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        time.sleep(0.004)
        file.write(data[len(data) // 2 :])
        file.flush()
        os.fsync(file.fileno())


def length(folder) -> int:
    # A life that finds no checkpoint takes the ledger away, so it may go between two looks.
    try:
        return (folder / LEDGER).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def kill_later(child: int, folder, rng: random.Random) -> bool:
    """Kill a child some lines and some milliseconds from now; False where it was over first."""
    before, lines, over = length(folder), rng.randrange(5), []

    def happened() -> bool:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"the child failed by itself, status {status}"
            over.append(done)
        # A life begins by cutting the ledger to its checkpoint, so lines may also go away.
        return bool(over) or length(folder) >= before + lines or length(folder) < before

    wait_until(happened, "lines of the ledger")
    if over:
        return False
    time.sleep(rng.random() * 0.012)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def check_whole(folder) -> None:
    """Read every checkpoint there is."""
    mark = read_spec(folder).fingerprint
    for path in list_checkpoints(folder / CHECKPOINTS):
        kept = checkpoint.read_checkpoint(path, mark)
        assert kept.state.round == int(path.name)
        with safe_open(path / checkpoint.TENSORS, "pt") as file:
            assert len(file.keys()) == len(checkpoint.flatten_checkpoint(kept))


ASYNC = {
    "kind": "buffered",
    "rate": 0.5,
    "staleness": "polynomial",
    "speeds": {"kind": "lognormal", "values": [1.0, 0.7], "jitter": 0.2},
}

CASES = {
    "ddome, vectorized": ("ddome", {"engine": "vectorized"}),
    "ddome, pool": ("ddome", {"engine": "pool"}),
    "fedper, vectorized": ("fedper", {"engine": "vectorized"}),
    "fedper, pool": ("fedper", {"engine": "pool"}),
    "fedavg that keeps momentum, serial": ("fedavg", {"local": {"optimizer_state": "keep"}}),
    "ist that carries momentum, vectorized": (
        "ist",
        {"local": {"optimizer_state": "send"}, "engine": "vectorized", "net": "normed"},
    ),
    "fedopt with the server's memory, serial": ("fedopt", {}),
    "asyncdrop, jobs under way": (
        "asyncdrop",
        {"participation": {"anchors": -1}, "schedule": ASYNC},
    ),
    "ddome buffered, pool": (
        "ddome",
        {"engine": "pool", "participation": {"anchors": -1}, "schedule": {**ASYNC, "size": 2}},
    ),
    "fedavg that carries momentum, late": (
        "fedavg",
        {
            "local": {"optimizer_state": "send"},
            "participation": {"anchors": -1},
            "schedule": {**ASYNC, "size": 3, "change": True},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_kills_leave_no_trace(name, lab, tiny, final, lines, forked, monkeypatch):
    method, changes = CASES[name]
    record = tiny(rounds=30, evaluate_every=7, checkpoint={"every": 2}, **changes)
    whole = lab.play(record, method, "whole")
    monkeypatch.setattr(files, "write_bytes", slowly)
    rng, kills, runs = random.Random(name), 0, 0
    while kills < KILLS:
        folder = lab.lay(record, method, f"killed-{runs}")
        runs += 1
        while True:
            child = forked(lambda folder=folder: lab.resume(folder))
            if kills >= KILLS:
                assert os.waitpid(child, 0)[1] == 0
                break
            if not kill_later(child, folder, rng):
                break
            kills += 1
            check_whole(folder)
        assert final(folder) == final(whole)
        assert lines(folder) == lines(whole)
    assert kills >= KILLS


def test_a_kill_between_the_checkpoint_and_the_model_is_mended(lab, tiny, final, lines):
    whole = lab.play(tiny(), name="whole")
    folder = lab.play(tiny(), name="cut")
    for path in (folder / "final").iterdir():
        path.unlink()
    (folder / "final").rmdir()
    lab.resume(folder)
    assert final(folder) == final(whole)
    assert lines(folder) == lines(whole)


def test_memory_of_workers_is_kept_and_matters(lab, tiny, final):
    plain = lab.play(tiny(), name="plain")
    carried = lab.play(tiny(local={"optimizer_state": "keep"}), name="carried")
    assert final(plain) != final(carried)
    newest = list_checkpoints(carried / CHECKPOINTS)[-1]
    kept = checkpoint.read_checkpoint(newest, read_spec(carried).fingerprint)
    assert set(kept.memory) <= set(range(6))
    assert kept.memory
    none = list_checkpoints(plain / CHECKPOINTS)[-1]
    assert not checkpoint.read_checkpoint(none, read_spec(plain).fingerprint).memory


@pytest.mark.parametrize("at", [2, 4])
def test_going_back_to_a_checkpoint_gives_the_same_end(at, lab, tiny, final, lines):
    record = tiny(checkpoint={"every": 2, "last": 4})
    whole, folder = lab.play(record, "ddome", "whole"), lab.play(record, "ddome", "back")
    lab.resume(folder, at=at)
    assert final(folder) == final(whole)
    assert lines(folder) == lines(whole)


def test_a_stop_after_going_back_goes_on_from_there(lab, tiny, final, lines, forked, gated):
    record = tiny(rounds=12, checkpoint={"every": 2, "last": 9})
    whole, folder = lab.play(record, name="whole"), lab.play(record, name="back")
    gate = gated(5)
    child = forked(lambda: lab.resume(folder, at=2))
    gate.reach(5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert [line["kind"] for line in lines(folder)].count("round") == 5
    gate.open(5)
    lab.resume(folder)
    assert final(folder) == final(whole)
    assert lines(folder) == lines(whole)
