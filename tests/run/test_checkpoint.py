"""Checkpoints: which are kept, and what is said of those that cannot be used."""

import json
import os
import pickle
import resource
import shutil
import sys
from pathlib import Path

import pytest
import torch

from moiety.core import files, tensors
from moiety.core.checkpoints import list_checkpoints, prune_checkpoints
from moiety.core.errors import RunError, WorkerError
from moiety.core.ledger import End
from moiety.core.ledger import read_ledger as read_ledger
from moiety.core.state import State
from moiety.run import checkpoint, cli
from moiety.run.checkpoint import INDEX, TENSORS, Checkpoint
from moiety.run.group import read_spec
from moiety.run.ledger import append_entry
from moiety.run.loop import CHECKPOINTS, LEDGER


def kept_rounds(folder) -> list[int]:
    return [int(path.name) for path in list_checkpoints(folder / CHECKPOINTS)]


@pytest.fixture
def run(played, tmp_path):
    """Copy a run of ten rounds with checkpoints of rounds 8 and 10, and perhaps a best one."""
    return shutil.copytree(played, tmp_path / "run")


def newest(run):
    return list_checkpoints(run / CHECKPOINTS)[-1]


def refused(lab, run, *said: str) -> None:
    """Resuming ends with a message that says all this, and every file stays as it was."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(RunError) as caught:
        lab.resume(run)
    for words in said:
        assert words in str(caught.value)
    after = {path: path.read_bytes() for path in before}
    assert after == before


@pytest.mark.parametrize(("last", "scores", "wanted"), [
    (2, [0.1, 0.9, 0.3, 0.4, 0.5], [2, 4, 5]),
    (2, [0.1, 0.2, 0.3, 0.4, 0.5], [4, 5]),
    (1, [0.5, 0.5, 0.5, 0.5, 0.5], [1, 5]),  # the earliest of equals
    (3, [None, None, None, None, None], [3, 4, 5]),
    (1, [None, 0.2, 0.8, None, 0.1], [3, 5]),
])  # fmt: skip
def test_the_last_and_the_best_are_kept(tmp_path, last, scores, wanted):
    for place, score in enumerate(scores, 1):
        state = State({"w": torch.tensor([float(place)])}, round=place)
        checkpoint.write_checkpoint(tmp_path, Checkpoint(state, {}, 0, score, "mark"))
        prune_checkpoints(tmp_path, last, checkpoint.read_score)
    assert [int(path.name) for path in list_checkpoints(tmp_path)] == wanted
    for round_index in wanted:
        kept = checkpoint.read_checkpoint(tmp_path / f"{round_index:08d}", "mark")
        assert kept.state.params["w"].tolist() == [round_index]
        assert kept.score == scores[round_index - 1]


def test_a_run_keeps_the_last_and_the_best_by_validation(run):
    scores = {
        entry.round: sum(group.metrics["accuracy"]) / len(group.metrics["accuracy"])
        for entry in read_ledger(run / LEDGER).evaluations
        for group in [entry.groups["validation"]]
    }
    best = min(scores, key=lambda place: (-scores[place], place))
    assert kept_rounds(run) == sorted({best, 8, 10})


def test_what_is_read_is_what_was_written(tmp_path):
    params = {"b": torch.tensor([1.0, float("inf")]), "a.w": torch.arange(6).view(2, 3)}
    memory = {7: {"own": {"a.w": torch.tensor(2.0, dtype=torch.float64)}, "slots": {}}}
    server, optimizer_state = {"m": {"b": torch.zeros(0)}}, {"mean": {"b": torch.ones(2)}}
    state = State(params, server, optimizer_state, 12, 1)
    where = checkpoint.write_checkpoint(tmp_path, Checkpoint(state, memory, 345, 1 / 3, "mark"))
    kept = checkpoint.read_checkpoint(where, "mark")
    assert (kept.state.round, kept.state.stage) == (12, 1)
    assert (kept.ledger_bytes, kept.score, kept.fingerprint) == (345, 1 / 3, "mark")
    assert torch.equal(kept.memory[7]["own"]["a.w"], memory[7]["own"]["a.w"])
    assert kept.memory[7]["own"]["a.w"].dtype == torch.float64
    pairs = [
        (kept.state.server["m"], server["m"]),
        (kept.state.optimizer_state["mean"], optimizer_state["mean"]),
    ]
    pairs += [(kept.state.params, params)]
    for found, tree in pairs:
        assert set(found) == set(tree)
        assert all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in tree.items())


def test_a_round_that_has_no_checkpoint_is_told_before_anything_is_built(lab, run, monkeypatch):
    monkeypatch.setattr("moiety.run.group.build_run", None)
    with pytest.raises(RunError, match="has no checkpoint of round 77; it has "):
        lab.resume(run, 77)


@pytest.mark.parametrize("length", [0, 5, 40, -1])
def test_tensors_cut_short(lab, run, length):
    path = newest(run) / TENSORS
    path.write_bytes(path.read_bytes()[:length])
    refused(lab, run, "00000010", "cut short", "--at", "8")


@pytest.mark.parametrize("length", [0, 30, -5])
def test_index_cut_short(lab, run, length):
    path = newest(run) / INDEX
    path.write_bytes(path.read_bytes()[:length])
    refused(lab, run, "00000010", "cut short", "--at", "8")


def test_a_bit_flipped_in_the_tensors(lab, run):
    path = newest(run) / TENSORS
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    refused(lab, run, "00000010", "changed", "--at", "8")


@pytest.mark.parametrize(
    "change", [{"round": 9}, {"score": 0.999}, {"ledger_bytes": 1}, {"paths": []}, {"stage": 1}]
)
def test_the_index_changed(lab, run, change):
    path = newest(run) / INDEX
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(lab, run, "00000010", "changed", "--at", "8")


@pytest.mark.parametrize("version", [0, 2, 4, None, "3"])
def test_another_format_version(lab, run, version):
    path = newest(run) / INDEX
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": version}))
    refused(
        lab,
        run,
        "00000010",
        f"format {version!r}",
        f"reads {checkpoint.VERSION}",
        "version that wrote it",
    )


def test_an_index_that_is_no_record(lab, run):
    (newest(run) / INDEX).write_text("[1, 2]")
    refused(lab, run, "00000010", "format None")


def test_a_missing_tensors_file(lab, run):
    (newest(run) / TENSORS).unlink()
    refused(lab, run, "00000010", TENSORS, "--at")


def test_a_checkpoint_of_another_recipe(lab, tiny, run):
    other = lab.play(tiny(rounds=10, local={"lr": 0.2}), "ddome", "other")
    shutil.rmtree(newest(run))
    shutil.copytree(newest(other), run / CHECKPOINTS / "00000010")
    refused(lab, run, "00000010", "another recipe", "--at", "8")


@pytest.mark.parametrize("kind", ["raw", "zip"])
def test_a_pickle_for_tensors(lab, run, kind, tmp_path):
    path, trap = newest(run) / TENSORS, tmp_path / "sprung"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    if kind == "raw":
        path.write_bytes(pickle.dumps({"w": Trap()}))
    else:
        torch.save({"w": Trap()}, path)
    refused(lab, run, str(path), "pickle", "safetensors.torch.save_file")
    assert not trap.exists()


def test_a_header_that_begins_like_a_pickle_is_read():
    # The length of the header comes first, little-endian: 0x80 is also how pickles begin.
    data = b""
    for size in range(1, 400):
        data = tensors.tensors_to_bytes({"w": torch.ones(2)}, {"note": "x" * size})
        if data[:1] == b"\x80":
            break
    assert data[:1] == b"\x80"
    assert tensors.tensors_from_bytes(data, Path("none"))["w"].tolist() == [1.0, 1.0]


def test_tensors_of_a_file_come_by_name():
    names = [f"layer{place}.{kind}" for place in range(1, 9) for kind in "bw"]
    data = tensors.tensors_to_bytes({name: torch.ones(2) for name in reversed(names)})
    assert list(tensors.tensors_from_bytes(data, Path("none"))) == names


def test_another_checkpoint_helps_where_the_newest_is_damaged(lab, tiny, run, final):
    whole = final(run)
    (newest(run) / TENSORS).write_bytes(b"")
    lab.resume(run, at=8)
    assert final(run) == whole
    assert 10 in kept_rounds(run)


def test_a_damaged_old_checkpoint_does_not_stop_a_run(lab, tiny, final):
    record = tiny(rounds=10, checkpoint={"every": 2, "last": 4})
    whole, run = lab.play(record, name="whole"), lab.play(record)
    (run / CHECKPOINTS / "00000006" / INDEX).write_text("{")
    lab.resume(run, at=8)
    assert final(run) == final(whole)


def test_a_round_without_checkpoint(lab, run):
    have = kept_rounds(run)
    with pytest.raises(RunError) as caught:
        lab.resume(run, at=3)
    assert f"no checkpoint of round 3; it has {have}" in str(caught.value)


def test_a_ledger_shorter_than_its_checkpoint(lab, run):
    (run / LEDGER).write_bytes((run / LEDGER).read_bytes()[:500])
    (newest(run) / ".junk").touch()
    with pytest.raises(RunError, match=r"ledger\.jsonl is shorter than its checkpoint says"):
        lab.resume(run)


@pytest.mark.parametrize("at", [None, 8])
@pytest.mark.parametrize("place", [0, 1, 4])
def test_a_ledger_that_lost_a_line(lab, run, place, at):
    """It is still longer than the checkpoint of round 8 says; no checkpoint is given up for it."""
    lines = (run / LEDGER).read_bytes().splitlines(keepends=True)
    (run / LEDGER).write_bytes(b"".join([*lines[:place], *lines[place + 1 :], *lines]))
    before, have = (run / LEDGER).read_bytes(), kept_rounds(run)
    with pytest.raises(RunError, match=rf"line {place + 1}: .* or does not follow the one before"):
        lab.resume(run, at=at)
    assert (run / LEDGER).read_bytes() == before
    assert kept_rounds(run) == have


def test_a_missing_ledger(lab, run):
    (run / LEDGER).unlink()
    with pytest.raises(RunError, match=r"ledger\.jsonl is missing.*start it anew"):
        lab.resume(run)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not JSON"), ("[]", "format None"), ('{"version": 7}', "format 7"),
     ('{"version": 2}', "was changed after the run began"),
     (json.dumps(files.add_digest({"version": 2})), "not the configuration of a run"),
     (json.dumps(files.add_digest({"version": 2, "recipe": "yours", "method": "fedavg", "seed": 0,
                                   "fields": {"rouds": 1}})), "did you mean 'rounds'")],
)  # fmt: skip
def test_a_configuration_that_is_none(lab, run, text, said):
    (run / "config.json").write_text(text)
    refused(lab, run, "config.json", said)


def test_a_failed_worker_keeps_the_checkpoint_before(lab, tiny, lines, final, monkeypatch):
    """A loss that is no number ends the run; the run goes on once the cause is gone."""
    record = tiny(checkpoint={"every": 1, "last": 1})
    whole = lab.play(record, name="whole")
    run = lab.lay(record)

    def poisoned(built):
        def rows_of(worker):
            if len(list_checkpoints(run / CHECKPOINTS)) and kept_rounds(run)[-1] >= 3:
                raise WorkerError(worker, 3, 0, "the loss is nan")
            return built.open(worker)

        return type(built)(**{**vars(built), "open": rows_of})

    with pytest.raises(RunError, match=r"worker \d, round 4, step 0: the loss is nan"):
        lab.go(run, poisoned)
    assert kept_rounds(run)[-1] == 3
    end = lines(run)[-1]
    assert (end["kind"], end["round"], end["status"]) == ("end", 3, "failed")
    assert "the loss is nan" in end["reason"]
    lab.resume(run)
    assert final(run) == final(whole)
    assert lines(run) == lines(whole)


def limited(size: int):
    """Let files of this process grow no larger; a full disk refuses writes alike."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk(lab, tiny, final, lines, forked, tmp_path):
    """No file may grow beyond a limit; the ledger meets it first, some rounds into the run."""
    record = tiny(rounds=12, checkpoint={"every": 2, "last": 2})
    whole, run = lab.play(record, name="whole"), lab.lay(record)
    said = tmp_path / "said.txt"

    def play():
        limited((whole / LEDGER).stat().st_size // 2)
        try:
            lab.resume(run)
        except RunError as error:
            said.write_text(str(error))
            return 9
        return 0

    assert os.waitstatus_to_exitcode(os.waitpid(forked(play), 0)[1]) == 9
    assert "ledger.jsonl" in said.read_text()
    assert "File too large" in said.read_text()
    assert "raise the limit of a file's size" in said.read_text()
    assert kept_rounds(run)[-1] > 2
    mark = read_spec(run).fingerprint
    for path in list_checkpoints(run / CHECKPOINTS):
        assert checkpoint.read_checkpoint(path, mark).state.round == int(path.name)
    lab.resume(run)
    assert final(run) == final(whole)
    assert lines(run) == lines(whole)


def test_a_disk_too_full_for_a_checkpoint(tmp_path, forked):
    """The checkpoint before stays, nothing half-written does, and the message says what to do."""
    small = Checkpoint(State({"w": torch.zeros(4)}, round=1), {}, 0, None, "mark")
    large = Checkpoint(State({"w": torch.zeros(40_000)}, round=2), {}, 0, None, "mark")
    folder, said = tmp_path / "checkpoints", tmp_path / "said.txt"
    checkpoint.write_checkpoint(folder, small)

    def write():
        limited(50_000)
        try:
            checkpoint.write_checkpoint(folder, large)
        except RunError as error:
            said.write_text(str(error))
            return 9
        return 0

    assert os.waitstatus_to_exitcode(os.waitpid(forked(write), 0)[1]) == 9
    assert "00000002: File too large; raise the limit of a file's size" in said.read_text()
    assert [path.name for path in folder.iterdir()] == ["00000001"]
    assert (
        checkpoint.read_checkpoint(folder / "00000001", "mark").state.params["w"].tolist()
        == [0] * 4
    )


def test_a_ledger_on_a_device_that_is_full(tmp_path):
    path = tmp_path / LEDGER
    path.symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"ledger\.jsonl: No space left on device; free some space"):
        append_entry(path, End(3, 0.5, "finished"))


def test_a_full_disk_ends_the_command_with_1(forked, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def play():
        with (tmp_path / "printed.txt").open("w") as printed:
            sys.stderr = printed
            limited(4000)
            return cli.main(["run", "yours", *small, "--methods", "fedavg", "--out", "mine"])

    assert os.waitstatus_to_exitcode(os.waitpid(forked(play), 0)[1]) == 1
    said = (tmp_path / "printed.txt").read_text()
    assert "cannot write mine" in said
    assert "File too large; raise the limit of a file's size" in said
    assert "Traceback" not in said
