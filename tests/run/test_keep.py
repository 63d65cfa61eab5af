"""Which model is the final one, and when a run ends early: by validation rows alone."""

import math
import os
import shutil
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch

import moiety as library
from moiety.core.checkpoints import CheckpointPolicy, list_checkpoints
from moiety.core.errors import RunError
from moiety.core.keep import Judged, Keep, count_stalled, find_final_evaluation
from moiety.core.ledger import Evaluation, Round, read_ledger
from moiety.methods.demo import make_two_class_workers
from moiety.report import format_table
from moiety.run import checkpoint
from moiety.run.evaluate import average_metric
from moiety.run.group import read_spec
from moiety.run.loop import CHECKPOINTS, LEDGER

SHAKY = {
    "rounds": 11,
    "evaluate_every": 1,
    "local": {"lr": 1.5, "momentum": 0.0},
    "keep": {"final": "best"},
    "checkpoint": {"every": 100, "last": 1},
}
"""A learning rate at which models go up and down."""

LATE = {
    "participation": {"anchors": -1},
    "schedule": {"kind": "buffered", "size": 3, "speeds": {"values": [1.0, 2.5]}},
}


def read_scores(folder):
    ledger = read_ledger(folder / LEDGER)
    return {e.round: average_metric(e, "validation", "accuracy") for e in ledger.evaluations}


def read_end(folder):
    end = read_ledger(folder / LEDGER).end
    assert end is not None
    return end


def pick(scores):
    return min(scores, key=lambda at: (-scores[at], at))


