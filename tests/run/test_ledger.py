"""The ledger's numbers, counted by hand."""

import json
from dataclasses import replace

import pytest
import torch

from moiety.core.axes import Part, take_piece
from moiety.core.ledger import VERSION, Start, read_ledger
from moiety.engine.choose import choose_engine
from moiety.engine.ranks import Ranks
from moiety.recipes.build import build_run
from moiety.run.loop import LEDGER
from moiety.run.play import make_run_cohort, measure_rounds
from moiety.run.spec import resolve_run

FLOAT = 4


def works(folder):
    return [
        (entry, work) for entry in read_ledger(folder / LEDGER).rounds for work in entry.workers
    ]


def test_fedavg_moves_the_whole_model_both_ways(lab, tiny):
    run = lab.play(tiny())
    # An MLP 6-4-5: two layers of weights and biases.
    whole = FLOAT * (6 * 4 + 4 + 4 * 5 + 5)
    ledger = read_ledger(run / LEDGER)
    assert ledger.start.num_parameters == whole // FLOAT
    assert len(ledger.rounds) == 6
    for entry in ledger.rounds:
        assert entry.down_bytes == entry.up_bytes == 4 * whole
        assert [(w.down_bytes, w.up_bytes) for w in entry.workers] == [(whole, whole)] * 4
        assert all(work.part == {} and work.role == "" for work in entry.workers)
        assert entry.gate_load == []


@pytest.mark.parametrize("k", [1, 2, 3])
def test_ddome_moves_one_expert_to_an_anchor_and_k_to_others(lab, tiny, k):
    run = lab.play(tiny(ddome={"k": k}), "ddome")
    expert = FLOAT * (6 * 4 + 4 + 4 * 5 + 5)
    gate = FLOAT * (4 * 8 + 8 + 8 * 3 + 3)  # reads the embedding: 4 hidden units
    ids = 4 * k  # the chosen experts go up as numbers of four bytes
    for entry, work in works(run):
        held = work.part["expert"]
        assert held == sorted(set(held))
        assert set(held) <= {0, 1, 2}
        if work.worker < 2:
            assert (work.role, held) == ("anchor", [work.worker])
            assert (work.down_bytes, work.up_bytes) == (gate + expert, gate + expert)
        else:
            assert (work.role, len(held)) == ("", k)
            assert work.down_bytes == gate + k * expert
            assert work.up_bytes == gate + k * expert + ids
        assert work.model_version == entry.round - 1
    for entry in read_ledger(run / LEDGER).rounds:
        anchors = sum(work.role == "anchor" for work in entry.workers)
        others = len(entry.workers) - anchors
        assert (anchors, others) == (1, 3)
        total = others * (2 * gate + 2 * k * expert + ids) + anchors * (2 * gate + 2 * expert)
        assert entry.down_bytes + entry.up_bytes == total


def test_ddome_with_a_capacity_sends_all_scores(lab, tiny):
    run = lab.play(tiny(ddome={"k": 1, "capacity": 2}), "ddome")
    expert = FLOAT * (6 * 4 + 4 + 4 * 5 + 5)
    gate = FLOAT * (4 * 8 + 8 + 8 * 3 + 3)
    for entry, work in works(run):
        scores = 0 if work.role == "anchor" else 3 * FLOAT
        assert work.up_bytes == gate + expert + scores
        free = [w.part["expert"][0] for w in entry.workers if w.role != "anchor"]
        assert max(map(free.count, free)) <= 2


def test_fedper_leaves_the_head_at_home(lab, tiny):
    run = lab.play(tiny(), "fedper")
    body = FLOAT * (6 * 4 + 4)
    assert {(w.down_bytes, w.up_bytes) for _, w in works(run)} == {(body, body)}


def test_gate_load_is_the_share_of_workers_that_held_an_expert(lab, tiny):
    for entry in read_ledger(lab.play(tiny(), "ddome") / LEDGER).rounds:
        held = [work.part["expert"] for work in entry.workers]
        wanted = [sum(e in mine for mine in held) / len(held) for e in range(3)]
        assert entry.gate_load == wanted


