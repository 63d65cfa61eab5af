"""Secure sums between nodes: the bytes of serial, whoever is lost, and no reply in clear."""

import math
from dataclasses import replace

import pytest
import torch

from moiety.core.errors import RunError
from moiety.core.ledger import read_ledger
from moiety.engine.letters import read_letter, read_reply
from moiety.engine.sum_progress import SumProgress
from moiety.run.federate import play_federation
from tests.federation.test_remote import (
    ALL,
    NAMES,
    QUICK,
    LocalPost,
    final_bytes,
    make_plan,
    make_post,
    play_serial,
)

SECURE = {"methods": ["fedavg"], "secure": {"threshold": 3}, "rounds": 2}


class LosingPost(LocalPost):
    """Loses a node from its n-th letter on."""

    lost: tuple[str, int] = ("", 0)
    seen = 0

    def send(self, node, letter, limit_s, /):
        name, number = self.lost
        if list(self.desks)[node] == name:
            self.seen += 1
            if self.seen >= number:
                self.silent.add(name)
        return super().send(node, letter, limit_s)

    def collect(self, numbers, /):
        return {one: self.back.pop(one) for one in numbers if one in self.back}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    return play_serial(tmp_path_factory.mktemp("serial"), **SECURE)


def test_the_bytes_are_those_of_serial_and_so_are_the_bytes_counted(tmp_path, wanted):
    """Keys are other ones in every run; no letter of a node has a number that it learnt."""
    plan, post = make_plan(tmp_path, ALL, **SECURE), make_post(tmp_path)
    assert final_bytes(play_federation(plan, post).parent) == final_bytes(wanted)
    here, there = (read_ledger(folder / "ledger.jsonl") for folder in (plan.folder, wanted))
    for one, other in zip(here.rounds, there.rounds, strict=True):
        assert (one.down_bytes, one.up_bytes) == (other.down_bytes, other.up_bytes)
    kinds = [read_letter(letter)[0]["note"]["kind"] for _, letter in post.letters]
    assert kinds == [k for k in ("keys", "shares", "solve0", "open") for _ in NAMES] * 2
    assert not list((tmp_path / "nodes").rglob("sum"))


