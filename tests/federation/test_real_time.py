"""Commits of whoever is back first, on the clock on the wall."""

from dataclasses import dataclass, replace

import pytest

from moiety.core.ledger import read_ledger
from moiety.run.federate import play_federation
from tests.federation.test_remote import (
    ALL,
    NAMES,
    LocalPost,
    final_bytes,
    make_plan,
    make_post,
    play_serial,
)

ALL_AT_A_TIME = {"participation": {"size": 4, "anchors": -1}}
BUFFERED = {
    "methods": ["fedavg"], "schedule": {"kind": "buffered", "size": 2}, **ALL_AT_A_TIME
}  # fmt: skip
WAITING = replace(ALL, join_s=1e-3)


@dataclass
class SlowPost(LocalPost):
    """Answers of one node are kept back until the others have answered so often."""

    slow: str = "west"
    after: int = 5

    def collect(self, numbers, /):
        ready = [
            one
            for one in numbers
            if self.letters[int(one)][0] != self.slow or self.came >= self.after
        ]
        return super().collect(ready)


def read_rounds(plan):
    return read_ledger(plan.folder / "ledger.jsonl").rounds


def test_the_first_are_committed_and_late_replies_count_by_staleness(tmp_path):
    """The slow node's reply is of an old model, is drawn back, and nobody waited for it."""
    fast = make_post(tmp_path)
    post = SlowPost(fast.desks)
    plan = make_plan(tmp_path, WAITING, **BUFFERED, rounds=4)
    play_federation(plan, post)
    rounds = read_rounds(plan)
    assert [len(one.workers) for one in rounds] == [2, 2, 2, 2]
    versions = {
        NAMES[work.worker]: (number, work.model_version)
        for number, one in enumerate(rounds)
        for work in one.workers
        if work.worker == 3
    }
    assert versions
    number, version = versions["west"]
    assert version == 0 < number


def test_all_of_a_window_are_the_round_of_one_machine(tmp_path):
    """Where all are waited for, nothing is late: the numbers are those of synchronous rounds."""
    fields = {"methods": ["fedavg"], "rounds": 2, **ALL_AT_A_TIME}
    schedule = {"kind": "buffered", "size": 4}
    plan = make_plan(tmp_path, WAITING, **fields, schedule=schedule)
    final = play_federation(plan, make_post(tmp_path))
    assert final_bytes(final.parent) == final_bytes(play_serial(tmp_path / "serial", **fields))


@pytest.mark.parametrize("kind", ["buffered", "windowed"])
def test_lost_nodes_are_written_down_and_the_others_go_on(tmp_path, kind):
    post = make_post(tmp_path, silent={"east"}, away={"south"})
    schedule = {"kind": kind, "size": 2} if kind == "buffered" else {"kind": kind, "window": 0.05}
    waiting = replace(WAITING, most_s=0.2)
    plan = make_plan(
        tmp_path, waiting, methods=["fedavg"], schedule=schedule, rounds=3, **ALL_AT_A_TIME
    )
    play_federation(plan, post)
    rounds = read_rounds(plan)
    assert len(rounds) == 3
    who = {NAMES[work.worker] for one in rounds for work in one.workers}
    assert who <= {"north", "west"}
    assert who


def test_a_killed_server_goes_on_with_the_jobs_under_way(tmp_path):
    """What had come is not asked again, and a worker has one job at a time."""
    plan = make_plan(tmp_path, WAITING, **BUFFERED, rounds=3)
    post = make_post(tmp_path, kill_after=3)
    with pytest.raises(KeyboardInterrupt):
        play_federation(plan, post)
    post.kill_after, sent = 10**9, len(post.letters)
    post.back.clear()  # a server that is killed forgets the numbers of its letters
    play_federation(plan, post)
    assert [len(one.workers) for one in read_rounds(plan)] == [2, 2, 2]
    again = [one for one in post.letters[sent:] if one in post.letters[:sent]]
    assert len(again) == sent - 3


def test_nobody_is_there_and_the_run_ends(tmp_path):
    plan = make_plan(tmp_path, replace(WAITING, most_s=0.05), **BUFFERED, rounds=1)
    with pytest.raises(Exception, match="no reply was accepted, 2 times over"):
        play_federation(plan, make_post(tmp_path, silent=set(NAMES)))


def test_a_query_goes_before_a_job_here_too(tmp_path):
    """A schedule of all replies is a synchronous round of a method that asks, too; with codes."""
    schedule = {"kind": "buffered", "size": 4}
    fields = {"wire": {"up": ["delta", "int4"], "down": ["int8"]}, **ALL_AT_A_TIME}
    plan = make_plan(tmp_path, WAITING, schedule=schedule, rounds=2, **fields)
    final = play_federation(plan, make_post(tmp_path))
    serial = play_serial(tmp_path / "serial", rounds=2, **fields)
    assert final_bytes(final.parent) == final_bytes(serial)