def test_losses_steps_and_rows_are_those_of_the_workers(lab, tiny):
    record = tiny(local={"epochs": 2})
    built = build_run(record, "fedavg", 0)
    cohort = make_run_cohort(record, built)
    for entry in read_ledger(lab.play(record) / LEDGER).rounds:
        assert tuple(work.worker for work in entry.workers) == cohort(entry.round - 1, 0)
        for work in entry.workers:
            size = built.open(work.worker).size
            assert work.rows == size == sum(built.seen_counts[work.worker])
            assert work.steps == 2 * -(-size // 8)
        mean = sum(work.loss_mean for work in entry.workers) / len(entry.workers)
        assert entry.loss_mean == pytest.approx(mean, rel=1e-12)


def test_evaluations_come_when_asked_and_at_the_end(lab, tiny):
    ledger = read_ledger(lab.play(tiny(rounds=7, evaluate_every=3), "ddome") / LEDGER)
    assert [entry.round for entry in ledger.evaluations] == [0, 3, 6, 7]
    for entry in ledger.evaluations:
        assert {n: list(g.workers) for n, g in entry.groups.items()} == {
            "seen": [0, 1, 2, 3, 4, 5], "validation": [0, 1, 2, 3, 4, 5], "unseen": [6, 7],
        }  # fmt: skip
        served = sum(sum(entry.groups[name].rows) for name in ("seen", "unseen"))
        assert sum(map(sum, entry.routes)) == served
    assert ledger.end is not None
    assert (ledger.end.status, ledger.end.round) == ("finished", 7)


@pytest.mark.parametrize(("rounds", "found"), [(3, [0, 1, 2, 3]), (25, [0, *range(2, 25, 2), 25])])
def test_at_least_ten_evaluations_where_nothing_is_said(lab, tiny, rounds, found):
    ledger = read_ledger(lab.play(tiny(rounds=rounds, evaluate_every=0)) / LEDGER)
    assert [entry.round for entry in ledger.evaluations] == found


def test_evaluating_changes_nothing(lab, tiny, tensors):
    """Rounds that nobody evaluates, or each of them, have the same losses and end alike."""
    record = tiny(rounds=4, evaluate_every=1)
    run = lab.play(record, "ddome")
    spec, built = resolve_run("yours", record, "ddome", record.seed)
    alone = [entry.loss_mean for entry in measure_rounds(spec, built, Ranks(), 4)]
    assert [entry.loss_mean for entry in read_ledger(run / LEDGER).rounds] == alone
    seldom = lab.play(tiny(rounds=4, evaluate_every=4), "ddome", "seldom")
    mine, theirs = tensors(run), tensors(seldom)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert mine.keys() == theirs.keys()


def test_accuracy_is_that_of_the_final_model(lab, tiny, tensors):
    """Serve every worker by hand with the tensors that were written."""
    record = tiny()
    run = lab.play(record)
    built, params = build_run(record, "fedavg", 0), tensors(run)
    last = read_ledger(run / LEDGER).evaluations[-1]
    for name, group in built.groups.items():
        found = []
        for rows in group.values():
            batch = rows.take(torch.arange(rows.size))
            piece = take_piece(params, built.method.model.axes, Part())
            guess = built.method.model.logits(piece, batch, {}).argmax(-1)
            found.append((guess == batch["y"]).double().mean().item())
        assert last.groups[name].metrics["accuracy"] == pytest.approx(found)


def test_the_reference_plays_no_round(lab, tiny):
    ledger = read_ledger(lab.play(tiny(), "common") / LEDGER)
    assert ledger.end is not None
    assert (ledger.start.rounds, ledger.rounds, ledger.end.status) == (0, [], "finished")
    assert [entry.round for entry in ledger.evaluations] == [0]


def test_engines_write_the_same_parts_and_bytes(lab, tiny, lines):
    def plain(entry):
        keep = ("kind", "round", "stage", "down_bytes", "up_bytes", "gate_load")
        found = {name: entry[name] for name in keep if name in entry}
        work = (
            "worker",
            "role",
            "part",
            "down_bytes",
            "up_bytes",
            "steps",
            "rows",
            "model_version",
        )
        return found | {"workers": [{n: w[n] for n in work} for w in entry.get("workers", [])]}

    told = {}
    for engine in ("serial", "pool", "vectorized"):
        run = lab.play(tiny(engine=engine, rounds=3), "ddome", engine)
        told[engine] = lines(run)
    rounds = {
        engine: [plain(entry) for entry in found if entry["kind"] == "round"]
        for engine, found in told.items()
    }
    assert len(rounds["serial"]) == 3
    assert rounds["serial"] == rounds["pool"] == rounds["vectorized"]
    for entry in told["pool"]:
        entry.pop("sent_bytes", None)  # of the pool alone: its processes are sent what serial has
    for entry in told["serial"]:
        assert entry.pop("sent_bytes", 0) == 0
    assert told["serial"][1:] == told["pool"][1:]  # these two agree in every bit


@pytest.mark.parametrize("size", [4, 16])
def test_auto_is_resolved_and_written_down(lab, tiny, size):
    record = tiny(engine="auto", rounds=1, participation={"size": size}, population={"workers": 8})
    built = build_run(record, "fedavg", 0)
    wanted = choose_engine(built.method, "cpu", min(size, 8))
    run = lab.play(record)
    start = read_ledger(run / LEDGER).start
    assert wanted in ("serial", "vectorized", "pool")
    assert start.engine == start.config["engine"] == wanted
    assert json.loads((run / "config.json").read_text())["fields"]["engine"] == wanted
    assert start.command.endswith(f"--engine {wanted}")


def test_the_first_line_says_what_the_run_is(lab, tiny):
    record = tiny()
    run = lab.play(record, "ddome")
    start, built = read_ledger(run / LEDGER).start, build_run(record, "ddome", 0)
    assert isinstance(start, Start)
    assert (start.version, start.recipe, start.method, start.seed) == (VERSION, "yours", "ddome", 0)
    assert (start.num_seen, start.num_unseen) == (6, 2)
    assert [sum(row) for row in start.seen] == [built.open(w).size for w in range(6)]
    assert [sum(row) for row in start.unseen] == [g.size for g in built.groups["unseen"].values()]
    assert list(start.classes) == ["black", "blue", "green", "red", "white"]
    # The common expert, its mean and its deviation, in float32.
    assert start.constant_bytes == FLOAT * (6 * 4 + 4 + 4 * 5 + 5 + 4 + 4)
    assert {"python", "torch", "moiety", "revision", "system"} <= start.environment.keys()
    assert json.loads((run / "config.json").read_text())["fields"] == dict(start.config)


@pytest.mark.parametrize("method", ["fedavg", "ddome", "fedprox"])
def test_the_command_of_the_ledger_repeats_the_run(lab, tiny, final, moiety, method):
    import shlex

    record = tiny(
        rounds=3, seed=4, evaluate_every=2, participation={"anchors": -1}, population={"rows": 20},
        local={
            "optimizer_state": "reset" if method == "ddome" else "keep",
            "momentum": 0.5,
            "optimizer": "sgd",
        },
        mlp={"hidden": [5, 3]},
        ddome={"serve": "soft", "teach": False}, fedprox={"mu": 0.25},
    )  # fmt: skip
    run = lab.play(record, method)
    words = shlex.split(read_ledger(run / LEDGER).start.command)
    assert words[:3] == ["moiety", "run", "yours"]
    assert moiety(*words[1:], "--out", "again").code == 0
    assert final(lab.root / "again") == final(run)
    config = run / "config.json"
    assert moiety("run", "yours", "--config", config, "--out", "third").code == 0
    assert final(lab.root / "third") == final(run)
    changed = moiety("run", "yours", "--config", config, "--seed", 5, "--out", "fourth")
    assert changed.code == 0
    assert final(lab.root / "fourth") != final(run)


def test_seeds_differ_and_repeat(lab, tiny, final):
    one = [final(lab.play(tiny(seed=seed), name=str(seed))) for seed in (0, 1)]
    again = final(lab.play(replace(tiny(), seed=1), name="again"))
    assert one[0] != one[1] == again