@pytest.mark.parametrize("letter", [1, 2, 3, 4], ids=["keys", "shares", "vectors", "open"])
def test_a_node_is_lost_and_the_sum_of_the_others_is_opened(tmp_path, letter):
    """At any step; a plain federation that loses the same node ends with the same model."""
    found = []
    for name, fields in (("plain", {}), ("sums", {"secure": {"threshold": 3}})):
        post = LosingPost(make_post(tmp_path / name).desks)
        post.lost = ("east", letter if fields else 1)
        if letter == 4 and not fields:
            post.lost = ("", 0)
        plan = make_plan(tmp_path / name, QUICK, methods=["fedavg"], rounds=1, **fields)
        final = play_federation(plan, post)
        found.append(final_tensors(final))
        (told,) = read_ledger(plan.folder / "ledger.jsonl").rounds
        assert [one.worker for one in told.refused] == ([] if letter == 4 else [1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


class KilledPost(LocalPost):
    """Its server is killed once so many answers came; those of a step come all at once."""

    def collect(self, numbers, /):
        if self.came >= self.kill_after:
            raise KeyboardInterrupt
        here = [one for one in numbers if one in self.back]
        here = here[: int(min(len(here), self.kill_after - self.came))]
        self.came += len(here)
        return {one: self.back.pop(one) for one in here}


def test_a_server_that_is_killed_goes_on_with_the_same_sum(tmp_path, wanted):
    """At every step; two sums of one round would differ by whoever is in one of them alone.

    A round is four letters to each of four nodes, and the server is killed when two answers to each
    have come. West is away when the sum is opened, but its vectors are in it; then it is back.
    """
    plan = make_plan(tmp_path, replace(ALL, quorum=0.75), **SECURE)
    post = KilledPost(make_post(tmp_path).desks)
    for post.kill_after, post.silent in (
        (2, set()), (6, set()), (10, set()), (14, set()), (15, {"west"}),
    ):  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            play_federation(plan, post)
    post.kill_after, post.silent = math.inf, set()
    assert final_bytes(play_federation(plan, post).parent) == final_bytes(wanted)
    notes = [read_letter(letter)[0]["note"]["sum"] for _, letter in post.letters]
    assert len({note["name"] for note in notes}) == 2  # of two rounds
    assert {tuple(note["here"]) for note in notes if note["step"] == "open"} == {(0, 1, 2, 3)}
    for path in (tmp_path / "nodes").rglob("answer"):
        assert path.stat().st_mode & 0o077 == 0  # it may hold shares


def test_who_was_late_for_a_step_stays_out_of_it(tmp_path):
    """Also after a stop; and a sum that was given up is followed by another."""
    one = SumProgress.open(tmp_path / "sum")
    one.close_step("keys", [2, 0])
    again = SumProgress.open(tmp_path / "sum")
    assert again.list_workers("keys", [0, 1, 2]) == [2, 0]
    assert again.list_workers("shares", [2, 0]) == [2, 0]
    again.give_up([0, 1, 2], "too few")
    assert SumProgress.open(tmp_path / "sum").name != again.name == one.name
    for damaged in ("", "{", "[]", '{"name": "x"}'):
        (tmp_path / "sum").write_text(damaged)
        with pytest.raises(RunError, match="is damaged; delete it"):
            SumProgress.open(tmp_path / "sum")


def test_sums_go_with_noise_of_the_nodes_own(tmp_path):
    """Rows are guarded by keys that the server has not, and changes by masks."""
    privacy = {"row_clip": 1.0, "row_noise": 1.0}
    fields = {"privacy": privacy, "local": {"epochs": 1, "steps": 0}, "rounds": 1}
    plan, post = make_plan(tmp_path, ALL, **{**SECURE, **fields}), make_post(tmp_path)
    play_federation(plan, post)
    north, (_, letter) = post.desks["north"], next(one for one in post.letters if is_job(one))
    key = north.node.folder / "noise.key"
    whole = key.read_bytes()
    key.write_bytes(b"short")
    (north.node.folder / "answer").unlink()
    assert "noise.key is damaged" in read_reply(north.answer(letter)).fault
    key.write_bytes(whole)
    (told,) = read_ledger(plan.folder / "ledger.jsonl").rounds
    assert not told.refused
    assert len(told.row_epsilon or {}) == len(NAMES)
    assert [read_letter(one)[0]["note"]["kind"] for _, one in post.letters][:4] == ["keys"] * 4
    keys = {path.read_bytes() for path in (tmp_path / "nodes").rglob("noise.key")}
    assert len(keys) == len(NAMES)


def is_job(sent):
    """Say whether a letter is one of north's jobs."""
    name, letter = sent
    return name == "north" and read_letter(letter)[0]["note"]["kind"] == "solve0"


def final_tensors(final):
    from safetensors.torch import load

    return list(dict(sorted(load((final / "model.safetensors").read_bytes()).items())).values())


def test_too_few_open_nothing_and_the_run_ends(tmp_path):
    post = LosingPost(make_post(tmp_path).desks, silent={"north", "west"})
    plan = make_plan(tmp_path, replace(QUICK, most_s=0.1), **SECURE)
    with pytest.raises(Exception, match=r"of 4 workers \d told their keys, and a sum"):
        play_federation(plan, post)


def test_a_node_tells_no_reply_without_masks_and_nothing_twice(tmp_path):
    """A server that asks otherwise gets a fault: nothing in clear, and no second opening."""
    post, plan = make_post(tmp_path), make_plan(tmp_path, ALL, **{**SECURE, "rounds": 1})
    play_federation(plan, post)
    desk, mine = post.desks["north"], [one for name, one in post.letters if name == "north"]
    job, opening = mine[2], mine[3]
    head, tree = read_letter(job)
    del head["note"]["sum"]
    bare = rewrite(head, {**tree, "memory": {}})
    assert "without what makes masks" in read_reply(desk.answer(bare)).fault
    for again in (job, opening):
        head, tree = read_letter(again)
        head["note"]["more"] = "another letter"
        assert "no secrets of that sum" in read_reply(desk.answer(rewrite(head, tree))).fault


def rewrite(head, tree):
    """Write a letter again; sections of memory stay as they are in ``tree``."""
    from moiety.engine.letters import write_letter

    paths = []

    def walk(path, node):
        for key, value in node.items():
            walk([*path, key], value) if isinstance(value, dict) else paths.append(
                ([*path, key], value)
            )

    walk([], tree)
    if not tree.get("memory"):
        head = {**head, "sections": []}
    return write_letter(head, paths)
