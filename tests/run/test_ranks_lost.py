"""Ranks that disagree, stand still, are killed or never come; and one that only works for long."""

import os
import signal
import socket
import sys
from functools import partial

import pytest

from benchmarks.faults_parts.ranks import (
    DISAGREEMENTS,
    LOSSES,
    describe_rank,
    find_free_port,
    start_rank,
    try_disagreement,
    try_loss,
)
from moiety.core.errors import RunError, UsageError
from moiety.data.datasets import load_dataset
from moiety.engine.agreement import describe_disagreement
from moiety.engine.heartbeat import accept_line, connect_line
from moiety.engine.meeting import TIMEOUT_VARIABLE, read_place
from moiety.run.cli import main
from moiety.run.together import Whereabouts, compare_ranks, play_together
from tests.waiting import keep_busy

AGREED = {"seed": 0, "lr": 0.1, "net": [3, 2]}


def name_case(case) -> str:
    return case.name.replace(" ", "_")


@pytest.mark.parametrize("case", DISAGREEMENTS, ids=name_case)
def test_ranks_that_disagree_end_before_anything_is_written(case, tmp_path):
    assert try_disagreement(case, tmp_path) == ""


@pytest.mark.parametrize("case", LOSSES, ids=name_case)
def test_who_is_left_ends_by_itself_and_names_the_rank(case, tmp_path):
    assert try_loss(case, tmp_path) == ""


def test_every_field_that_differs_is_named_with_its_values_and_ranks():
    assert describe_disagreement([AGREED, dict(AGREED)]) == ""
    for name in AGREED:
        said = describe_disagreement([AGREED, {**AGREED, name: "other"}, AGREED])
        assert said.startswith(f"the ranks disagree on {name} (")
        assert "at ranks 0, 2" in said
        assert '"other" at rank 1' in said
    lacking = describe_disagreement([AGREED, {"seed": 0, "lr": 0.1}])
    assert "net ([3, 2] at rank 0; nothing at rank 1)" in lacking
    long = [{"x": "a" * 500 + end} for end in "bc"]
    assert "disagree on x" in describe_disagreement(long)  # where only the end differs
    many = [{f"f{i}": rank for i in range(9)} for rank in (0, 1)]
    assert "and 6 more fields" in describe_disagreement(many)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RANK", "2", "WORLD_SIZE=2"),
        ("RANK", "first", "RANK='first'"),
        ("WORLD_SIZE", "0", "WORLD_SIZE='0'"),
        ("MASTER_PORT", "", "MASTER_PORT=''"),
        (TIMEOUT_VARIABLE, "0", TIMEOUT_VARIABLE),
        (TIMEOUT_VARIABLE, "inf", TIMEOUT_VARIABLE),
    ],
)
def test_an_environment_that_does_not_fit_is_told(name, value, said, monkeypatch):
    fits = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "29500", "MASTER_ADDR": "127.0.0.1"}
    for one, text in {**fits, name: value}.items():
        monkeypatch.setenv(one, text)
    with pytest.raises(UsageError, match=said):
        read_place()


def play(act, folder) -> int:
    """Carry out a command of several ranks."""
    try:
        with play_together({"command": "test"}, Whereabouts(folder)) as ranks:
            act(ranks)
    except RunError as error:
        print(f"moiety: {error}", file=sys.stderr)
        return 1
    return 0


def play_two(act, folder, timeout_s: float = 60.0) -> list[tuple[int, str]]:
    """Let two ranks do something: exit code of each, and what it said."""
    port = find_free_port()
    crew = [
        start_rank(partial(play, act, folder), describe_rank(rank, 2, port, timeout_s), folder)
        for rank in (0, 1)
    ]
    return [one.finish() for one in crew]


def test_a_rank_that_works_for_longer_than_it_may_be_silent_is_waited_for(tmp_path):
    """In Python, so that the thread that gives signs of life has to share the interpreter."""

    def work(ranks):
        keep_busy(12.0 * ranks.rank)
        assert ranks.gather(ranks.rank) == [0, 1]

    assert play_two(work, tmp_path, 10.0) == [(0, ""), (0, "")]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_lost_after_the_work_is_told_as_one_lost_in_it(lost, tmp_path):
    (tmp_path / "checkpoints" / "00000004").mkdir(parents=True)

    def die(ranks):
        ranks.gather(None)
        if ranks.rank == lost:
            os.kill(os.getpid(), signal.SIGKILL)

    code, said = play_two(die, tmp_path)[1 - lost]
    assert code == 1
    assert said.count("moiety: another rank was lost, or does not answer. The last checkpoint") == 1
    assert f"rank {lost} ended without a word" in said
    assert f"torchrun --nproc-per-node 2 -m moiety resume {tmp_path}" in said
    assert "Traceback" not in said


def test_an_error_of_one_rank_is_told_to_the_others(tmp_path):
    def fail(ranks):
        if ranks.rank:
            raise RunError("no space left here")
        ranks.gather(None)

    (code, said), (own_code, own) = play_two(fail, tmp_path)
    assert (code, own_code) == (1, 1)
    assert own == "moiety: no space left here\n"
    assert "rank 1 ended: no space left here" in said


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--methods", "ddome"], 1, "moiety: ddome needs a common expert"),
    (["--ruonds", "3"], 2, "moiety: --ruonds is no option of moiety run ist-digits; did you mean "),
])  # fmt: skip
def test_what_all_ranks_of_a_machine_say_is_said_once(words, code, said, tmp_path):
    """Of those that torchrun started: others may each have a terminal of their own."""
    run, port = ["run", "ist-digits", "--engine", "collective", *words], find_free_port()
    load_dataset("digits")  # once, before processes fork
    ranks = [
        start_rank(
            partial(main, run),
            {**describe_rank(rank, 2, port), "TORCHELASTIC_RUN_ID": "x"},
            tmp_path,
        )
        for rank in range(2)
    ]
    (first, told), (second, also) = [one.finish() for one in ranks]
    assert (first, second) == (code, code), told + also
    assert sum(line.startswith(said) for line in told.splitlines()) == 1, told
    assert also == ""


def test_what_is_known_later_is_compared_later(tmp_path):
    def differ(ranks):
        compare_ranks(ranks, {"fingerprint of the data": "ab"[ranks.rank]})

    for code, said in play_two(differ, tmp_path):
        assert code == 1
        assert 'fingerprint of the data ("a" at rank 0; "b" at rank 1)' in said


def test_a_stranger_at_the_door_is_no_rank(tmp_path):
    """One that does not know the word is sent away, and the others meet all the same."""
    server = socket.create_server(("127.0.0.1", 0))
    host, port = server.getsockname()
    for greeting in (b'["wrong", {"rank": 1}]\n', b"1\n[]\n", b"GET / HTTP/1.1\n", b""):
        with socket.create_connection((host, port)) as one:
            one.sendall(greeting)
            one.shutdown(socket.SHUT_WR)
            assert accept_line(server, "word", 5.0) is None
    line = connect_line(host, port, 5.0, {"rank": 1}, "word")
    came = accept_line(server, "word", 5.0)
    assert came is not None
    assert came[1] == {"rank": 1}
    for one in (line, came[0]):
        one.sock.close()
    server.close()
