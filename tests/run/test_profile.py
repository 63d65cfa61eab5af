"""Where a round's seconds go, and whom a failure blames."""

import json
import traceback

import pytest

from moiety.core.errors import WorkerError
from moiety.core.streams import stream
from moiety.engine import pool
from moiety.engine.serial import Serial
from moiety.methods import METHODS
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.run import cli


@pytest.mark.parametrize("engine", ["serial", "vectorized", "pool"])
def test_seconds_add_up_to_no_more_than_the_round(lab, tiny, engine, check_seconds, monkeypatch):
    """Of the engines of ranks: see ``test_ranks``."""
    monkeypatch.setattr(pool, "count_cores", lambda: 2)
    rounds = check_seconds(lab.play(tiny(engine=engine)))
    for entry in rounds:
        known = [work.work_s == work.work_s for work in entry.workers]
        assert all(known) == (engine != "vectorized")
        if engine == "pool":
            assert entry.sent_bytes >= entry.down_bytes + entry.up_bytes
            assert entry.send_s > 0
        else:
            assert entry.sent_bytes == 0
    # six rounds, evaluated after every third; that is no part of the round
    assert [entry.evaluate_s > 0 for entry in rounds] == [False, False, True] * 2


def test_a_worker_that_fails_is_not_the_fault_of_the_merge():
    demo = METHODS["fedavg"].demo(stream(0, "demo"))

    def broken(worker):
        raise WorkerError(worker, 0, 0, "its rows are gone")

    with pytest.raises(WorkerError) as caught:
        play_round(demo.method, Serial(broken), initialise_state(demo.method), [0, 1], 0)
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert any("synchronous" in name for name in files)
    assert not any("merge" in name or "commit" in name for name in files)


def test_profile_prints_the_seconds_of_rounds(table, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["profile", "yours", "--data", str(table), "--methods", "fedavg", "--engine", "serial"]
    assert cli.main([*words, "--count", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["round"] for entry in told["rounds"]] == [2, 3]
    assert cli.main([*words, "--count", "1"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("split", "work", "share", "slowest workers"))
    assert not list(tmp_path.iterdir())
    assert cli.main([*words, "--count", "0"]) == 2