@pytest.mark.parametrize("changes", [{}, LATE], ids=["sync", "buffered"])
def test_the_best_is_final_and_a_stop_changes_nothing(
    lab, tiny, final, lines, forked, gated, changes
):
    record = tiny(**SHAKY, **changes)
    whole = lab.play(record, name="whole")
    ledger, scores = read_ledger(whole / LEDGER), read_scores(whole)
    best = pick(scores)
    assert 0 < best < 10, "the case shows nothing"
    assert (read_end(whole).final, read_end(whole).round) == (best, 11)
    kept = list_checkpoints(whole / CHECKPOINTS)
    assert [int(path.name) for path in kept] == [best, 11]
    params = checkpoint.read_checkpoint(kept[0], read_spec(whole).fingerprint).state.params
    served = library.load_model(whole)
    assert all(torch.equal(served.params[name], params[name]) for name in params)
    assert served.note["round"] == best
    assert find_final_evaluation(ledger).round == best
    assert f"the final model is that of round {best}, the best" in " ".join(
        format_table([ledger]).split()
    )
    folder, gate = lab.lay(record, name="cut"), gated(best + 1)
    child = forked(lambda: lab.resume(folder))
    gate.reach(best + 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    gate.open(best + 1)
    lab.resume(folder)
    assert final(folder) == final(whole)
    assert lines(folder) == lines(whole)
    shutil.rmtree(kept[0])  # as a later best one makes it
    before = lines(whole)
    with pytest.raises(RunError, match=rf"up to round 11 round {best} was the best, whose check"):
        lab.resume(whole, 11)
    assert lines(whole) == before


@pytest.mark.parametrize("keep", [Keep("best", 2), Keep("last", 3, 0.02)])
def test_a_run_ends_where_nothing_improves(lab, tiny, final, lines, keep):
    """As a loop over the scores of a run that plays all rounds says."""
    record = tiny(**{**SHAKY, "rounds": 12})
    scores = read_scores(lab.play(record, name="all"))
    best, stalled, wanted = -math.inf, 0, 12
    for at, score in scores.items():
        best, stalled = (score, 0) if score > best + keep.improvement else (best, stalled + 1)
        if stalled == keep.patience:
            wanted = at
            break
    assert wanted < 12, "the case shows nothing"
    folder = lab.play(replace(record, keep=keep), name="early")
    end, seen = read_end(folder), {at: score for at, score in scores.items() if at <= wanted}
    assert end.round == read_ledger(folder / LEDGER).rounds[-1].round == wanted
    assert end.final == (pick(seen) if keep.final == "best" else wanted)
    assert end.status == "finished"
    assert end.reason == f"no better for {keep.patience} evaluations"
    before = lines(folder), final(folder)
    (folder / "final").rename(folder / "lost")  # it was to be written when the process was killed
    lab.resume(folder)
    assert (lines(folder), final(folder)) == before


def test_least_improvements_do_not_add_up():
    """Each is held against the last that counted."""
    slow = [Judged(at, at / 100) for at in range(7)]
    assert count_stalled(slow, 0.0) == 0
    assert count_stalled(slow, 0.025) == 0
    assert count_stalled(slow, 0.035) == 2
    assert count_stalled(slow, 1.0) == 6


@pytest.mark.parametrize(("words", "said"), [
    (("--keep.final", "best", "--population.validation", 0), "set population.validation above 0"),
    (("--keep.patience", 2, "--population.validation", 0), "test rows choose nothing"),
    (("--keep.final", "first"), "choose 'best' or 'last'"),
    (("--keep.improvement", 0.1), "read by keep.patience alone"),
    (("--keep.patience", -1), "keep.patience=-1"),
])  # fmt: skip
def test_choices_without_rows_or_sense_are_refused(moiety, small, words, said, tmp_path):
    told = moiety("run", "yours", *small, "--methods", "fedavg", *words, "--out", "x")
    assert told.code != 0
    assert said in told.err
    assert not (tmp_path / "x").exists()


def watched(folder, watch=(), rounds=5):
    task, workers = make_two_class_workers(torch.Generator().manual_seed(0))
    method = library.METHODS["fedavg"].make(task)
    workers = {worker: workers[worker] for worker in sorted(workers)}
    how = library.TrainConfig(
        rounds=rounds, evaluate_every=1, checkpoint=CheckpointPolicy(every=100)
    )
    return library.train(method, workers, folder, how, test={"seen": workers}, watch=watch)


class PrunedError(Exception):
    """An error of the caller's own."""


def act(at, kind, how, seen, entry):
    seen.append(entry)
    if isinstance(entry, kind) and entry.round == at:
        return how()
    return None


def fail():
    raise PrunedError("not worth it")


@pytest.mark.parametrize(("kind", "at"), [(Round, 2), (Evaluation, 3), (Evaluation, 0)])
def test_who_watches_sees_every_entry_and_may_end_the_run(tmp_path, kind, at):
    """By an answer or by an error; either way the folder goes on to the bit."""
    seen = []
    whole = watched(tmp_path / "whole", seen.append)
    assert [(entry.kind, getattr(entry, "round", 0)) for entry in seen] == [
        ("start", 0), ("evaluation", 0),
        *((kind, number) for number in range(1, 6) for kind in ("round", "evaluation")),
        ("end", 5),
    ]  # fmt: skip
    asked = watched(tmp_path / "asked", [partial(act, at, kind, lambda: True, [])])
    end = read_end(tmp_path / "asked")
    assert (end.round, end.status, end.final) == (at, "finished", at)
    assert end.reason == "ended by who watched it"
    served = library.load_model(tmp_path / "asked")
    assert all(torch.equal(served.params[name], asked.params[name]) for name in asked.params)
    after = []
    with pytest.raises(PrunedError, match="not worth it"):
        watched(tmp_path / "failed", [partial(act, at, kind, fail, []), after.append])
    end = read_end(tmp_path / "failed")
    assert (end.status, end.round) == ("interrupted", at)
    assert "raised PrunedError: not worth it" in end.reason
    assert after[-1] == end
    assert not (tmp_path / "failed" / "final").exists()
    for name in ("asked", "failed"):
        again = watched(tmp_path / name)
        assert all(torch.equal(again.params[key], whole.params[key]) for key in whole.params)
        assert [e.round for e in read_ledger(tmp_path / name / LEDGER).rounds] == [1, 2, 3, 4, 5]


def test_what_cannot_look_on_or_choose_is_refused(tmp_path):
    for odd in (3, [3]):
        with pytest.raises(ValueError, match="watch=3 cannot be called"):
            watched(tmp_path / "x", odd)
    task, workers = make_two_class_workers(torch.Generator().manual_seed(0))
    how = library.TrainConfig(rounds=1, keep=Keep("best"))
    with pytest.raises(ValueError, match=r"give some as test=\{.validation"):
        library.train(
            library.METHODS["fedavg"].make(task), dict(workers), tmp_path / "x", how,
            test={"seen": workers},
        )  # fmt: skip
    assert not (tmp_path / "x").exists()
